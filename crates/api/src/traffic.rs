//! The traffic table and replica status: what travels through NATS KV.

use serde::{Deserialize, Serialize};
pub use slipway_domain::rollout::drill::DrillCounts;
pub use slipway_domain::traffic::{
    Condition, Drill, DrillTarget, Fault, KillMode, KillSwitch, Pool, Replay, Rule, Shadow, StickyKey,
    Target, TrafficTable, Weighted,
};

/// KV bucket of traffic tables; key: deployment name. Only the rollout controller writes it.
pub const TRAFFIC_BUCKET: &str = "slipway-traffic";
/// Key of [`TRAFFIC_BUCKET`] that is no deployment's: a [`TablesHead`]. Names of deployments begin with a
/// letter or a digit.
pub const TABLES_HEAD_KEY: &str = "_head";
/// The traffic bucket tells this long that a deployment was deleted; then nothing of it is left there. A
/// reader that was away for longer reads the whole bucket.
pub const TABLE_MARKER_MAX_AGE_S: u64 = 20;
/// KV bucket of replica status; key: replica id. Replicas and rollout controllers of earlier releases have
/// `<replica_id>.<deployment>` with a [`DeploymentStatus`].
pub const REPLICAS_BUCKET: &str = "slipway-replicas";
/// Entries of [`REPLICAS_BUCKET`] older than this are gone: the replica is, too.
pub const REPLICA_STATUS_MAX_AGE_S: u64 = 30;
/// A replica writes its status this often, and at each change.
pub const REPLICA_STATUS_INTERVAL_S: u64 = 1;
/// A replica of an earlier release writes each of its statuses this often, and at each change.
pub const DEPLOYMENT_STATUS_INTERVAL_S: u64 = 5;
/// A replica whose last status is older than this holds no rollout up. A replica whose process stood still
/// for long enough to have been left out reads the current tables before it answers again.
pub const REPLICA_LEASE_S: u64 = 5;

/// Says that [`TRAFFIC_BUCKET`] has the table of every deployment. The rollout controller writes it once all
/// of them are there: a bucket without it was lost and is being written again, and what it lacks is not
/// deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablesHead {
    /// Unix time in milliseconds since which the bucket is complete.
    pub complete_since_unix_ms: u64,
}

/// A place in [`TRAFFIC_BUCKET`]: everything up to it was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TablesPosition {
    /// When the bucket was created, Unix time in milliseconds. One that was lost and created again counts
    /// from 1 again.
    pub bucket_created_unix_ms: u64,
    /// Revision of the last entry, in the numbering of the whole bucket.
    pub revision: u64,
}

/// What one serving replica holds. Its size does not grow with the number of deployments: those that are as
/// their tables say are not listed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// The replica.
    pub replica_id: String,
    /// It routes by every table up to here, except for the deployments in `unsettled`; absent until it has
    /// read the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<TablesPosition>,
    /// Whether its tables are the current ones.
    pub tables: TablesState,
    /// Deployments that do not route by their newest table, or have versions that are not ready, the one
    /// whose table changed last first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsettled: Vec<UnsettledDeployment>,
    /// If there are too many of them for a message: nothing is said about deployments whose table is older
    /// than this revision of the bucket.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub silent_below_revision: u64,
    /// The only deployments that it answers for; absent: all that are not dedicated. `PREFIX*` is a pool: it
    /// answers for those that begin with the prefix and whose tables ask for the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployments: Option<Vec<String>>,
    /// The only version that it serves of these; absent: all that their tables name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it has done for these, if they are few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<DeploymentLoad>,
    /// What it counts of the drills of its traffic tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drills: Vec<DrillReport>,
    /// CPU time of the process, in microseconds; 0 where it is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cpu_us: u64,
    /// Share of the last second in which its GPUs computed, in percent; absent without GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_percent: Option<u8>,
    /// When this was written, Unix time in milliseconds.
    pub at_unix_ms: u64,
}

/// What a replica counts of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DrillReport {
    /// The deployment.
    pub deployment: String,
    /// Identity of the drill.
    pub drill_id: String,
    /// What it counts.
    pub counts: DrillCounts,
}

/// What a replica has done for a deployment, copies of requests to shadows included. Sums begin with the
/// process; they may become smaller when a version leaves the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentLoad {
    /// The deployment.
    pub deployment: String,
    /// Requests that are being answered, in the queue or in the model.
    pub in_flight: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Time from each request to its answer, in microseconds.
    pub latency_us: u64,
    /// Time that requests waited for a run, in microseconds.
    pub queue_us: u64,
}

/// Ends the entry of a pool, see [`ReplicaStatus::deployments`].
pub const POOL_PATTERN: char = '*';

impl ReplicaStatus {
    /// Whether the replica answers for a deployment with this table.
    pub fn serves(&self, deployment: &str, is_dedicated: bool, pool: Option<Pool>) -> bool {
        let is_meant = |entry: &String| match entry.strip_suffix(POOL_PATTERN) {
            Some(prefix) => pool.is_some() && deployment.starts_with(prefix),
            None => entry == deployment,
        };
        match &self.deployments {
            Some(only) => only.iter().any(is_meant),
            None => !is_dedicated,
        }
    }

    /// Whether it is a replica of a pool.
    pub fn is_pool(&self) -> bool {
        self.deployments.iter().flatten().any(|entry| entry.ends_with(POOL_PATTERN))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// See [`ReplicaStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum TablesState {
    /// It is reading them, and answers nothing from older ones meanwhile.
    #[default]
    Waiting,
    /// They are.
    Current,
    /// They are the last ones that it knows, since it has no contact with NATS or was not told all of them.
    LastKnown {
        /// Unix time in milliseconds of the last moment at which they were known to be current; 0: before
        /// its start.
        since_unix_ms: u64,
    },
}

/// A deployment on a replica that is not as its newest table says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsettledDeployment {
    /// The deployment.
    pub deployment: String,
    /// Revision of the traffic table that its routing follows; 0: none.
    pub table_revision: u64,
    /// Every version of that table and of the newest one, and how far it is.
    #[serde(default)]
    pub versions: Vec<VersionStatus>,
    /// Why the newest table cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What one replica holds of one deployment, as earlier releases say it: a replica writes one for each
/// deployment, every [`DEPLOYMENT_STATUS_INTERVAL_S`] and at each change. During an upgrade, the rollout
/// controller reads both formats, and a replica writes both as long as the traffic bucket has no
/// [`TablesHead`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
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
