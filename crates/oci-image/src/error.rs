//! What can go wrong with an image.

use std::path::{Path, PathBuf};

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a folder cannot be used.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried, e.g. `cannot find`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The image cannot be written.
    #[error("cannot make the image {image}: {source}")]
    Image {
        /// Its name.
        image: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.to_path_buf(), source }
    }
}
