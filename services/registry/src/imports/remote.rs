//! What is at an address outside of the registry: its files, and a fingerprint that changes with them.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::header;
use reqwest::{Response, Url};
use sha2::{Digest as _, Sha256};
use slipway_artifact_store::{ArtifactStore, Listed};
use slipway_domain::registry::new_artifact_path;

/// Files of one import.
const MAX_FILES: usize = 10_000;
/// Objects of one page of a listing.
const PAGE: usize = 1_000;
const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// Time without a byte after which a download is given up.
const READ_TIMEOUT_MS: u64 = 60_000;

/// The bytes of a file as they come.
pub(super) type Bytestream = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// Reads addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    http: reqwest::Client,
    artifacts: ArtifactStore,
}

/// What is at an address now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// Another one means other bytes.
    pub(super) fingerprint: String,
    pub(super) files: Vec<RemoteFile>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Path within the version.
    pub(super) path: String,
    /// Length, where it is known.
    pub(super) size_bytes: Option<u64>,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Object { bucket: String, key: String },
    Web(Url),
}

impl Content {
    /// Whether it changes as a whole: of several files, some may be new and others not yet.
    pub(super) const fn is_atomic(&self) -> bool {
        self.files.len() == 1
    }

    /// Length of all files, as far as it is known.
    pub(super) fn size_bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.size_bytes).sum()
    }
}

impl Remote {
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new(artifacts: ArtifactStore) -> anyhow::Result<Self> {
        slipway_runtime::install_tls_provider();
        let http = reqwest::Client::builder()
            .user_agent(concat!("Slipway/", env!("CARGO_PKG_VERSION")))
            // Another address might not be an allowed one.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .read_timeout(Duration::from_millis(READ_TIMEOUT_MS))
            .build()?;
        Ok(Self { http, artifacts })
    }

    /// Looks at an address, without reading what is there.
    pub(super) async fn look(&self, uri: &str) -> anyhow::Result<Content> {
        match Address::parse(uri)? {
            Address::Bucket { bucket, prefix } => self.look_in(&bucket, &prefix).await,
            Address::Web(url) => self.look_at(url).await,
        }
    }

    async fn look_in(&self, bucket: &str, prefix: &str) -> anyhow::Result<Content> {
        let store = self.artifacts.in_bucket(bucket);
        let mut listed: Vec<Listed> = Vec::new();
        loop {
            let after = listed.last().map(|object| object.key.clone());
            let page = store.list_page(prefix, after.as_deref(), PAGE).await?;
            let is_last = page.len() < PAGE;
            listed.extend(page);
            ensure!(listed.len() <= MAX_FILES, "s3://{bucket}/{prefix} has more than {MAX_FILES} objects");
            if is_last {
                break;
            }
        }
        let (mut files, mut hasher) = (Vec::new(), Sha256::new());
        for object in listed {
            let Some(path) = path_within(prefix, &object.key) else { continue };
            new_artifact_path(&path).map_err(|invalid| anyhow!("object `{}`: {invalid}", object.key))?;
            let etag = object.etag.as_deref().unwrap_or_default();
            hasher.update(format!("{path}\0{etag}\0{}\n", object.size_bytes));
            let place = Place::Object { bucket: bucket.to_owned(), key: object.key };
            files.push(RemoteFile { path, size_bytes: Some(object.size_bytes), place });
        }
        ensure!(!files.is_empty(), "there is no object at s3://{bucket}/{prefix}");
        Ok(Content { fingerprint: hex::encode(hasher.finalize()), files: of_newest(files) })
    }

    async fn look_at(&self, url: Url) -> anyhow::Result<Content> {
        let mut response = self.http.head(url.clone()).send().await?;
        if matches!(response.status().as_u16(), 403 | 405 | 501) {
            // An address that was signed for GET is refused to HEAD.
            response = self.http.get(url.clone()).send().await?;
        }
        let response = found(response)?;
        let name = url.path_segments().and_then(Iterator::last).unwrap_or_default();
        let path = if name.is_empty() { "model.onnx".to_owned() } else { name.to_owned() };
        new_artifact_path(&path).map_err(|invalid| anyhow!("{url}: {invalid}"))?;
        let size_bytes = response.headers().get(header::CONTENT_LENGTH);
        let size_bytes = size_bytes.and_then(|length| length.to_str().ok()?.parse().ok());
        let files = vec![RemoteFile { path, size_bytes, place: Place::Web(url) }];
        Ok(Content { fingerprint: fingerprint_of(&response), files })
    }

    /// Opens a file that was looked at.
    pub(super) async fn open(&self, file: &RemoteFile) -> anyhow::Result<Bytestream> {
        match &file.place {
            Place::Object { bucket, key } => {
                let download = self.artifacts.in_bucket(bucket).get(key).await?;
                Ok(Box::pin(download.into_stream().map_err(|error| error.to_string())))
            }
            Place::Web(url) => {
                let response = found(self.http.get(url.clone()).send().await?)?;
                Ok(response.bytes_stream().map_err(|error| error.to_string()).boxed())
            }
        }
    }
}

