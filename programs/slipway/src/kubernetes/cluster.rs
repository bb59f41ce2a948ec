//! The API server.

use anyhow::{Context as _, anyhow, bail};
use http::Request;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use crate::connection::KubeOptions;

/// A cluster, and the namespace of the platform.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// Name of the context, or where this process runs.
    pub(crate) context: String,
}

/// What a request without a result was refused with.
#[derive(Debug)]
pub(crate) struct Refused {
    /// HTTP status; 0 if there was no answer.
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Cluster {
    /// The cluster of a context of the kubeconfig, or that of the pod that this process runs in.
    ///
    /// # Errors
    /// There is no kubeconfig, or it has no such context.
    pub(crate) async fn connect(options: &KubeOptions) -> anyhow::Result<Self> {
        slipway_runtime::install_tls_provider();
        let (config, context) = match &options.kube_context {
            Some(context) => (of_context(context).await?, context.clone()),
            None => {
                let inferred = Config::infer().await;
                let config = inferred
                    .map_err(|error| anyhow!(error))
                    .context("found no kubeconfig (KUBECONFIG, ~/.kube/config) and no service account")?;
                let current = Kubeconfig::read().ok().and_then(|file| file.current_context);
                (config, current.unwrap_or_else(|| "service account".to_owned()))
            }
        };
        let namespace = options.kube_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
        Ok(Self { client, namespace, context })
    }

    /// A GET of the API server.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Refused> {
        self.request(Request::get(path).body(Vec::new())).await
    }

    /// A POST of the API server.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Refused> {
        let request = Request::post(path).header("content-type", "application/json");
        self.request(request.body(body.to_string().into_bytes())).await
    }

    async fn request(&self, request: Result<Request<Vec<u8>>, http::Error>) -> Result<Value, Refused> {
        let request = request.map_err(|error| Refused { status: 0, message: error.to_string() })?;
        self.client.request::<Value>(request).await.map_err(|error| match error {
            kube::Error::Api(status) => Refused { status: status.code, message: status.message.clone() },
            error => Refused { status: 0, message: anyhow!(error).root_cause().to_string() },
        })
    }

    /// The header `date` of an answer.
    pub(crate) async fn date(&self) -> Option<String> {
        let request = Request::get("/version").body(Body::empty()).ok()?;
        let response = self.client.send(request).await.ok()?;
        Some(response.headers().get("date")?.to_str().ok()?.to_owned())
    }
}

async fn of_context(context: &str) -> anyhow::Result<Config> {
    let file = Kubeconfig::read().context("cannot read the kubeconfig (KUBECONFIG, ~/.kube/config)")?;
    let known: Vec<String> = file.contexts.iter().map(|named| named.name.clone()).collect();
    if !known.iter().any(|name| name == context) {
        bail!(
            "--kube-context {context:?}: the kubeconfig has no such context, expected {}",
            known.join(", ")
        );
    }
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(file, &options)
        .await
        .with_context(|| format!("the context {context:?} of the kubeconfig cannot be used"))
}
