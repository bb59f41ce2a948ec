//! Where a backup is kept: a folder, or a prefix of an S3 bucket.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use slipway_artifact_store::{ArtifactStore, Error};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Path within the backup.
    pub path: String,
    /// Length.
    pub size_bytes: u64,
    /// SHA-256 of its bytes, in lower-case hex.
    pub sha256: String,
}

/// Where a backup is kept.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A prefix of a bucket; it ends with a slash or is empty.
    Bucket {
        /// The bucket.
        store: ArtifactStore,
        /// What all keys begin with.
        prefix: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(formatter, "{}", path.display()),
            Self::Bucket { store, prefix } => write!(formatter, "s3://{}/{prefix}", store.bucket()),
        }
    }
}

impl Place {
    /// Creates the folder, or the bucket.
    pub(crate) async fn prepare(&self) -> anyhow::Result<()> {
        match self {
            Self::Folder(path) => {
                let mut builder = tokio::fs::DirBuilder::new();
                // Rows of Postgres and artifacts are as confidential as the servers that they come from.
                builder.recursive(true).mode(0o700);
                builder.create(path).await.with_context(|| format!("cannot create {}", path.display()))
            }
            Self::Bucket { store, .. } => {
                store.ensure_bucket().await.with_context(|| format!("bucket {}", store.bucket()))
            }
        }
    }

    /// Whether a folder has nothing in it. A prefix counts as empty: its keys are not listed.
    pub(crate) async fn is_empty_folder(&self) -> bool {
        let Self::Folder(path) = self else { return true };
        match tokio::fs::read_dir(path).await {
            Ok(mut entries) => entries.next_entry().await.is_ok_and(|entry| entry.is_none()),
            Err(_) => true,
        }
    }

    /// The file that lists what an interrupted backup has copied.
    pub(crate) fn journal(&self) -> Option<PathBuf> {
        match self {
            Self::Folder(path) => Some(path.join("objects.partial.jsonl")),
            Self::Bucket { .. } => None,
        }
    }

    /// Stores a stream under a path within the backup, whole or not at all.
    pub(crate) async fn write<S>(&self, path: &str, stream: S) -> anyhow::Result<FileRef>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send,
    {
        match self {
            Self::Folder(folder) => {
                let target = folder.join(path);
                let written = write_file(&target, stream).await;
                let (size_bytes, sha256) = written.with_context(|| format!("{}", target.display()))?;
                Ok(FileRef { path: path.to_owned(), size_bytes, sha256 })
            }
            Self::Bucket { store, prefix } => {
                let key = format!("{prefix}{path}");
                let stored = store.put_stream(&key, Box::pin(stream), None).await;
                let stored = stored.with_context(|| format!("s3://{}/{key}", store.bucket()))?;
                Ok(FileRef { path: path.to_owned(), size_bytes: stored.size_bytes, sha256: stored.sha256 })
            }
        }
    }

    pub(crate) async fn write_bytes(&self, path: &str, bytes: Bytes) -> anyhow::Result<FileRef> {
        self.write(path, futures::stream::iter([Ok(bytes)])).await
    }

    /// Opens a file; `None` if there is none.
    pub(crate) async fn open(
        &self,
        path: &str,
    ) -> anyhow::Result<Option<BoxStream<'static, Result<Bytes, std::io::Error>>>> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(path);
                match tokio::fs::File::open(&path).await {
                    Ok(file) => Ok(Some(ReaderStream::with_capacity(file, READ_BUFFER_BYTES).boxed())),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
                }
            }
            Self::Bucket { store, prefix } => {
                let key = format!("{prefix}{path}");
                match store.get(&key).await {
                    Ok(download) => Ok(Some(download.into_stream().boxed())),
                    Err(Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error).with_context(|| format!("s3://{}/{key}", store.bucket())),
                }
            }
        }
    }

    /// A small file.
    pub(crate) async fn read_bytes(&self, path: &str, limit_bytes: u64) -> anyhow::Result<Option<Bytes>> {
        let Some(mut stream) = self.open(path).await? else { return Ok(None) };
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.try_next().await.with_context(|| format!("{self}: {path}"))? {
            bytes.extend_from_slice(&chunk);
            ensure!(bytes.len() as u64 <= limit_bytes, "{self}: {path} has more than {limit_bytes} bytes");
        }
        Ok(Some(bytes.freeze()))
    }

    /// Waits until everything written so far is on the disk.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let Self::Folder(path) = self else { return Ok(()) };
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            let folder = std::fs::File::open(&path)?;
            nix::unistd::syncfs(&folder).map_err(std::io::Error::from)
        })
        .await?
        .context("cannot write the backup to the disk")
    }
}

/// Length and SHA-256 of what was written.
async fn write_file<S>(target: &Path, stream: S) -> std::io::Result<(u64, String)>
where
    S: Stream<Item = Result<Bytes, std::io::Error>> + Send,
{
    let part = target.with_extension("part");
    if let Some(folder) = target.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let mut file =
        tokio::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part).await?;
    let (mut hasher, mut size_bytes) = (Sha256::new(), 0);
    futures::pin_mut!(stream);
    while let Some(chunk) = stream.try_next().await? {
        hasher.update(&chunk);
        size_bytes += chunk.len() as u64;
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    tokio::fs::rename(&part, target).await?;
    Ok((size_bytes, hex::encode(hasher.finalize())))
}
