//! A model's file, read before ONNX Runtime gets it.

use std::path::{Path, PathBuf};

use slipway_onnx_graph::{Fault, Model, read_file, zip_map};

use crate::{Classes, Error};

/// A file of which the bytes say nothing that would make a runtime read or write beyond its memory, and its
/// graph without weights.
pub struct Checked {
    path: PathBuf,
    model: Model,
}

impl Checked {
    /// Reads a model and looks at the files of weights that it names. It blocks.
    ///
    /// # Errors
    /// [`Error::Load`]: it is no ONNX model, or names the tensor, node or file that makes it unsafe to load.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let model = read_file(path).map_err(|fault| match fault {
            Fault::Malformed(why) => Error::Load(format!("its file is no ONNX model: {why}")),
            Fault::Read(error) => Error::Load(format!("its file cannot be read: {error}")),
        })?;
        let folder = path.parent().unwrap_or(path);
        match model.unsafe_to_load().or_else(|| model.weights_in(|weights| file_bytes(folder, weights))) {
            Some(reason) => Err(Error::Load(reason)),
            None => Ok(Self { path: path.to_owned(), model }),
        }
    }

    /// The model's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same model in another folder, to which all of its files were copied.
    #[must_use]
    pub fn copied_to(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    pub(crate) const fn model(&self) -> &Model {
        &self.model
    }

    /// Classes that ZipMap nodes name, by output.
    pub(crate) fn classes(&self) -> Classes {
        let outputs = zip_map::outputs(&self.model.graph);
        outputs.into_values().map(|output| (output.name, output.classes)).collect()
    }

    /// The model's bytes without ZipMap, where it has some whose maps are outputs.
    pub(crate) fn changed(&self) -> Result<Option<Vec<u8>>, Error> {
        if zip_map::outputs(&self.model.graph).is_empty() {
            return Ok(None);
        }
        let refused = |reason: String| Error::Load(format!("its ZipMap cannot be replaced: {reason}"));
        let bytes = std::fs::read(&self.path).map_err(|error| refused(error.to_string()))?;
        zip_map::without(&bytes, &self.model).map_err(|fault| refused(fault.to_string()))
    }
}

/// Size of a file that lies in a folder, also behind links that do not leave it.
fn file_bytes(folder: &Path, path: &str) -> Option<u64> {
    let folder = std::fs::canonicalize(folder).ok()?;
    let file = std::fs::canonicalize(folder.join(path)).ok()?;
    let described = std::fs::metadata(&file).ok()?;
    (file.starts_with(&folder) && described.is_file()).then_some(described.len())
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Checked").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::file_bytes;

    #[test]
    fn weights_behind_a_link_out_of_the_folder_are_not_there() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("data")).unwrap();
        std::fs::write(at("data/weights"), "12345").unwrap();
        let link = |to: &std::path::Path, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
        link(&at("data/weights"), "inside");
        link(&outside.path().join("secret"), "file");
        link(outside.path(), "folder");
        assert_eq!(file_bytes(folder.path(), "data/weights"), Some(5));
        assert_eq!(file_bytes(folder.path(), "inside"), Some(5));
        for path in ["file", "folder/secret", "data", "missing", "."] {
            assert_eq!(file_bytes(folder.path(), path), None, "{path}");
        }
    }
}
