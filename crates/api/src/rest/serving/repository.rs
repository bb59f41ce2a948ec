//! The repository extension.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::infer::ParameterValue;

/// Which models to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IndexRequest {
    /// Only models that are ready [default: false].
    #[serde(default)]
    pub ready: Option<bool>,
}

/// How to load a model. This server loads what traffic tables name, so parameters are rejected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoadRequest {
    /// Parameters.
    #[serde(default)]
    pub parameters: Option<BTreeMap<String, ParameterValue>>,
}

/// A version of a model in the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepositoryModel {
    /// Deployment.
    pub name: String,
    /// Version.
    pub version: String,
    /// `READY`, `LOADING` or `UNAVAILABLE`.
    pub state: String,
    /// Why it is not ready.
    pub reason: String,
}
