//! Somebody who is called: keeps what arrived, and answers as it is told.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use sha2::Sha256;

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Whether one of the signatures was made with this secret, as a receiver would check it.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let expected = self.signature(&key, "webhook-id", "webhook-timestamp");
        self.header("webhook-signature").split(' ').any(|given| given == expected)
    }

    /// Whether it is signed with this secret as MLflow's documentation has receivers check it.
    pub(crate) fn is_signed_for_mlflow(&self, secret: &str) -> bool {
        let expected = self.signature(secret.as_bytes(), "x-mlflow-delivery-id", "x-mlflow-timestamp");
        self.header("x-mlflow-signature") == expected
    }

    fn signature(&self, key: &[u8], id: &str, time: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(format!("{}.{}.{}", self.header(id), self.header(time), self.body).as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[derive(Debug, Default)]
struct Told {
    calls: Mutex<Vec<Call>>,
    /// What is answered next, once each; then 204. 0 for never.
    answers: Mutex<Vec<u16>>,
}

/// Gone when dropped.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    told: Arc<Told>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(crate) async fn begin() -> Self {
        Self::on(slipway_testkit::free_port().unwrap()).await
    }

    pub(crate) async fn on(port: u16) -> Self {
        let told = Arc::new(Told::default());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let app = axum::Router::new().fallback(take).with_state(Arc::clone(&told));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { port, told, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// The next calls are answered so, in this order.
    pub(crate) fn answer(&self, statuses: &[u16]) {
        self.told.answers.lock().unwrap().extend(statuses);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.told.calls.lock().unwrap().clone()
    }

    /// All calls, once there are so many.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Call> {
        let started = Instant::now();
        while self.calls().len() < count {
            assert!(started.elapsed() < Duration::from_secs(30), "{} of {count} calls", self.calls().len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.calls()
    }
}

async fn take(State(told): State<Arc<Told>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1_000_000).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    told.calls.lock().unwrap().push(Call { headers: parts.headers, body });
    let status = {
        let mut answers = told.answers.lock().unwrap();
        if answers.is_empty() { 204 } else { answers.remove(0) }
    };
    if status == 0 {
        std::future::pending::<()>().await;
    }
    let status = StatusCode::from_u16(status).unwrap();
    if status.is_redirection() {
        return (status, [("location", "/elsewhere")]).into_response();
    }
    if status.is_server_error() {
        return (status, "not today").into_response();
    }
    status.into_response()
}
