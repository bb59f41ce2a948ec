//! Artifacts and images in registries of OCI's distribution specification.

mod challenge;
mod client;
mod credentials;
mod manifest;
mod reference;
mod verify;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use futures::StreamExt as _;
use http::{Method, StatusCode};
use sha2::{Digest as _, Sha256};

use self::client::Client;
use self::credentials::Credentials;
use self::manifest::{ACCEPT, Document, Layer};
pub(super) use self::manifest::{Archive, Blob};
pub(super) use self::reference::{Reference, SCHEME};
use super::stream::Bytestream;

/// Manifests have at most this size, by OCI's specification.
const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
const DIGEST_HEADER: &str = "docker-content-digest";

/// Reads registries. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Oci {
    client: Client,
}

/// An artifact or an image.
#[derive(Debug)]
pub(super) struct Pulled {
    /// Digest of the manifest, or of the index, that the reference names.
    pub(super) digest: String,
    /// Layers that are files, with their paths.
    pub(super) files: Vec<(String, Blob)>,
    /// Layers that are archives, in their order.
    pub(super) archives: Vec<Archive>,
}

impl Oci {
    /// The HTTP client must not follow redirects.
    pub(super) fn new(http: reqwest::Client, credentials: Option<PathBuf>) -> Self {
        Self { client: Client::new(http, Credentials::new(credentials)) }
    }

    /// Looks at a reference; `None` where it still names what `known` is the digest of.
    pub(super) async fn look(
        &self,
        reference: &Reference,
        known: Option<&str>,
    ) -> anyhow::Result<Option<Pulled>> {
        if known.is_some() && known == self.digest(reference).await?.as_deref() {
            return Ok(None);
        }
        let (digest, mut document) = self.manifest(reference, &reference.version).await?;
        if let Some(chosen) = document.of_index()? {
            let chosen = chosen.to_owned();
            document = self.manifest(reference, &chosen).await?.1;
            ensure!(document.of_index()?.is_none(), "the index names another index, {chosen}");
        }
        let mut pulled = Pulled { digest, files: Vec::new(), archives: Vec::new() };
        for layer in document.layers()? {
            match layer {
                Layer::File { path, blob } => pulled.files.push((path, blob)),
                Layer::Archive(archive) => pulled.archives.push(archive),
            }
        }
        Ok(Some(pulled))
    }

    /// The digest that a registry tells without the manifest, which some count as a download.
    async fn digest(&self, reference: &Reference) -> anyhow::Result<Option<String>> {
        let url = reference.url("manifests", &reference.version)?;
        let response = self.client.send(reference, &Method::HEAD, &url, ACCEPT).await?;
        let digest = response.headers().get(DIGEST_HEADER).filter(|_| response.status().is_success());
        Ok(digest.and_then(|digest| digest.to_str().ok()).map(str::to_owned))
    }

    async fn manifest(&self, reference: &Reference, version: &str) -> anyhow::Result<(String, Document)> {
        let url = reference.url("manifests", version)?;
        let response = self.client.send(reference, &Method::GET, &url, ACCEPT).await?;
        let Reference { registry, repository, .. } = reference;
        if response.status() == StatusCode::NOT_FOUND {
            bail!("{registry} has no {version} of {repository}");
        }
        let bytes = client::read(client::found(response)?, MAX_MANIFEST_BYTES).await?;
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
        let is_other = version.starts_with("sha256:") && version != digest;
        ensure!(!is_other, "{registry} answers for {version} with a manifest of the digest {digest}");
        Ok((digest, Document::parse(&bytes)?))
    }

    /// Opens a blob. The stream ends with an error unless it has the bytes of the digest.
    pub(super) async fn open(&self, reference: &Reference, blob: &Blob) -> anyhow::Result<Bytestream> {
        let about = || format!("layer {}", blob.digest);
        let response = self.client.blob(reference, &blob.digest).await.with_context(about)?;
        let bytes = response.bytes_stream();
        let bytes = bytes.map(|chunk| chunk.map_err(|error| error.without_url().to_string())).boxed();
        Ok(verify::verified(bytes, blob))
    }
}
