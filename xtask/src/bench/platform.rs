//! What benchmarks ask of a running platform.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::build::root;
use crate::endpoints::Endpoints;

/// A client of a running platform, for benchmarks that deploy versions of one model.
#[derive(Debug, Clone)]
pub(super) struct Platform {
    pub(super) endpoints: Endpoints,
    pub(super) http: reqwest::Client,
    model: &'static str,
    timeout: Duration,
}

impl Platform {
    /// Its model is called `model`; each request has `timeout`.
    pub(super) fn new(endpoints: Endpoints, model: &'static str, timeout: Duration) -> Self {
        Self { endpoints, http: reqwest::Client::new(), model, timeout }
    }

    /// The answer of a service, which has to be a success.
    pub(super) async fn send(
        &self,
        part: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let base = self.endpoints.url(part)?;
        let request = self.http.request(method.parse()?, format!("{base}{path}"));
        let response = request.timeout(self.timeout).json(body).send().await?;
        let (status, bytes) = (response.status(), response.bytes().await?);
        anyhow::ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&bytes));
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// The next version, made of a file of the tests.
    pub(super) async fn register(&self, fixture: &str) -> anyhow::Result<()> {
        let path = root().join("crates/testkit/fixtures").join(fixture);
        let onnx = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mlflow = "/api/2.0/mlflow";
        let body = json!({"experiment_id": "0", "name": "model"});
        let made = self.send("registry", "POST", &format!("{mlflow}/logged-models"), &body).await?;
        let id = made["model"]["info"]["model_id"].as_str().context("no model id")?.to_owned();
        let registry = self.endpoints.url("registry")?;
        let url = format!("{registry}/api/2.0/mlflow-artifacts/artifacts/0/models/{id}/artifacts/model.onnx");
        self.http.put(url).body(onnx).send().await?.error_for_status()?;
        // It exists from the second version on.
        let _ = self
            .send(
                "registry",
                "POST",
                &format!("{mlflow}/registered-models/create"),
                &json!({"name": self.model}),
            )
            .await;
        let body = json!({"name": self.model, "source": format!("models:/{id}"), "model_id": id});
        self.send("registry", "POST", &format!("{mlflow}/model-versions/create"), &body).await.map(drop)
    }
}
