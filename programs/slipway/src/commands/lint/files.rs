//! Which files are checked.

use std::path::Path;

use anyhow::Context as _;
use slipway_manifest_lint::Documents;

use crate::commands::context::read_text;

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Folders within folders.
const MAX_DEPTH: usize = 32;

/// The files that arguments name: those of folders in the order of their names. Files of folders may have
/// other documents than objects of Kubernetes.
pub(super) fn listed(arguments: &[String]) -> anyhow::Result<Vec<(String, Documents)>> {
    let mut files = Vec::new();
    for argument in arguments {
        if argument != "-" && Path::new(argument).is_dir() {
            of_folder(Path::new(argument), 0, &mut files)?;
        } else {
            files.push((argument.clone(), Documents::Objects));
        }
    }
    Ok(files)
}

fn of_folder(folder: &Path, depth: usize, files: &mut Vec<(String, Documents)>) -> anyhow::Result<()> {
    let read = || format!("cannot read {}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(read)? {
        paths.push(entry.with_context(read)?.path());
    }
    paths.sort();
    for path in paths {
        // A link to a folder may lead back.
        if path.is_dir() && !path.is_symlink() && depth < MAX_DEPTH {
            of_folder(&path, depth + 1, files)?;
        } else if path.is_file()
            && path.extension().is_some_and(|end| ENDINGS.iter().any(|known| end == *known))
        {
            files.push((path.display().to_string(), Documents::Anything));
        }
    }
    Ok(())
}

/// The text of a file. The one of standard input is called `-`.
pub(super) fn read(file: &str) -> anyhow::Result<String> {
    read_text(file)
}
