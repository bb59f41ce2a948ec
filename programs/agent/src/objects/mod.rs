//! Files on their way to and from the artifact store, under presigned URLs that a launcher hands out: the
//! agent has no key of the store. Bytes are streamed from and to the disk, so that memory stays small.

mod digest;
mod download;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use tokio::sync::Semaphore;
pub(crate) use upload::Source;

use crate::launcher::{CallError, Launcher, jittered};

const CONNECT_TIMEOUT_MS: u64 = 3_000;
/// A request may take this long…
const REQUEST_TIMEOUT_MS: u64 = 30_000;
/// …and longer for what it carries: slower than this is given up.
const MIN_BYTES_PER_S: u64 = 100_000;
/// A request is tried so often, each time under a new URL.
const MAX_TRIES: u32 = 3;
const RETRY_DELAY_MS: u64 = 500;
/// Files for which one call obtains URLs; the launcher takes no more.
pub(crate) const FILES_OF_A_CALL: usize = 256;
/// Requests under way.
const PARALLEL_REQUESTS: usize = 6;
/// Files, and parts of one file, that are sent or fetched at the same time.
pub(crate) const PARALLEL_FILES: usize = 4;
const PARALLEL_PARTS: usize = 4;
/// Bytes that are read from a file, or for a digest, in one go.
const READ_BYTES: usize = 128 * 1024;
/// What the store says about an error is read up to here.
const MAX_ERROR_BYTES: usize = 4 * 1024;
const MAX_CODE_CHARS: usize = 64;

/// A range of a file.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u64,
    bytes: u64,
}

/// Why a file was not stored or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The launcher did not hand out URLs.
    #[error(transparent)]
    Launcher(#[from] CallError),
    /// The artifact store refused, failed or did not answer.
    #[error("the artifact store could not {action}: {reason}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// What came back.
        reason: String,
    },
    /// There is no such object.
    #[error("the file `{path}` is not there")]
    NotFound {
        /// Path within the checkpoint.
        path: String,
    },
    /// The bytes are not what the manifest says.
    #[error("the file `{path}` is damaged: expected SHA-256 {expected}, got {actual}")]
    Digest {
        /// Path within the checkpoint.
        path: String,
        /// Lower-case hex.
        expected: String,
        /// Lower-case hex.
        actual: String,
    },
    /// A file to be stored is not as long as it was.
    #[error("the file `{path}` changed while it was read")]
    Changed {
        /// Path within the checkpoint.
        path: String,
    },
    /// A file of this machine could not be read or written.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

/// Stores and reads files of checkpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    http: Client,
    launcher: Launcher,
    requests: Arc<Semaphore>,
}

impl Objects {
    /// # Errors
    /// The certificates cannot be used.
    pub(crate) fn new(launcher: Launcher) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
                .redirect(reqwest::redirect::Policy::none())
                // A proxy of the job's environment is not meant for the platform's own store.
                .no_proxy()
        };
        // A container's image may have no certificates of authorities.
        let http = builder().build().or_else(|_| builder().tls_certs_only(browser_authorities()?).build())?;
        Ok(Self { http, launcher, requests: Arc::new(Semaphore::new(PARALLEL_REQUESTS)) })
    }
}

/// The authorities that Mozilla's browsers trust.
fn browser_authorities() -> Result<Vec<reqwest::Certificate>, reqwest::Error> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| reqwest::Certificate::from_der(der)).collect()
}

/// Time for a request that carries so many bytes.
fn time_for(bytes: u64) -> Duration {
    Duration::from_millis(REQUEST_TIMEOUT_MS) + Duration::from_secs(bytes / MIN_BYTES_PER_S)
}

/// The response, where it is a success.
async fn succeeded(action: &'static str, response: Response) -> Result<Response, Refusal> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let code = error_code(response).await;
    let reason = match code {
        Some(code) => format!("{status} ({code})"),
        None => status.to_string(),
    };
    Err(Refusal { status: Some(status), error: Error::Store { action, reason } })
}

/// A request that brought nothing.
#[derive(Debug)]
struct Refusal {
    /// None where nothing was answered.
    status: Option<StatusCode>,
    error: Error,
}

impl Refusal {
    /// The request was not answered. The URL, which is a secret, is left out.
    fn unanswered(action: &'static str, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        Self { status: None, error: Error::Store { action, reason } }
    }

    /// Whether a new URL, or time, may help.
    fn is_transient(&self) -> bool {
        let status_may_change = self.status.is_none_or(|status| {
            status.is_server_error()
                || matches!(
                    status,
                    StatusCode::FORBIDDEN | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                )
        });
        matches!(self.error, Error::Store { .. }) && status_may_change
    }
}

/// A failure on this machine.
fn local(error: std::io::Error) -> Refusal {
    Refusal { status: None, error: error.into() }
}

/// The code of S3's error document, e.g. `SlowDown`.
async fn error_code(mut response: Response) -> Option<String> {
    let mut text = Vec::new();
    while text.len() < MAX_ERROR_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        text.extend_from_slice(&chunk);
    }
    code_in(&String::from_utf8_lossy(&text))
}

fn code_in(document: &str) -> Option<String> {
    let (code, _) = document.split_once("<Code>")?.1.split_once("</Code>")?;
    let is_code = !code.is_empty() && code.len() <= MAX_CODE_CHARS && code.chars().all(char::is_alphanumeric);
    is_code.then(|| code.to_owned())
}

/// Sends a request under a presigned URL. Each further try has a URL of its own: the one before may have
/// expired.
async fn tried<T, S, U>(
    url: String,
    sign_again: impl Fn() -> U,
    send: impl Fn(String) -> S,
) -> Result<T, Error>
where
    S: Future<Output = Result<T, Refusal>>,
    U: Future<Output = Result<String, Error>>,
{
    let (mut url, mut tries) = (url, 1);
    loop {
        match send(url).await {
            Ok(response) => return Ok(response),
            Err(refusal) if refusal.is_transient() && tries < MAX_TRIES => {
                tracing::debug!(error = %refusal.error, tries, "artifact store failed; retrying");
            }
            Err(refusal) => return Err(refusal.error),
        }
        pause(tries).await;
        tries += 1;
        url = sign_again().await?;
    }
}

/// Pauses before try `number` of a request, counted from 1.
async fn pause(number: u32) {
    tokio::time::sleep(jittered(RETRY_DELAY_MS << number)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_is_read_and_nothing_else() {
        let document = |code: &str| format!("<?xml?><Error><Code>{code}</Code><Message>m</Message></Error>");
        assert_eq!(code_in(&document("SlowDown")).as_deref(), Some("SlowDown"));
        for code in ["", "a b", "<x>", &"a".repeat(65)] {
            assert_eq!(code_in(&document(code)), None, "{code}");
        }
        assert_eq!(code_in("<Error><Code>Slow"), None);
    }

    #[test]
    fn a_refusal_is_tried_again_where_that_may_help() {
        let refusal = |status| Refusal {
            status,
            error: Error::Store { action: "store a file", reason: String::new() },
        };
        for status in [None, Some(503), Some(403), Some(429)] {
            let status = status.map(|status| StatusCode::from_u16(status).unwrap());
            assert!(refusal(status).is_transient(), "{status:?}");
        }
        for status in [400, 404, 411] {
            assert!(!refusal(Some(StatusCode::from_u16(status).unwrap())).is_transient(), "{status}");
        }
    }
}
