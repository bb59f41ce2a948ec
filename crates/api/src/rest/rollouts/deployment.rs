//! Deployments: named inference endpoints.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::drill::Drill;
use super::strategy::Strategy;
use super::traffic::{KillMode, KillSwitch, Rule, StickyKey, TrafficTable};
use crate::events::AliasMove;

/// A deployment as clients create it. Either `version` or `alias` is required.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDeployment {
    /// Name that clients call: 1 to 63 letters, digits, `-` and `_`.
    #[schema(example = "churn")]
    pub name: String,
    /// Registered model.
    #[schema(example = "churn")]
    pub model: String,
    /// Version to roll out first.
    #[schema(example = "1")]
    pub version: Option<String>,
    /// Alias whose version is rolled out first.
    pub alias: Option<String>,
    /// If unset, each request is drawn independently.
    pub sticky_key: Option<StickyKey>,
    /// Output that holds the prediction [default: the first output of integers, strings or booleans, else the
    /// first].
    pub prediction_output: Option<String>,
    /// Whether only serving replicas that name this deployment in `--deployments` answer for it
    /// [default: false].
    #[serde(default)]
    pub dedicated: bool,
    /// Rules by header.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Alias to watch: each version that it is set to later is rolled out.
    pub watch_alias: Option<String>,
    /// Strategy of rollouts that have none of their own.
    #[serde(default)]
    pub default_strategy: Strategy,
}

/// A JSON Merge Patch (RFC 7396) of a deployment's settings: objects are merged, arrays are replaced, `null`
/// resets a field to its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentPatch {
    /// Strategy of later rollouts that have none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_strategy: Option<Strategy>,
    /// The sticky key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky_key: Option<StickyKey>,
    /// The watched alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_alias: Option<String>,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// ID; unlike the name, it is never reused.
    pub id: Uuid,
    /// Name that clients call.
    pub name: String,
    /// Registered model.
    pub model: String,
    /// Stable version; absent before the first one serves.
    pub stable_version: Option<String>,
    /// The rollout in progress.
    pub active_rollout_id: Option<Uuid>,
    /// The watched alias.
    pub watch_alias: Option<String>,
    /// The sticky key.
    pub sticky_key: Option<StickyKey>,
    /// Output that holds the prediction.
    pub prediction_output: Option<String>,
    /// Rules by header.
    pub rules: Vec<Rule>,
    /// Present while the kill switch is active.
    pub kill_switch: Option<KillSwitch>,
    /// Outcome of the last move of the watched alias.
    pub last_alias_move: Option<AliasMove>,
    /// Strategy of rollouts that have none of their own.
    pub default_strategy: Strategy,
    /// The traffic table.
    pub traffic: TrafficTable,
    /// When it was created, Unix time in milliseconds.
    pub created_at_unix_ms: i64,
    /// In the response to a change: the replicas that route by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<Acknowledgement>,
    /// Where one deployment is read: every serving replica that reported in the last 30 s, by ID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ServingReplica>,
    /// Where one deployment is read: the drill that runs, or the newest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
    /// Problems that no rollout shows, such as a watched alias that was deleted.
    pub notices: Vec<Notice>,
}

/// A page of deployments, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Deployments {
    /// The deployments.
    pub deployments: Vec<Deployment>,
    /// `page_token` of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A problem of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Notice {
    /// `alias`, `drill` or `version/<number>`.
    pub about: String,
    /// Unix time in milliseconds.
    pub at_unix_ms: i64,
    /// The problem.
    pub message: String,
}

/// The replicas that route by the current traffic table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acknowledgement {
    /// Revision of the table.
    pub table_revision: u64,
    /// Whether every replica that reported in the last 30 s routes by this revision or a later one.
    pub complete: bool,
    /// IDs of the replicas that do.
    pub followed: Vec<String>,
    /// Replicas that do not, and may still answer by an older table.
    pub not_followed: Vec<LaggingReplica>,
    /// Summary.
    pub message: String,
}

/// How a serving replica is with a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaState {
    /// It routes by the current table.
    Current,
    /// It does not route by the current table yet.
    Behind,
    /// It is reading the current tables, and answers nothing meanwhile.
    Waiting,
    /// It has no contact with NATS, or had none, and answers by the last tables that it knows.
    LastKnown,
    /// It has not reported for more than 2 s: it hangs, or is cut off from NATS. A rollout waits for it until
    /// 5 s after its last report.
    Silent,
}

/// A serving replica, as a deployment shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServingReplica {
    /// ID of the replica.
    pub replica_id: String,
    /// How it is with the deployment.
    pub state: ReplicaState,
    /// Revision of the table that it routes by; absent where it has not reported on the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_revision: Option<u64>,
    /// Unix time in milliseconds of its last report; absent unless it is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since_unix_ms: Option<u64>,
    /// What is wrong; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A replica that does not route by the current table yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaggingReplica {
    /// ID of the replica.
    pub replica_id: String,
    /// Revision that it routes by; absent where it has not reported on the deployment.
    pub table_revision: Option<u64>,
    /// Time since its last report, in milliseconds.
    pub heard_ms_ago: u64,
}

/// Rules to set; they replace all rules of the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesRequest {
    /// Rules; the first one that matches decides.
    pub rules: Vec<Rule>,
}

/// Activates the kill switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KillSwitchRequest {
    /// What it stops [default: stable-only].
    pub mode: KillMode,
    /// Why, for the owner and for rejected requests.
    pub reason: String,
}

/// Rolls a deployment back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// Version to return to [default: the version before the newest rollout].
    pub to_version: Option<String>,
    /// Why.
    pub reason: String,
}