/// Where an address leads.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Bucket { bucket: String, prefix: String },
    Web(Url),
}

impl Address {
    fn parse(uri: &str) -> anyhow::Result<Self> {
        if let Some(rest) = uri.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            ensure!(!bucket.is_empty() && !prefix.is_empty(), "expected s3://BUCKET/PREFIX, got {uri}");
            return Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
        }
        let url = Url::parse(uri).with_context(|| format!("expected s3://… or https://…, got {uri}"))?;
        ensure!(matches!(url.scheme(), "https" | "http"), "expected s3://… or https://…, got {uri}");
        Ok(Self::Web(url))
    }
}

/// Checks the form of an address.
pub(super) fn check(uri: &str) -> anyhow::Result<()> {
    Address::parse(uri).map(drop)
}

/// The files of the newest version in the layout of Triton and KServe, `<version>/model.onnx` or
/// `<model>/<version>/model.onnx`, by their paths within it; all of them in any other layout.
fn of_newest(files: Vec<RemoteFile>) -> Vec<RemoteFile> {
    let is_plain = |file: &RemoteFile| !file.path.contains('/') && file.path.ends_with(".onnx");
    if files.iter().any(|file| is_plain(file) || file.path == "MLmodel") {
        return files;
    }
    let folders = files.iter().filter_map(|file| {
        let (folder, _) = file.path.rsplit_once('/').filter(|_| file.path.ends_with(".onnx"))?;
        let number: u64 = folder.rsplit('/').next()?.parse().ok()?;
        Some((number, folder.to_owned()))
    });
    let Some((_, newest)) = folders.max() else { return files };
    let prefix = format!("{newest}/");
    let within = |file: RemoteFile| {
        let path = file.path.strip_prefix(&prefix)?.to_owned();
        Some(RemoteFile { path, ..file })
    };
    files.into_iter().filter_map(within).collect()
}

/// Path of an object within an import of this prefix; `None` for one that only begins alike, and for the
/// empty objects by which some clients mark folders.
fn path_within(prefix: &str, key: &str) -> Option<String> {
    if key == prefix {
        return key.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
    }
    let rest = key.strip_prefix(prefix)?;
    let rest = if prefix.ends_with('/') { rest } else { rest.strip_prefix('/')? };
    (!rest.is_empty() && !rest.ends_with('/')).then(|| rest.to_owned())
}

fn found(response: Response) -> anyhow::Result<Response> {
    let (status, url) = (response.status(), response.url().clone());
    if status.is_redirection() {
        let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("?");
        bail!("{url} leads to {to}, which is not followed; import that address");
    }
    ensure!(status.is_success(), "{url} answers with HTTP status {status}");
    Ok(response)
}

/// What a server says about the content: its entity tag, or else its time and length.
fn fingerprint_of(response: &Response) -> String {
    let said = |name| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let etag = said(header::ETAG);
    if !etag.is_empty() {
        return etag;
    }
    format!("{} {}", said(header::LAST_MODIFIED), said(header::CONTENT_LENGTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_a_folder_have_paths_within_it() {
        for (prefix, key, path) in [
            ("m/fraud", "m/fraud/1/model.onnx", Some("1/model.onnx")),
            ("m/fraud/", "m/fraud/model.onnx", Some("model.onnx")),
            ("m/fraud", "m/fraud-2/model.onnx", None),
            ("m/fraud.onnx", "m/fraud.onnx", Some("fraud.onnx")),
            ("m/fraud/", "m/fraud/", None),
            ("m/fraud", "m/fraud/data/", None),
        ] {
            assert_eq!(path_within(prefix, key).as_deref(), path, "{prefix} {key}");
        }
    }

    #[test]
    fn of_the_layout_of_triton_the_newest_version_is_taken() {
        let newest = |paths: &[&str]| -> Vec<String> {
            let file = |path: &&str| RemoteFile {
                path: (*path).to_owned(),
                size_bytes: None,
                place: Place::Object { bucket: String::new(), key: String::new() },
            };
            of_newest(paths.iter().map(file).collect()).into_iter().map(|file| file.path).collect()
        };
        assert_eq!(
            newest(&["1/model.onnx", "10/model.onnx", "10/model.data", "config.pbtxt"]),
            ["model.onnx", "model.data"]
        );
        assert_eq!(newest(&["fraud/2/model.onnx", "fraud/config.pbtxt"]), ["model.onnx"]);
        for paths in [&["model.onnx", "1/other.onnx"][..], &["MLmodel", "data/model.onnx"], &["a/b.txt"]] {
            assert_eq!(newest(paths), paths);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert!(check("s3://models/fraud").is_ok() && check("https://example.com/m.onnx").is_ok());
        for uri in ["s3://models", "s3:///x", "gs://a/b", "pvc://a/b", "/etc/passwd", ""] {
            assert!(check(uri).is_err(), "{uri}");
        }
    }
}
