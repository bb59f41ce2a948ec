//! Requests to one service: address, token, time limit, and errors.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;

/// Time limit of a request that is not a stream.
const TIMEOUT_MS: u64 = 30_000;
/// Time limit of a connection attempt.
const CONNECT_TIMEOUT_MS: u64 = 3_000;
/// Characters that are escaped in a segment of a path: all but the unreserved ones (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Header that names the caller, for the events of what changes.
const ACTOR_HEADER: &str = "x-slipway-actor";

/// A response body as it arrives.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// Sends requests to one service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<SecretString>,
    actor: Option<String>,
}

impl Client {
    /// For the service at `base`, e.g. `http://127.0.0.1:5000`.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(base: &str) -> Result<Self, Error> {
        // A program that chose a provider before keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .build()
            .map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token: None, actor: None })
    }

    /// Sends this token with every request.
    #[must_use]
    pub fn with_token(mut self, token: Option<SecretString>) -> Self {
        self.token = token;
        self
    }

    /// Names the caller, for the events of what changes. Names that a header cannot carry are left out.
    #[must_use]
    pub fn acting_as(self, actor: Option<String>) -> Self {
        let is_plain = |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        Self { actor: actor.filter(is_plain), ..self }
    }

    /// A GET of the path with these segments.
    pub fn get(&self, segments: &[&str]) -> Request<'_> {
        self.request(Method::GET, segments)
    }

    /// A request for the path with these segments, which are escaped one by one.
    pub fn request(&self, method: Method, segments: &[&str]) -> Request<'_> {
        let builder = self.url(segments).map(|url| {
            let mut builder = self.http.request(method, url);
            if let Some(actor) = &self.actor {
                builder = builder.header(ACTOR_HEADER, actor);
            }
            match &self.token {
                Some(token) => builder.bearer_auth(token.expose_secret()),
                None => builder,
            }
        });
        Request { client: self, builder }
    }

    fn url(&self, segments: &[&str]) -> Result<Url, Error> {
        let path = path(segments)?;
        Url::parse(&format!("{}{path}", self.base))
            .map_err(|error| Error::Invalid(format!("`{}` is not a URL: {error}", self.base)))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let base = &self.base;
        Error::Unreachable(if error.is_connect() {
            format!("cannot connect to {base}: is it running? `slipway status` shows which parts are ready")
        } else if error.is_timeout() {
            format!("{base} did not answer within {} s", TIMEOUT_MS / 1_000)
        } else {
            format!("the request to {base} failed: {}", root_cause(error))
        })
    }
}

/// A request to be sent.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'client> {
    client: &'client Client,
    builder: Result<RequestBuilder, Error>,
}

impl Request<'_> {
    /// With the fields of `query` as the query string; fields that are `None` are left out.
    pub fn query(self, query: &impl Serialize) -> Self {
        Self { builder: self.builder.map(|builder| builder.query(query)), ..self }
    }

    /// With a JSON body.
    pub fn json(self, body: &impl Serialize) -> Self {
        Self { builder: self.builder.map(|builder| builder.json(body)), ..self }
    }

    /// With a file as the body.
    pub fn file(self, bytes: Vec<u8>) -> Self {
        let typed = self.header("content-type", "application/octet-stream");
        Self { builder: typed.builder.map(|builder| builder.body(bytes)), ..typed }
    }

    /// With a header.
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { builder: self.builder.map(|builder| builder.header(name, value)), ..self }
    }

    /// Sends the request and reads its JSON body.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        parsed(&self.bytes().await?)
    }

    /// [`Self::read`], for as long as it takes to send the body.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn read_at_last<T: DeserializeOwned>(self) -> Result<T, Error> {
        let response = self.client.accepted(self.builder?).await?;
        parsed(&response.bytes().await.map_err(|error| interrupted(&error))?)
    }

    /// Sends the request; what it returns is of no interest.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn done(self) -> Result<(), Error> {
        self.bytes().await.map(drop)
    }

    /// Sends the request and reads its body as text.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn text(self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.bytes().await?).into_owned())
    }

    async fn bytes(self) -> Result<Bytes, Error> {
        let limit = Duration::from_millis(TIMEOUT_MS);
        let client = self.client;
        let response = client.accepted(self.builder?.timeout(limit)).await?;
        response.bytes().await.map_err(|error| interrupted(&error))
    }

    /// Sends the request and returns its body as it arrives, for as long as that takes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stream(self) -> Result<ByteStream, Error> {
        let response = self.client.accepted(self.builder?).await?;
        Ok(Box::pin(response.bytes_stream().map(|chunk| chunk.map_err(|error| interrupted(&error)))))
    }
}

impl Client {
    /// The response to a request, if the service accepted it.
    async fn accepted(&self, builder: RequestBuilder) -> Result<Response, Error> {
        let response = builder.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body: Value = response.json().await.unwrap_or(Value::Null);
        Err(Error::refused(status, &body))
    }
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // A body that is left out is `null`.
    let bytes: &[u8] = if bytes.is_empty() { b"null" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| {
        let hint = "is another program listening at this address, or a service of another release?";
        Error::Unexpected(format!("the response is not the JSON of this API ({error}): {hint}"))
    })
}

fn interrupted(error: &reqwest::Error) -> Error {
    Error::Unreachable(format!("the response was interrupted: {}", root_cause(error)))
}

/// The innermost cause, which names what happened; the outer ones repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The path of segments that are escaped one by one: a model's name may hold a slash, a space or a line
/// break.
fn path(segments: &[&str]) -> Result<String, Error> {
    let mut path = String::new();
    for segment in segments {
        if matches!(*segment, "" | "." | "..") {
            // A URL with it would name something else.
            return Err(Error::Invalid(format!("expected a name or an ID, got `{segment}`")));
        }
        path.push('/');
        path.extend(utf8_percent_encode(segment, ESCAPED));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stays_one_segment_of_the_path() {
        let url = |name: &str| {
            let client = Client::new("http://127.0.0.1:5000/base/").unwrap();
            let request = client.get(&["models", name]).query(&[("limit", 1)]);
            request.builder.map(|builder| builder.build().unwrap().url().to_string())
        };
        let base = "http://127.0.0.1:5000/base/models";
        assert_eq!(url("a/b c\n?#%").unwrap(), format!("{base}/a%2Fb%20c%0A%3F%23%25?limit=1"));
        assert_eq!(url("..a").unwrap(), format!("{base}/..a?limit=1"));
        for nothing in ["", ".", ".."] {
            assert!(url(nothing).unwrap_err().to_string().contains("expected a name or an ID"), "{nothing}");
        }
    }

    #[test]
    fn token_and_caller_go_with_every_request() {
        let client = Client::new("http://127.0.0.1:5000").unwrap();
        let client = client.with_token(Some("secret".into())).acting_as(Some("ann".to_owned()));
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let request = client.request(method, &["a"]).builder.unwrap().build().unwrap();
            assert_eq!(request.headers()["authorization"], "Bearer secret");
            assert_eq!(request.headers()[ACTOR_HEADER], "ann");
        }
        let odd = client.acting_as(Some("a\nb".to_owned())).get(&["a"]).builder.unwrap().build().unwrap();
        assert!(!odd.headers().contains_key(ACTOR_HEADER));
    }
}
