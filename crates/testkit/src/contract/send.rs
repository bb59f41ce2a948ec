//! Sends requests.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::cases::Case;

/// A response that has not begun by then is a violation.
const TIMEOUT_S: u64 = 60;
/// Of a response that goes on, as long as this is read.
const BODY_S: u64 = 2;
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
const SHOWN_CHARS: usize = 300;

/// A response.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
    /// Whether the body was read to its end.
    pub(super) complete: bool,
}

impl Received {
    pub(super) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(SHOWN_CHARS).collect()
    }
}

#[derive(Debug)]
pub(super) struct Sender {
    base: String,
    http: reqwest::Client,
}

impl Sender {
    pub(super) fn new(base: &str) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client without settings");
        Self { base: base.to_owned(), http }
    }

    pub(super) async fn document(&self) -> Value {
        let response = self.http.get(format!("{}/openapi.json", self.base)).send().await;
        response.expect("the service is reachable").json().await.expect("the service returns its document")
    }

    pub(super) async fn send(&self, case: &Case) -> Result<Received, String> {
        let method = Method::from_bytes(case.method.as_bytes()).map_err(|error| error.to_string())?;
        let mut request = self.http.request(method, format!("{}{}", self.base, case.target));
        for (name, value) in &case.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &case.body {
            request = request.body(body.clone());
        }
        let sent = tokio::time::timeout(Duration::from_secs(TIMEOUT_S), request.send()).await;
        let sent =
            sent.map_err(|_| format!("{} {}: no response within {TIMEOUT_S} s", case.method, case.target))?;
        let mut response = sent.map_err(|error| format!("{} {}: {error}", case.method, case.target))?;
        let header = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let mut received = Received {
            status: response.status().as_u16(),
            content_type: header.unwrap_or_default().to_owned(),
            body: Vec::new(),
            complete: false,
        };
        let read = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                received.body.extend_from_slice(&chunk);
                if received.body.len() > MAX_BODY_BYTES {
                    return;
                }
            }
            received.complete = true;
        };
        // What follows a log does not end by itself.
        let _ = tokio::time::timeout(Duration::from_secs(BODY_S), read).await;
        Ok(received)
    }
}
