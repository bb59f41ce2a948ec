//! Serving: the Open Inference Protocol v2, and REST v1.

use reqwest::Method;
use slipway_api::rest::serving::{
    AcceptedLabels, InferRequest, InferResponse, Labels, ModelMetadata, ModelReady, ServedDeployment,
    ServedDeployments,
};

use crate::{Client, Error};

/// A client of a serving replica. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Serving {
    client: Client,
}

impl From<Client> for Serving {
    fn from(client: Client) -> Self {
        Self { client }
    }
}

/// Path of a deployment, or of one version of its model.
fn model<'name>(deployment: &'name str, version: Option<&'name str>, rest: &[&'name str]) -> Vec<&'name str> {
    let mut path = vec!["v2", "models", deployment];
    path.extend(version.iter().flat_map(|version| ["versions", version]));
    path.extend(rest);
    path
}

impl Serving {
    /// Predicts with the version that the traffic table chooses, or with `version`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn infer(
        &self,
        deployment: &str,
        version: Option<&str>,
        request: &InferRequest,
    ) -> Result<InferResponse, Error> {
        self.client.request(Method::POST, &model(deployment, version, &["infer"])).json(request).read().await
    }

    /// Shows inputs and outputs of the model.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn metadata(&self, deployment: &str, version: Option<&str>) -> Result<ModelMetadata, Error> {
        self.client.get(&model(deployment, version, &[])).read().await
    }

    /// Checks that a deployment answers.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ready(&self, deployment: &str) -> Result<ModelReady, Error> {
        self.client.get(&model(deployment, None, &["ready"])).read().await
    }

    /// Lists deployments of the replica.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deployments(&self) -> Result<ServedDeployments, Error> {
        self.client.get(&["api", "v1", "deployments"]).read().await
    }

    /// Shows a deployment of the replica.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deployment(&self, name: &str) -> Result<ServedDeployment, Error> {
        self.client.get(&["api", "v1", "deployments", name]).read().await
    }

    /// Attaches true values to past predictions.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn label(&self, deployment: &str, labels: &Labels) -> Result<AcceptedLabels, Error> {
        let path = ["api", "v1", "deployments", deployment, "labels"];
        self.client.request(Method::POST, &path).json(labels).read().await
    }
}
