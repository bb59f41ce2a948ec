//! What is at an address outside of the registry: its files, and a fingerprint that changes with them.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use http::header;
use reqwest::{Response, Url};
use sha2::{Digest as _, Sha256};
use slipway_artifact_store::{ArtifactStore, Listed, path_within};
use slipway_domain::registry::new_artifact_path;

use super::config::ImportConfig;
use super::oci::{Archive, Blob, Oci, Pulled, Reference, SCHEME};
use super::stream::Bytestream;

/// Files of one import.
pub(super) const MAX_FILES: usize = 10_000;
/// Objects of one page of a listing.
const PAGE: usize = 1_000;
const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// Time without a byte after which a download is given up.
const READ_TIMEOUT_MS: u64 = 60_000;

/// Reads addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    http: reqwest::Client,
    artifacts: ArtifactStore,
    oci: Oci,
    /// Of one import.
    pub(super) max_bytes: u64,
}

/// What is at an address now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// Another one means other bytes.
    pub(super) fingerprint: String,
    pub(super) files: Vec<RemoteFile>,
    /// Archives of further files, each of which changes what those before it have.
    pub(super) archives: Vec<RemoteArchive>,
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
    Layer { reference: Reference, blob: Blob },
}

/// A tar archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteArchive {
    reference: Reference,
    pub(super) archive: Archive,
}

impl Content {
    /// Whether it changes as a whole: of several files, some may be new and others not yet.
    pub(super) fn is_atomic(&self) -> bool {
        let is_layer = |file: &RemoteFile| matches!(file.place, Place::Layer { .. });
        self.files.len() == 1 || self.files.iter().all(is_layer)
    }

    /// Bytes that are read, as far as it is known.
    pub(super) fn size_bytes(&self) -> u64 {
        let files = self.files.iter().filter_map(|file| file.size_bytes);
        let archives = self.archives.iter().map(|archive| archive.archive.blob.size_bytes);
        files.chain(archives).fold(0, u64::saturating_add)
    }
}

impl Remote {
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new(artifacts: ArtifactStore, config: &ImportConfig) -> anyhow::Result<Self> {
        slipway_runtime::install_tls_provider();
        let http = reqwest::Client::builder()
            .user_agent(concat!("Slipway/", env!("CARGO_PKG_VERSION")))
            // Another address might not be an allowed one.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .read_timeout(Duration::from_millis(READ_TIMEOUT_MS))
            .build()?;
        let oci = Oci::new(http.clone(), config.import_registry_auth_file.clone());
        Ok(Self { http, artifacts, oci, max_bytes: config.import_max_bytes })
    }

    /// Looks at an address, without reading what is there; `None` where it is known to be what the
    /// fingerprint `known` is of.
    pub(super) async fn look(&self, uri: &str, known: Option<&str>) -> anyhow::Result<Option<Content>> {
        let content = match Address::parse(uri)? {
            Address::Bucket { bucket, prefix } => Some(self.look_in(&bucket, &prefix).await?),
            Address::Web(url) => Some(self.look_at(url).await?),
            Address::Oci(reference) => {
                let pulled = self.oci.look(&reference, known).await?;
                pulled.map(|pulled| content_of(&reference, pulled))
            }
        };
        let size_bytes = content.as_ref().map_or(0, Content::size_bytes);
        ensure!(
            size_bytes <= self.max_bytes,
            "{uri} has {size_bytes} bytes; at most {} are imported (SLIPWAY_IMPORT_MAX_BYTES)",
            self.max_bytes
        );
        Ok(content)
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
        let fingerprint = hex::encode(hasher.finalize());
        Ok(Content { fingerprint, files: of_newest(files), archives: Vec::new() })
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
        Ok(Content { fingerprint: fingerprint_of(&response), files, archives: Vec::new() })
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
            Place::Layer { reference, blob } => self.oci.open(reference, blob).await,
        }
    }

    /// Opens an archive that was looked at, compressed as it is.
    pub(super) async fn open_archive(&self, archive: &RemoteArchive) -> anyhow::Result<Bytestream> {
        self.oci.open(&archive.reference, &archive.archive.blob).await
    }
}

fn content_of(reference: &Reference, pulled: Pulled) -> Content {
    let file = |(path, blob): (String, Blob)| RemoteFile {
        path,
        size_bytes: Some(blob.size_bytes),
        place: Place::Layer { reference: reference.clone(), blob },
    };
    let archive = |archive| RemoteArchive { reference: reference.clone(), archive };
    Content {
        fingerprint: pulled.digest,
        files: pulled.files.into_iter().map(file).collect(),
        archives: pulled.archives.into_iter().map(archive).collect(),
    }
}

/// Where an address leads.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Bucket { bucket: String, prefix: String },
    Web(Url),
    Oci(Reference),
}

const EXPECTED: &str = "expected s3://…, https://… or oci://…";

impl Address {
    fn parse(uri: &str) -> anyhow::Result<Self> {
        if let Some(rest) = uri.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            ensure!(!bucket.is_empty() && !prefix.is_empty(), "expected s3://BUCKET/PREFIX, got {uri}");
            return Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
        }
        if uri.starts_with(SCHEME) {
            return Ok(Self::Oci(Reference::parse(uri)?));
        }
        let url = Url::parse(uri).with_context(|| format!("{EXPECTED}, got {uri}"))?;
        ensure!(matches!(url.scheme(), "https" | "http"), "{EXPECTED}, got {uri}");
        Ok(Self::Web(url))
    }
}

/// Checks the form of an address.
pub(super) fn check(uri: &str) -> anyhow::Result<()> {
    Address::parse(uri).map(drop)
}

/// The files of the newest version in the layout of Triton and KServe, by their paths within it; all of them
/// in any other layout.
fn of_newest(files: Vec<RemoteFile>) -> Vec<RemoteFile> {
    let Some(newest) = newest(files.iter().map(|file| file.path.as_str())) else { return files };
    let prefix = format!("{newest}/");
    let within = |file: RemoteFile| {
        let path = file.path.strip_prefix(&prefix)?.to_owned();
        Some(RemoteFile { path, ..file })
    };
    files.into_iter().filter_map(within).collect()
}

/// The folder of the newest version in the layout of Triton and KServe, `<version>/model.onnx` or
/// `<model>/<version>/model.onnx`; `None` in any other layout.
pub(super) fn newest<'file>(paths: impl Iterator<Item = &'file str> + Clone) -> Option<String> {
    let is_plain = |path: &str| !path.contains('/') && path.ends_with(".onnx");
    if paths.clone().any(|path| is_plain(path) || path == "MLmodel") {
        return None;
    }
    let folders = paths.filter_map(|path| {
        let (folder, _) = path.rsplit_once('/').filter(|_| path.ends_with(".onnx"))?;
        let number: u64 = folder.rsplit('/').next()?.parse().ok()?;
        Some((number, folder.to_owned()))
    });
    folders.max().map(|(_, newest)| newest)
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
        for uri in ["s3://models", "s3:///x", "gs://a/b", "pvc://a/b", "oci://a/b", "/etc/passwd", ""] {
            assert!(check(uri).is_err(), "{uri}");
        }
    }
}
