//! Names of classes: a file of one a line for an output, which the classification extension tells next to
//! their numbers.

use std::collections::BTreeMap;
use std::path::Path;

use slipway_domain::registry::new_artifact_path;
use slipway_inference::{Classes, Signature};

/// Longest file of labels.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The labels of a version, by output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(BTreeMap<String, Labelled>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Labelled {
    file: String,
    names: Vec<String>,
}

impl Labels {
    /// Reads the files that lie in `folder`, by output.
    ///
    /// # Errors
    /// Names the output whose file cannot be read.
    pub(super) fn read(folder: &Path, files: &BTreeMap<String, String>) -> Result<Self, String> {
        let labelled = files.iter().map(|(output, file)| {
            let complain = |reason: String| format!("the labels `{file}` of output '{output}': {reason}");
            if new_artifact_path(file).is_err() {
                return Err(complain("expected a file alongside it".to_owned()));
            }
            let path = folder.join(file);
            let described = std::fs::metadata(&path).map_err(|error| complain(error.to_string()))?;
            if !described.is_file() {
                return Err(complain("it is no file".to_owned()));
            }
            if described.len() > MAX_FILE_BYTES {
                return Err(complain(format!("longer than {MAX_FILE_BYTES} bytes")));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| complain(error.to_string()))?;
            let names = text.lines().map(|line| line.trim().to_owned()).collect();
            Ok((output.clone(), Labelled { file: file.clone(), names }))
        });
        labelled.collect::<Result<_, _>>().map(Self)
    }

    /// The classes that the model itself names, by output; they have no file.
    pub(super) fn of_model(classes: &Classes) -> Self {
        let labelled = classes
            .iter()
            .map(|(output, names)| (output.clone(), Labelled { file: String::new(), names: names.clone() }));
        Self(labelled.collect())
    }

    /// These, and those of `other` for outputs that these say nothing of.
    pub(super) fn or(mut self, other: Self) -> Self {
        for (output, labelled) in other.0 {
            self.0.entry(output).or_insert(labelled);
        }
        self
    }

    /// Takes the labels that another version has for `theirs` as those of `output`, unless there are some.
    pub(super) fn inherit(&mut self, output: &str, other: &Self, theirs: &str) {
        if let (false, Some(labelled)) = (self.0.contains_key(output), other.0.get(theirs)) {
            self.0.insert(output.to_owned(), labelled.clone());
        }
    }

    /// Refuses labels of an output that there is not.
    ///
    /// # Errors
    /// Names the output.
    pub(super) fn check(&self, signature: &Signature) -> Result<(), String> {
        let is_there = |output: &String| signature.outputs.iter().any(|spec| spec.name == *output);
        match self.0.keys().find(|output| !is_there(output)) {
            Some(output) => Err(format!("it has labels for '{output}', which is not one of its outputs")),
            None => Ok(()),
        }
    }

    /// Names of an output's classes, by their number; fewer than there are classes, or none.
    pub(crate) fn of(&self, output: &str) -> &[String] {
        self.0.get(output).map_or(&[], |labelled| &labelled.names)
    }

    /// The file of an output's labels; empty where there is none.
    pub(crate) fn file(&self, output: &str) -> &str {
        self.0.get(output).map_or("", |labelled| &labelled.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_class_and_a_file_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("animals.txt"), "cat\r\n\ndog\n").unwrap();
        let files = |file: &str| BTreeMap::from([("scores".to_owned(), file.to_owned())]);
        let labels = Labels::read(folder.path(), &files("animals.txt")).unwrap();
        assert_eq!(labels.of("scores"), ["cat", "", "dog"]);
        assert_eq!((labels.file("scores"), labels.file("others")), ("animals.txt", ""));
        assert!(labels.of("others").is_empty());
        for lost in ["plants.txt", "../animals.txt", "/etc/hostname", ""] {
            let refused = Labels::read(folder.path(), &files(lost)).unwrap_err();
            assert!(refused.contains("of output 'scores'"), "{refused}");
        }
        let nothing = Signature::default();
        assert!(labels.check(&nothing).unwrap_err().contains("'scores'"));
    }
}
