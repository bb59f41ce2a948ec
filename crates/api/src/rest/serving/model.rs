//! The server, and models as the protocol sees them: deployments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerMetadata {
    /// Name of the server.
    pub name: String,
    /// Version of the server.
    pub version: String,
    /// Extensions of the protocol.
    pub extensions: Vec<String>,
}

/// Liveness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerLive {
    /// Always true.
    pub live: bool,
}

/// Readiness of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerReady {
    /// Whether every wanted version is loaded.
    pub ready: bool,
    /// What is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The liveness check of KServe's v1 protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    /// Always `alive`.
    #[schema(example = "alive")]
    pub status: String,
}

/// Deployments of this replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// Names, sorted.
    pub models: Vec<String>,
}

/// Metadata of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelMetadata {
    /// Deployment.
    pub name: String,
    /// Loaded versions.
    pub versions: Vec<String>,
    /// Platform.
    pub platform: String,
    /// Inputs.
    pub inputs: Vec<TensorSpec>,
    /// Outputs.
    pub outputs: Vec<TensorSpec>,
}

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TensorSpec {
    /// Name.
    pub name: String,
    /// Datatype of the protocol.
    pub datatype: String,
    /// Shape; -1 for a dimension that varies.
    pub shape: Vec<i64>,
}

/// Readiness of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelReady {
    /// Deployment.
    pub name: String,
    /// Always true; a model that is not ready is an error.
    pub ready: bool,
}
