//! What a replica serves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rest::convert::mirror_enum;
use crate::rest::rollouts::TrafficTable;
use crate::traffic;

/// Deployments that this replica serves, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServedDeployments {
    /// The deployments.
    pub deployments: Vec<ServedDeployment>,
}

/// A deployment as this replica serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServedDeployment {
    /// Name.
    pub name: String,
    /// Registered model.
    pub model: String,
    /// Traffic table that this replica routes by.
    pub traffic: TrafficTable,
    /// Versions of the table.
    pub versions: Vec<ServedVersion>,
}

/// A version on this replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServedVersion {
    /// Version of the registry.
    pub version: String,
    /// `sha256:<hex>` of its manifest.
    pub digest: String,
    /// State.
    pub state: ServedState,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// State of a version on a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServedState {
    /// Being downloaded, verified or warmed up.
    Loading,
    /// Answers immediately.
    Ready,
    /// Cannot be loaded; `reason` has the cause.
    Failed,
}

mirror_enum!(ServedState = traffic::VersionState { Loading, Ready, Failed });
