//! Where the bytes are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use slipway_artifact_store::{ArtifactStore, S3Config, path_within};
use tokio_util::io::ReaderStream;

/// Files of one import.
const MAX_FILES: usize = 10_000;
/// Objects of one page of a listing.
const PAGE: usize = 1_000;
/// Folder that file systems keep at their root, and that nobody but root may read.
const LOST_AND_FOUND: &str = "lost+found";
const DEFAULT_REGION: &str = "us-east-1";

/// The bytes of a file as they come.
pub(super) type Bytestream = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// A place with files.
#[derive(Debug)]
pub(super) enum Source {
    Folder(PathBuf),
    Bucket { store: ArtifactStore, prefix: String },
}

/// A file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    /// Path within the import.
    pub(super) path: String,
    pub(super) size_bytes: u64,
    /// Path of the file, or key of the object.
    at: String,
}

impl Source {
    /// Reads a setting; `variable` is the environment.
    pub(super) fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let Some(rest) = text.strip_prefix("s3://") else { return Ok(Self::Folder(PathBuf::from(text))) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        ensure!(!bucket.is_empty() && !prefix.is_empty(), "expected s3://BUCKET/PREFIX, got {text}");
        let named = |name: &str| variable(name).filter(|value| !value.is_empty());
        let required = |name: &str| named(name).with_context(|| format!("{name}: required for {text}"));
        let region = named("AWS_REGION").or_else(|| named("AWS_DEFAULT_REGION"));
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let endpoint = named("AWS_ENDPOINT_URL_S3").or_else(|| named("AWS_ENDPOINT_URL"));
        let config = S3Config {
            s3_endpoint: endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com")),
            s3_region: region,
            s3_bucket: bucket.to_owned(),
            s3_access_key: required("AWS_ACCESS_KEY_ID")?,
            s3_secret_key: required("AWS_SECRET_ACCESS_KEY")?.into(),
        };
        Ok(Self::Bucket { store: ArtifactStore::new(&config), prefix: prefix.to_owned() })
    }

    /// All files, in the order of their paths.
    pub(super) async fn list(&self) -> anyhow::Result<Vec<SourceFile>> {
        let mut files = match self {
            Self::Folder(root) => list_folder(root).await?,
            Self::Bucket { store, prefix } => list_bucket(store, prefix).await?,
        };
        ensure!(!files.is_empty(), "there are no files");
        files.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(files)
    }

    pub(super) async fn open(&self, file: &SourceFile) -> anyhow::Result<Bytestream> {
        match self {
            Self::Folder(_) => {
                let opened = tokio::fs::File::open(&file.at).await?;
                Ok(ReaderStream::new(opened).map_err(|error| error.to_string()).boxed())
            }
            Self::Bucket { store, .. } => {
                let download = store.get(&file.at).await?;
                Ok(Box::pin(download.into_stream().map_err(|error| error.to_string())))
            }
        }
    }
}

async fn list_folder(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let metadata = tokio::fs::symlink_metadata(root).await?;
    let real = tokio::fs::canonicalize(root).await?;
    ensure!(real == root, "it leads through a link to {}; links are not followed", real.display());
    if metadata.is_file() {
        let name = root.file_name().and_then(|name| name.to_str()).context("its name is not UTF-8")?;
        return Ok(vec![of_file(name.to_owned(), root, metadata.len())?]);
    }
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        let mut entries = tokio::fs::read_dir(root.join(&folder)).await?;
        while let Some(entry) = entries.next_entry().await? {
            let within = folder.join(entry.file_name());
            let kind = entry.file_type().await?;
            if kind.is_dir() {
                if within != Path::new(LOST_AND_FOUND) {
                    folders.push(within);
                }
                continue;
            }
            ensure!(!kind.is_symlink(), "`{}` is a link; links are not followed", within.display());
            ensure!(kind.is_file(), "`{}` is neither a file nor a folder", within.display());
            let path = within.to_str().with_context(|| format!("`{}` is not UTF-8", within.display()))?;
            files.push(of_file(path.to_owned(), &entry.path(), entry.metadata().await?.len())?);
            ensure!(files.len() + folders.len() <= MAX_FILES, "it has more than {MAX_FILES} files");
        }
    }
    Ok(files)
}

fn of_file(path: String, at: &Path, size_bytes: u64) -> anyhow::Result<SourceFile> {
    let at = at.to_str().with_context(|| format!("`{}` is not UTF-8", at.display()))?.to_owned();
    Ok(SourceFile { path, size_bytes, at })
}

async fn list_bucket(store: &ArtifactStore, prefix: &str) -> anyhow::Result<Vec<SourceFile>> {
    let (mut files, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = store.list_page(prefix, after.as_deref(), PAGE).await?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|object| object.key.clone());
        for object in page {
            let Some(path) = path_within(prefix, &object.key) else { continue };
            files.push(SourceFile { path, size_bytes: object.size_bytes, at: object.key });
            if files.len() > MAX_FILES {
                bail!("it has more than {MAX_FILES} objects");
            }
        }
        if is_last {
            return Ok(files);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[tokio::test]
    async fn a_folder_has_the_files_below_it_and_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        for (path, content) in [("1/model.onnx", "onnx"), ("config.pbtxt", ""), ("lost+found/x", "?")] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), content).unwrap();
        }
        let source = Source::parse(root.to_str().unwrap(), none).unwrap();
        let files = source.list().await.unwrap();
        let listed: Vec<(&str, u64)> =
            files.iter().map(|file| (file.path.as_str(), file.size_bytes)).collect();
        assert_eq!(listed, [("1/model.onnx", 4), ("config.pbtxt", 0)]);
        let opened: Vec<_> = source.open(&files[0]).await.unwrap().collect().await;
        assert_eq!(opened, [Ok(Bytes::from_static(b"onnx"))]);

        let single = Source::parse(root.join("1/model.onnx").to_str().unwrap(), none).unwrap();
        assert_eq!(single.list().await.unwrap()[0].path, "model.onnx");
        std::os::unix::fs::symlink("/etc/passwd", root.join("1/secret")).unwrap();
        let refused = source.list().await.unwrap_err().to_string();
        assert_eq!(refused, "`1/secret` is a link; links are not followed");
        std::os::unix::fs::symlink("1", root.join("current")).unwrap();
        let linked = Source::parse(root.join("current").to_str().unwrap(), none).unwrap();
        assert!(linked.list().await.unwrap_err().to_string().contains("leads through a link"));
        let absent = Source::parse(root.join("absent").to_str().unwrap(), none).unwrap();
        assert!(absent.list().await.unwrap_err().to_string().contains("No such file"));
    }

    #[test]
    fn a_bucket_needs_keys_and_a_prefix() {
        let refused = |text, names: &[&str]| {
            let variable = |name: &str| names.contains(&name).then(|| "x".to_owned());
            Source::parse(text, variable).unwrap_err().to_string()
        };
        assert!(refused("s3://models", &[]).contains("expected s3://BUCKET/PREFIX"));
        assert!(refused("s3://models/m", &[]).contains("AWS_ACCESS_KEY_ID: required"));
        assert!(refused("s3://models/m", &["AWS_ACCESS_KEY_ID"]).contains("AWS_SECRET_ACCESS_KEY: required"));
    }
}
