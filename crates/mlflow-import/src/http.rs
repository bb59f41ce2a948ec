//! One MLflow server over HTTP: calls tried again in bounds, bodies streamed, credentials never shown.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::TryStreamExt as _;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::failure::{AddressError, Failure};

const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// One JSON call; a page of large runs takes MLflow a while.
const CALL_TIMEOUT_MS: u64 = 120_000;
/// Time without a byte after which a download counts as interrupted.
const IDLE_TIMEOUT_MS: u64 = 60_000;
/// An upload may last this long, and its length at the least rate on top.
const UPLOAD_TIMEOUT_MS: u64 = 60_000;
const MIN_UPLOAD_BYTES_PER_S: u64 = 100_000;
/// Waits between the tries of one call; after the last one it has failed.
const BACKOFF_MS: [u64; 8] = [200, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000];
/// A server may ask for more patience than that, but not for more than this.
const MAX_RETRY_AFTER_MS: u64 = 30_000;
/// After this many consecutive calls whose last attempt failed, the server counts as unreachable.
const CALLS_UNTIL_GONE: u32 = 3;
/// Longest part of an answer that is no JSON shown in a message.
const MAX_SHOWN_CHARS: usize = 200;

/// How requests authenticate.
enum Credentials {
    None,
    Token(String),
    Basic { user: String, password: String },
}

/// One server.
pub(crate) struct Server {
    /// Without credentials, for messages and marks.
    pub(crate) address: String,
    base: Url,
    http: reqwest::Client,
    credentials: Credentials,
    permits: Semaphore,
    /// It answered at least once: from then on a refused connection is a pause, not a wrong address.
    met: Cell<bool>,
    failed_calls: Cell<u32>,
    last_failure: RefCell<String>,
}

