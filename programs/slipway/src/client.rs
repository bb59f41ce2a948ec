//! The HTTP client of the command line: errors as the services word them.

use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::output::{self, escape::one_line};

/// One request that is not a stream.
const TIMEOUT_MS: u64 = 30_000;
/// What is escaped in a segment of a path: all but the unreserved characters (RFC 3986, 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Speaks JSON with one service.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<SecretString>,
    actor: Option<String>,
}

impl Client {
    /// For the service at `base`, e.g. `http://127.0.0.1:5000`.
    pub(crate) fn new(base: &str) -> anyhow::Result<Self> {
        slipway_runtime::install_tls_provider();
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(3)).build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token: None, actor: None })
    }

    /// Shows this token with every request.
    pub(crate) fn with_token(mut self, token: Option<SecretString>) -> Self {
        self.token = token;
        self
    }

    /// Names who acts, for the events of what changes. Names that no header can carry are left out.
    pub(crate) fn acting_as(self, actor: Option<String>) -> Self {
        let is_plain = |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        Self { actor: actor.filter(is_plain), ..self }
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        let request = match &self.actor {
            Some(actor) => request.header("x-slipway-actor", actor),
            None => request,
        };
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    fn url(&self, segments: &[&str], query: &[(&str, String)]) -> anyhow::Result<Url> {
        let path = path(segments)?;
        let mut url = Url::parse(&format!("{}{path}", self.base))
            .with_context(|| format!("`{}` is not a URL", self.base))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// GET with a query; answers with the JSON body.
    pub(crate) async fn get(&self, segments: &[&str], query: &[(&str, String)]) -> anyhow::Result<Value> {
        let request =
            self.request(Method::GET, self.url(segments, query)?).timeout(Duration::from_millis(TIMEOUT_MS));
        json(self.checked(request.send().await)?).await
    }

    /// GET with a query; answers with the body as text.
    pub(crate) async fn text(&self, segments: &[&str], query: &[(&str, String)]) -> anyhow::Result<String> {
        let request =
            self.request(Method::GET, self.url(segments, query)?).timeout(Duration::from_millis(TIMEOUT_MS));
        let response = require_success(self.checked(request.send().await)?).await?;
        response.text().await.context("the answer was interrupted")
    }

    /// A request with a JSON body; answers with the JSON body, `null` where there is none.
    pub(crate) async fn send(
        &self,
        method: Method,
        segments: &[&str],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let mut request =
            self.request(method, self.url(segments, &[])?).timeout(Duration::from_millis(TIMEOUT_MS));
        if let Some(body) = body {
            request = request.json(body);
        }
        json(self.checked(request.send().await)?).await
    }

    /// DELETE with a query.
    pub(crate) async fn delete(&self, segments: &[&str], query: &[(&str, String)]) -> anyhow::Result<Value> {
        let request = self
            .request(Method::DELETE, self.url(segments, query)?)
            .timeout(Duration::from_millis(TIMEOUT_MS));
        json(self.checked(request.send().await)?).await
    }

    /// POST with a query and without a body; answers with the JSON body.
    pub(crate) async fn post_query(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
    ) -> anyhow::Result<Value> {
        let request =
            self.request(Method::POST, self.url(segments, query)?).timeout(Duration::from_millis(TIMEOUT_MS));
        json(self.checked(request.send().await)?).await
    }

    /// GET whose body goes to standard output as it comes.
    pub(crate) async fn stream(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
        log: &mut output::Log,
    ) -> anyhow::Result<()> {
        let response = self.checked(self.request(Method::GET, self.url(segments, query)?).send().await)?;
        let mut body = require_success(response).await?.bytes_stream();
        while let Some(chunk) = body.next().await {
            log.print(&chunk.context("the stream was interrupted")?);
        }
        Ok(())
    }

    fn checked(&self, sent: reqwest::Result<Response>) -> Result<Response, Failure> {
        sent.map_err(|error| {
            let base = &self.base;
            if error.is_connect() {
                let hint = "is it running? `slipway status` shows which parts are ready";
                Failure::Unreachable(format!("cannot connect to {base}: {hint}"))
            } else if error.is_timeout() {
                Failure::Unreachable(format!("{base} did not answer within {} s", TIMEOUT_MS / 1_000))
            } else {
                Failure::Unreachable(format!("the request to {base} failed: {}", root_cause(&error)))
            }
        })
    }
}

/// The path of segments that are escaped one by one: a model's name may hold a slash, a space or a line break.
///
/// # Errors
/// A segment is empty, `.` or `..`: a URL with it would name something else.
fn path(segments: &[&str]) -> anyhow::Result<String> {
    let mut path = String::new();
    for segment in segments {
        anyhow::ensure!(!matches!(*segment, "" | "." | ".."), "expected a name or an ID, got `{segment}`");
        path.push('/');
        path.extend(utf8_percent_encode(segment, ESCAPED));
    }
    Ok(path)
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The service cannot be reached, or its answer was interrupted.
    Unreachable(String),
    /// The service refused the request.
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The service's explanation.
        message: String,
    },
}

impl Failure {
    /// Whether the token is missing, unknown, or not sufficient.
    pub(crate) fn is_about_access(&self) -> bool {
        use StatusCode as Code;
        matches!(self, Self::Refused { status: Code::UNAUTHORIZED | Code::FORBIDDEN, .. })
    }

    /// Whether the same request may succeed later: the service is down, overloaded, or not ready.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(message) => formatter.write_str(message),
            // It may repeat what a user wrote, and must not forge a line.
            Self::Refused { status, message } => write!(formatter, "{} ({status})", one_line(message)),
        }
    }
}

impl std::error::Error for Failure {}

/// The innermost cause, which names what happened; the outer ones repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

async fn json(response: Response) -> anyhow::Result<Value> {
    let response = require_success(response).await?;
    let bytes = response.bytes().await.context("the answer was interrupted")?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes)
        .context("the answer is not JSON: is another program listening at this address?")
}

/// Turns a refusal into an error with the service's own words: a problem, MLflow's shape, or the inference protocol's.
async fn require_success(response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body: Value = response.json().await.unwrap_or(Value::Null);
    let words = ["detail", "message", "error"].iter().find_map(|name| body.get(name).and_then(Value::as_str));
    let message = words.unwrap_or("the service rejected the request without a reason").to_owned();
    Err(Failure::Refused { status, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stays_one_segment_of_the_path() {
        let url = |name: &str| {
            let client = Client::new("http://127.0.0.1:5000/base/").unwrap();
            client.url(&["models", name], &[("limit", "1".to_owned())]).map(|url| url.to_string())
        };
        let base = "http://127.0.0.1:5000/base/models";
        assert_eq!(url("a/b c\n?#%").unwrap(), format!("{base}/a%2Fb%20c%0A%3F%23%25?limit=1"));
        assert_eq!(url("..a").unwrap(), format!("{base}/..a?limit=1"));
        for nothing in ["", ".", ".."] {
            assert!(url(nothing).unwrap_err().to_string().contains("expected a name or an ID"), "{nothing}");
        }
    }
}
