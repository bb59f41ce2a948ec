//! The traffic table and replica status: what travels through NATS KV.

use serde::{Deserialize, Serialize};
pub use slipway_domain::traffic::{
    Condition, KillMode, KillSwitch, Rule, Shadow, StickyKey, Target, TrafficTable, Weighted,
};

/// KV bucket of traffic tables; key: deployment name. Only the rollout controller writes it.
pub const TRAFFIC_BUCKET: &str = "slipway-traffic";
/// KV bucket of replica status; key: `<replica_id>.<deployment>`.
pub const REPLICAS_BUCKET: &str = "slipway-replicas";
/// Entries of [`REPLICAS_BUCKET`] older than this are gone: the replica is, too.
pub const REPLICA_STATUS_MAX_AGE_S: u64 = 30;
/// A replica writes its status this often, and at each change.
pub const REPLICA_STATUS_INTERVAL_S: u64 = 5;

/// What one serving replica holds of one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// The replica.
    pub replica_id: String,
    /// The deployment.
    pub deployment: String,
    /// Revision of the traffic table that its routing follows.
    pub table_revision: u64,
    /// Every version of the table, and how far it is.
    pub versions: Vec<VersionStatus>,
    /// When this was written, Unix time in milliseconds.
    pub at_unix_ms: u64,
}

/// How far a replica is with one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionStatus {
    /// Version of the deployment's model.
    pub version: String,
    /// Its manifest digest.
    pub digest: String,
    /// How far.
    pub state: VersionState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// See [`VersionStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// Being fetched, verified or warmed up.
    Loading,
    /// Answers at once.
    Ready,
    /// Will not load; the reason says why.
    Failed,
}