impl Server {
    /// The MLflow server, with the credentials that MLflow's own client takes from the environment.
    pub(crate) fn source(address: &str, concurrency: usize) -> Result<Self, AddressError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let credentials = match (
            variable("MLFLOW_TRACKING_TOKEN"),
            variable("MLFLOW_TRACKING_USERNAME"),
            variable("MLFLOW_TRACKING_PASSWORD"),
        ) {
            (_, Some(user), Some(password)) => Credentials::Basic { user, password },
            (Some(token), _, _) => Credentials::Token(token),
            _ => Credentials::None,
        };
        let idle = Some(Duration::from_millis(IDLE_TIMEOUT_MS));
        Self::new(address, concurrency, credentials, idle)
    }

    /// The registry.
    pub(crate) fn target(
        address: &str,
        concurrency: usize,
        token: Option<&SecretString>,
    ) -> Result<Self, AddressError> {
        let credentials =
            token.map_or(Credentials::None, |token| Credentials::Token(token.expose_secret().to_owned()));
        // No idle limit here: it would run out while the body of a long upload goes out.
        Self::new(address, concurrency, credentials, None)
    }

    fn new(
        address: &str,
        concurrency: usize,
        mut credentials: Credentials,
        idle: Option<Duration>,
    ) -> Result<Self, AddressError> {
        // Fails where the process has a provider already, which is the one to use then.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut base = Url::parse(address).map_err(AddressError::Url)?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(AddressError::Scheme(base.scheme().to_owned()));
        }
        if !base.username().is_empty() {
            let password = base.password().unwrap_or_default().to_owned();
            credentials = Credentials::Basic { user: base.username().to_owned(), password };
            let _ = base.set_username("");
            let _ = base.set_password(None);
        }
        let mut http = reqwest::Client::builder().connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS));
        if let Some(idle) = idle {
            http = http.read_timeout(idle);
        }
        Ok(Self {
            address: base.as_str().trim_end_matches('/').to_owned(),
            base,
            http: http.build()?,
            credentials,
            permits: Semaphore::new(concurrency),
            met: Cell::new(false),
            failed_calls: Cell::new(0),
            last_failure: RefCell::new(String::new()),
        })
    }

    /// Why it counts as gone, if it does: what is left to do can only fail.
    pub(crate) fn gone(&self) -> Option<String> {
        (self.failed_calls.get() >= CALLS_UNTIL_GONE).then(|| self.last_failure.borrow().clone())
    }

    /// GET of `/api/2.0/mlflow/<path>`.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        let url = self.url(&format!("api/2.0/mlflow/{path}"), query);
        self.json(|| self.request(Method::GET, url.clone())).await
    }

    /// POST to `/api/2.0/mlflow/<path>`.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::POST, path, body).await
    }

    /// A request with a JSON body.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        let url = self.url(&format!("api/2.0/mlflow/{path}"), &[]);
        self.json(|| self.request(method.clone(), url.clone()).json(body)).await
    }

    /// GET of an address of this server; answers with the JSON body.
    pub(crate) async fn get_url(&self, url: &Url) -> Result<Value, Failure> {
        self.json(|| self.request(Method::GET, url.clone())).await
    }

    /// Copies what lies at an address of this server to one of another server, as it comes; answers with its
    /// length.
    pub(crate) async fn copy_file(
        &self,
        from: &Url,
        target: &Self,
        to: &Url,
        size_bytes: u64,
    ) -> Result<u64, Failure> {
        let mut tries = Tries::new(self);
        loop {
            match self.copy_file_once(from, target, to, size_bytes).await {
                Ok(copied) => {
                    self.failed_calls.set(0);
                    return Ok(copied);
                }
                Err(Attempt::Final(failure)) => return Err(failure),
                Err(Attempt::Again { why, after_ms }) => tries.wait(why, after_ms).await?,
            }
        }
    }

    async fn copy_file_once(
        &self,
        from: &Url,
        target: &Self,
        to: &Url,
        size_bytes: u64,
    ) -> Result<u64, Attempt> {
        let _source_permit = self.permit().await?;
        let _target_permit = target.permit().await?;
        let response = self.attempt(self.request(Method::GET, from.clone())).await?;
        let copied = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&copied);
        let bytes = response.bytes_stream().inspect_ok(move |chunk| {
            counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        });
        let limit_ms = UPLOAD_TIMEOUT_MS + size_bytes.saturating_mul(1_000) / MIN_UPLOAD_BYTES_PER_S;
        let upload = target
            .request(Method::PUT, to.clone())
            .timeout(Duration::from_millis(limit_ms))
            .body(reqwest::Body::wrap_stream(bytes));
        target.attempt(upload).await?;
        Ok(copied.load(Ordering::Relaxed))
    }

    /// An address of this server.
    pub(crate) fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Segments are escaped one by one: a file's name may hold a space, a question mark or a percent
            // sign.
            segments.pop_if_empty().extend(path.split('/'));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.credentials {
            Credentials::None => request,
            Credentials::Token(token) => request.bearer_auth(token),
            Credentials::Basic { user, password } => request.basic_auth(user, Some(password)),
        }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Attempt> {
        self.permits
            .acquire()
            .await
            .map_err(|closed| Attempt::Final(Failure::Unreachable(closed.to_string())))
    }

    async fn json(&self, build: impl Fn() -> RequestBuilder) -> Result<Value, Failure> {
        let mut tries = Tries::new(self);
        loop {
            match self.json_once(build().timeout(Duration::from_millis(CALL_TIMEOUT_MS))).await {
                Ok(value) => {
                    self.failed_calls.set(0);
                    return Ok(value);
                }
                Err(Attempt::Final(failure)) => return Err(failure),
                Err(Attempt::Again { why, after_ms }) => tries.wait(why, after_ms).await?,
            }
        }
    }

    async fn json_once(&self, request: RequestBuilder) -> Result<Value, Attempt> {
        let _permit = self.permit().await?;
        let response = self.attempt(request).await?;
        let bytes = response.bytes().await.map_err(|error| Attempt::again(self.broken(&error)))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| {
            let message = format!("{} does not respond like an MLflow server", self.address);
            Attempt::Final(Failure::Refused { status: 200, code: String::new(), message })
        })
    }

    /// Sends once, and sorts what comes into success, worth another try, and final.
    async fn attempt(&self, request: RequestBuilder) -> Result<Response, Attempt> {
        if let Some(why) = self.gone() {
            return Err(Attempt::Final(Failure::Unreachable(why)));
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() && !self.met.get() => {
                let why = format!("cannot connect to {}: {}", self.address, root_cause(&error));
                return Err(Attempt::Final(Failure::Unreachable(why)));
            }
            Err(error) => return Err(Attempt::again(self.broken(&error))),
        };
        self.met.set(true);
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let after_ms = retry_after_ms(&response);
        let text = response.text().await.unwrap_or_default();
        let failure = refusal(status, &text);
        if is_worth_another_try(status, &text) {
            return Err(Attempt::Again { why: format!("{}: {failure}", self.address), after_ms });
        }
        Err(Attempt::Final(failure))
    }

    fn broken(&self, error: &reqwest::Error) -> String {
        format!("the connection to {} was interrupted: {}", self.address, root_cause(error))
    }
}

