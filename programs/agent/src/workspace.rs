//! The folders of an attempt: what the command sees, and next to it what the agent needs.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use slipway_domain::training::JobSpec;
use tokio::fs;

const OWNER_ALL: u32 = 0o700;

/// Folders of one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The command's current directory.
    pub(crate) folder: PathBuf,
    /// The agent's own files, out of the command's way.
    own: PathBuf,
    /// Where the command leaves checkpoints.
    pub(crate) checkpoints: PathBuf,
}

impl Workspace {
    /// Makes the folders afresh and writes the job's files.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) async fn create(folder: &Path, spec: &JobSpec) -> anyhow::Result<Self> {
        let mut own = folder.as_os_str().to_owned();
        own.push(".agent");
        let own = PathBuf::from(own);
        for path in [folder, &own] {
            empty(path).await.with_context(|| format!("cannot create the folder {}", path.display()))?;
        }
        let folder = fs::canonicalize(folder).await.context("cannot resolve the work folder")?;
        for (path, text) in &spec.files {
            // The launcher has validated that the path stays inside; nothing else is in the folder yet that
            // could lead out.
            let target = folder.join(path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)
                    .await
                    .with_context(|| format!("cannot create the folder of `{path}`"))?;
            }
            fs::write(&target, text).await.with_context(|| format!("cannot write the file `{path}`"))?;
        }
        let checkpoint = spec.checkpoint.clone().unwrap_or_default();
        let checkpoints = folder.join(checkpoint.dir);
        if spec.checkpoint.is_some() {
            fs::create_dir_all(&checkpoints).await.context("cannot create the checkpoint folder")?;
        }
        Ok(Self { folder, own, checkpoints })
    }

    /// File of the log that is on its way.
    pub(crate) fn spool(&self) -> PathBuf {
        self.own.join("log")
    }

    /// File that says why the command did not start; absent where it did.
    pub(crate) fn start_error(&self) -> PathBuf {
        self.own.join("start-error")
    }

    /// Removes the agent's files, and with `everything` the command's folder.
    pub(crate) async fn remove(&self, everything: bool) {
        let folders = if everything { vec![&self.own, &self.folder] } else { vec![&self.own] };
        for folder in folders {
            if let Err(error) = remove_tree(folder).await {
                tracing::warn!(%error, folder = %folder.display(), "folder of the attempt not removed");
            }
        }
        // The job's folder goes with its last attempt; it is not empty before.
        if let Some(job) = self.folder.parent().filter(|_| everything) {
            let _ = fs::remove_dir(job).await;
        }
    }
}

/// An empty folder that is its owner's alone.
async fn empty(folder: &Path) -> io::Result<()> {
    remove_tree(folder).await?;
    fs::DirBuilder::new().recursive(true).mode(OWNER_ALL).create(folder).await
}

/// Removes a file, a link or a folder with all that is in it, folders without write permission included. What
/// is not there is no error.
pub(crate) async fn remove_tree(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    let removed = tokio::task::spawn_blocking(move || match remove(&path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(&path)?;
            remove(&path)
        }
        outcome => outcome,
    });
    match removed.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(path)?.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    }
}

/// Gives the owner all rights on the folders of a tree. Links are not followed.
fn make_writable(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(());
    }
    let mode = metadata.permissions().mode() | OWNER_ALL;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    std::fs::read_dir(path)?.try_for_each(|entry| make_writable(&entry?.path()))
}
