//! The registry, as the receiver of files.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use reqwest::{Body, RequestBuilder, Response, Url};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use slipway_api::rest::registry::{DeliveredFiles, UploadedArtifact};

use super::source::{Source, SourceFile};

const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// Time without a byte after which a request is given up. The registry answers once a file is stored.
const READ_TIMEOUT_MS: u64 = 120_000;
/// Tries of one request; the pause before the next one doubles.
const MAX_TRIES: u32 = 6;
const FIRST_PAUSE_MS: u64 = 500;
const MAX_PROBLEM_CHARS: usize = 1_000;

/// The registry.
#[derive(Debug)]
pub(super) struct Registry {
    http: reqwest::Client,
    /// The import within its API.
    root: Url,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Uploaded {
    Stored {
        sha256: String,
    },
    /// Nothing more can be delivered, and nothing has to be.
    AlreadyComplete,
}

/// Why a request failed.
enum Failed {
    /// It may succeed later.
    ForNow(anyhow::Error),
    ForGood(anyhow::Error),
}

impl Registry {
    pub(super) fn new(url: &str, import: &str, token: &str) -> anyhow::Result<Self> {
        let about = || format!("the registry's address {url} (--registry-url or SLIPWAY_REGISTRY_URL)");
        let url = format!("{}/api/v1/imports/{import}/", url.trim_end_matches('/'));
        let root = Url::parse(&url).with_context(about)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .context("the delivery token has characters that no token has")?;
        bearer.set_sensitive(true);
        let mut http = reqwest::Client::builder();
        if let Some(authorities) = slipway_artifact_store::substitute_authorities() {
            http = http.tls_certs_only(reqwest::Certificate::from_pem_bundle(authorities.as_bytes())?);
        }
        let http = http
            .default_headers([(header::AUTHORIZATION, bearer)].into_iter().collect())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .read_timeout(Duration::from_millis(READ_TIMEOUT_MS))
            .build()?;
        Ok(Self { http, root })
    }

    /// Delivers a file.
    pub(super) async fn upload(&self, source: &Source, file: &SourceFile) -> anyhow::Result<Uploaded> {
        let about = || format!("`{}`", file.path);
        retried(&file.path, async || self.try_upload(source, file).await).await.with_context(about)
    }

    async fn try_upload(&self, source: &Source, file: &SourceFile) -> Result<Uploaded, Failed> {
        let bytes = source.open(file).await.map_err(Failed::ForNow)?;
        let hasher = Arc::new(Mutex::new(Sha256::new()));
        let hashing = Arc::clone(&hasher);
        let hash = move |chunk: &Result<Bytes, String>| {
            if let Ok(chunk) = chunk {
                hashing.lock().unwrap_or_else(PoisonError::into_inner).update(chunk);
            }
        };
        let body = Body::wrap_stream(bytes.inspect(hash));
        let url = self.root.join("files").map_err(|error| Failed::ForGood(error.into()))?;
        let request = self.http.put(url).query(&[("path", &file.path)]);
        let request = request
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, file.size_bytes)
            .body(body);
        let response = send(request).await?;
        if response.status() == StatusCode::CONFLICT {
            return Ok(Uploaded::AlreadyComplete);
        }
        let answer = accepted(response).await?.json::<UploadedArtifact>().await;
        let stored = answer.map_err(|error| Failed::ForNow(error.into()))?;
        let read = hex::encode(hasher.lock().unwrap_or_else(PoisonError::into_inner).finalize_reset());
        if stored.sha256 != read {
            let text = format!("the registry has stored the SHA-256 {}, expected {read}", stored.sha256);
            return Err(Failed::ForNow(anyhow::Error::msg(text)));
        }
        Ok(Uploaded::Stored { sha256: read })
    }

    /// Says that these are all files.
    pub(super) async fn complete(&self, files: &DeliveredFiles) -> anyhow::Result<()> {
        let url = self.root.join("complete")?;
        let complete = async || accepted(send(self.http.post(url.clone()).json(files)).await?).await;
        retried("complete", complete).await.map(drop)
    }
}

async fn send(request: RequestBuilder) -> Result<Response, Failed> {
    let answered = request.send().await;
    answered.map_err(|error| {
        let error = anyhow::Error::from(error.without_url());
        Failed::ForNow(error.context("the registry is unreachable"))
    })
}

/// A response of success.
async fn accepted(response: Response) -> Result<Response, Failed> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    let detail = serde_json::from_str::<Value>(&body).ok();
    let detail = detail.and_then(|problem| Some(problem["detail"].as_str()?.to_owned())).unwrap_or(body);
    let detail: String = detail.chars().take(MAX_PROBLEM_CHARS).collect();
    let error = anyhow::anyhow!("the registry answers with HTTP status {status}: {detail}");
    let is_for_now = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    Err(if is_for_now { Failed::ForNow(error) } else { Failed::ForGood(error) })
}

/// Tries again what may succeed later.
async fn retried<T>(what: &str, mut once: impl AsyncFnMut() -> Result<T, Failed>) -> anyhow::Result<T> {
    for tried in 0..MAX_TRIES {
        match once().await {
            Ok(done) => return Ok(done),
            Err(Failed::ForGood(error)) => return Err(error),
            Err(Failed::ForNow(error)) if tried + 1 == MAX_TRIES => {
                return Err(error.context(format!("{MAX_TRIES} attempts failed")));
            }
            Err(Failed::ForNow(error)) => {
                let error = format!("{error:#}");
                tracing::warn!(what, error, tried, "not delivered; retrying");
                tokio::time::sleep(Duration::from_millis(FIRST_PAUSE_MS << tried)).await;
            }
        }
    }
    bail!("{what} was not tried")
}