/// How one try ended that did not go well.
enum Attempt {
    Final(Failure),
    Again { why: String, after_ms: u64 },
}

impl Attempt {
    fn again(why: String) -> Self {
        Self::Again { why, after_ms: 0 }
    }
}

/// Counts the tries of one call.
struct Tries<'server> {
    server: &'server Server,
    made: usize,
}

impl<'server> Tries<'server> {
    fn new(server: &'server Server) -> Self {
        Self { server, made: 0 }
    }

    /// Waits before the next try; an error when there is none left.
    async fn wait(&mut self, why: String, after_ms: u64) -> Result<(), Failure> {
        let Some(backoff_ms) = BACKOFF_MS.get(self.made) else {
            let why = format!("{why}; tried {} times", self.made + 1);
            self.server.failed_calls.set(self.server.failed_calls.get().saturating_add(1));
            self.server.last_failure.replace(why.clone());
            return Err(Failure::Unreachable(why));
        };
        self.made += 1;
        let wait_ms = (*backoff_ms).max(after_ms.min(MAX_RETRY_AFTER_MS));
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        Ok(())
    }
}

fn retry_after_ms(response: &Response) -> u64 {
    let value = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0).saturating_mul(1_000)
}

/// MLflow answers 400 when its pool of database connections is empty, which passes.
fn is_worth_another_try(status: StatusCode, text: &str) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
        || (status == StatusCode::BAD_REQUEST && text.contains("QueuePool limit"))
}

fn refusal(status: StatusCode, text: &str) -> Failure {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let message = match (field("message"), status) {
        (message, _) if !message.is_empty() => message,
        (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            "the server rejects the credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, \
             or MLFLOW_TRACKING_TOKEN"
                .to_owned()
        }
        _ => text.trim().chars().take(MAX_SHOWN_CHARS).collect(),
    };
    Failure::Refused { status: status.as_u16(), code: field("error_code"), message }
}

/// The innermost reason, which is the one that helps; it holds no URL and so no query.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_credentials_and_file_names_keep_their_signs() {
        let server = Server::target("http://me:secret@host:5000/mlflow/", 1, None).unwrap();
        assert_eq!(server.address, "http://host:5000/mlflow");
        let url = server.url("api/a b/50%?.txt", &[("q", "x&y")]);
        assert_eq!(url.as_str(), "http://host:5000/mlflow/api/a%20b/50%25%3F.txt?q=x%26y");
        for wrong in ["old:5000", "file:///x", "nonsense"] {
            assert!(Server::target(wrong, 1, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn refusals_speak_in_the_words_of_the_server() {
        let text = r#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"Run with id=x not found"}"#;
        let failure = refusal(StatusCode::NOT_FOUND, text);
        assert!(failure.is("RESOURCE_DOES_NOT_EXIST") && failure.is_absent());
        assert_eq!(failure.to_string(), "Run with id=x not found (RESOURCE_DOES_NOT_EXIST)");
        assert!(refusal(StatusCode::UNAUTHORIZED, "").to_string().contains("MLFLOW_TRACKING_USERNAME"));
        assert!(is_worth_another_try(StatusCode::SERVICE_UNAVAILABLE, ""));
        assert!(is_worth_another_try(StatusCode::BAD_REQUEST, "QueuePool limit of size 5 overflow 10"));
        assert!(!is_worth_another_try(StatusCode::BAD_REQUEST, text));
    }
}
