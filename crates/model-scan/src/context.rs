//! What a scan of one file knows of the model that the file belongs to.

use std::collections::BTreeSet;

/// The model that a file belongs to. The default knows of no other file, so a file that needs another one is
/// not safe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Paths of the model's files, relative to its folder, with `/` between the parts.
    pub files: BTreeSet<String>,
    /// Those of them that hold weights of an ONNX model whose references were checked. Their bytes are
    /// numbers.
    pub weights: BTreeSet<String>,
}

impl Context {
    /// Whether the model has this file, or files in this folder.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains(path)
            || self
                .files
                .range(format!("{path}/")..)
                .next()
                .is_some_and(|next| next.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }
}
