//! A proxy in front of a Kubernetes API server that fails as a busy one does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use reqwest::StatusCode;
use serde_json::json;
use tokio::sync::watch;

const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Watches end after this time while it fails, without a word.
const WATCHES_LAST: Duration = Duration::from_millis(1_500);
/// How long a slow answer takes; below the patience of clients.
const SLOW: Duration = Duration::from_secs(3);

/// What was done to requests.
#[derive(Debug, Default)]
pub struct FailureCounts {
    /// Answered with 429.
    pub busy: AtomicU64,
    /// Answered late.
    pub slow: AtomicU64,
    /// Performed, and the answer was lost.
    pub lost: AtomicU64,
    /// Watches that were told that their version is too old.
    pub gone: AtomicU64,
    /// Watches that ended early.
    pub dropped: AtomicU64,
}

/// The proxy. It forwards all requests unchanged until [`FailingProxy::set_failing`].
pub struct FailingProxy {
    /// Its URL, without TLS.
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    client: reqwest::Client,
    server: String,
    fails: watch::Sender<bool>,
    requests: AtomicU64,
    watches: AtomicU64,
    counts: FailureCounts,
}

impl FailingProxy {
    /// In front of the API server of this URL, whose certificate is of this authority (PEM). Requests keep
    /// their tokens.
    pub async fn begin(server: &str, authority: &str) -> Self {
        let authority = reqwest::Certificate::from_pem(authority.as_bytes()).expect("a certificate");
        let inner = Arc::new(Inner {
            client: reqwest::Client::builder().tls_certs_only([authority]).build().expect("a client"),
            server: server.to_owned(),
            fails: watch::channel(false).0,
            requests: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            counts: FailureCounts::default(),
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let routes = axum::Router::new().fallback(forward).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, inner }
    }

    /// Fails from now on, or no longer. Watches that began before end then.
    pub fn set_failing(&self, fails: bool) {
        self.inner.fails.send_replace(fails);
    }

    /// What was done so far.
    pub fn counts(&self) -> &FailureCounts {
        &self.inner.counts
    }
}

async fn forward(State(proxy): State<Arc<Inner>>, request: Request) -> Response {
    let fails = *proxy.fails.borrow();
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    if fails && is_watch {
        let number = proxy.watches.fetch_add(1, Ordering::SeqCst);
        if number % 3 == 2 {
            proxy.counts.gone.fetch_add(1, Ordering::SeqCst);
            return gone();
        }
        proxy.counts.dropped.fetch_add(1, Ordering::SeqCst);
        return until(proxy.send(request).await, tokio::time::sleep(WATCHES_LAST));
    }
    if is_watch {
        let mut failing = proxy.fails.subscribe();
        let fails = async move { drop(failing.wait_for(|fails| *fails).await) };
        return until(proxy.send(request).await, fails);
    }
    if !fails {
        return proxy.send(request).await;
    }
    match proxy.requests.fetch_add(1, Ordering::SeqCst) % 5 {
        0 => {
            proxy.counts.busy.fetch_add(1, Ordering::SeqCst);
            busy()
        }
        1 => {
            proxy.counts.slow.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(SLOW).await;
            proxy.send(request).await
        }
        2 => {
            proxy.counts.lost.fetch_add(1, Ordering::SeqCst);
            proxy.send(request).await;
            StatusCode::BAD_GATEWAY.into_response()
        }
        _ => proxy.send(request).await,
    }
}

/// The response, cut off at some time.
fn until(response: Response, end: impl Future<Output = ()> + Send + 'static) -> Response {
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, Body::from_stream(body.into_data_stream().take_until(end)))
}

impl Inner {
    async fn send(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().expect("a path");
        let body = to_bytes(body, MAX_BODY_BYTES).await.expect("a body");
        let mut headers = parts.headers;
        for name in ["host", "content-length", "accept-encoding"] {
            headers.remove(name);
        }
        let sent = self.client.request(parts.method, format!("{}{path}", self.server));
        let Ok(answer) = sent.headers(headers).body(body).send().await else {
            return StatusCode::BAD_GATEWAY.into_response();
        };
        let mut response = Response::builder().status(answer.status());
        if let Some(kind) = answer.headers().get("content-type") {
            response = response.header("content-type", kind);
        }
        response.body(Body::from_stream(answer.bytes_stream())).expect("a response")
    }
}

fn busy() -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429,
        "reason": "TooManyRequests", "message": "too many requests, please try again later"});
    (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], axum::Json(status)).into_response()
}

/// A watch whose version has been compacted.
fn gone() -> Response {
    let event = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": 410, "reason": "Expired", "message": "too old resource version"}});
    ([("content-type", "application/json")], format!("{event}\n")).into_response()
}
