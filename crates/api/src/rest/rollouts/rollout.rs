//! Rollouts.

use serde::{Deserialize, Serialize};
use slipway_domain::rollout as domain;
use utoipa::ToSchema;
use uuid::Uuid;

use super::decision::Decision;
use super::deployment::Acknowledgement;
use super::strategy::Strategy;
use crate::rest::convert::mirror_enum;

/// State of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Replicas load the new version; no traffic has moved.
    Preparing,
    /// The new version receives the share of the current step.
    Progressing,
    /// Waits for an operator; traffic stays as it is. A violated limit still rolls back.
    Paused,
    /// All traffic moves to the new version.
    Promoting,
    /// The new version is stable.
    Promoted,
    /// All traffic moves back to the previous version.
    RollingBack,
    /// The previous version receives all traffic.
    RolledBack,
    /// The new version could not be loaded and never received traffic.
    Failed,
    /// Ended by an operator or by another rollout.
    Aborted,
}

mirror_enum!(
    Phase = domain::Phase {
        Preparing,
        Progressing,
        Paused,
        Promoting,
        Promoted,
        RollingBack,
        RolledBack,
        Failed,
        Aborted,
    }
);

impl Phase {
    /// Whether the rollout has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Promoted | Self::RolledBack | Self::Failed | Self::Aborted)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(domain::Phase::from(*self).as_str())
    }
}

/// A rollout as clients start it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRollout {
    /// Version to roll out.
    #[schema(example = "2")]
    pub version: String,
    /// Strategy [default: that of the deployment].
    pub strategy: Option<Strategy>,
    /// A request with the same key returns the same rollout.
    pub idempotency_key: Option<String>,
}

/// Why a command is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommandRequest {
    /// Reason, for the record.
    pub reason: String,
}

/// A command to a rollout in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RolloutCommand {
    /// Skips the remaining steps.
    Promote,
    /// Holds the traffic as it is.
    Pause,
    /// Continues; the hold and the facts of the current step start again.
    Resume,
    /// Moves all traffic back to the stable version.
    Abort,
}

impl RolloutCommand {
    /// As it is in the path.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
        }
    }
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// ID.
    pub id: Uuid,
    /// Deployment.
    pub deployment: String,
    /// ID of the deployment.
    pub deployment_id: Uuid,
    /// When the deployment was deleted, Unix time in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_deleted_at_unix_ms: Option<i64>,
    /// Registered model.
    pub model: String,
    /// Version that was stable before.
    pub from_version: Option<String>,
    /// Version that is rolled out.
    pub to_version: String,
    /// State.
    pub phase: Phase,
    /// Index of the current step, from 0.
    pub step: usize,
    /// Number of steps.
    pub steps: usize,
    /// Percentage of the traffic that the new version receives.
    pub weight_percent: u8,
    /// Cause of the state.
    pub reason: String,
    /// Strategy.
    pub strategy: Strategy,
    /// When it was started, Unix time in milliseconds.
    pub created_at_unix_ms: u64,
    /// When it last changed, Unix time in milliseconds.
    pub updated_at_unix_ms: u64,
    /// When the promotion was decided, Unix time in milliseconds.
    pub promotion_decided_at_unix_ms: Option<u64>,
    /// When the rollback was decided, Unix time in milliseconds.
    pub rollback_decided_at_unix_ms: Option<u64>,
    /// The newest 500 decisions, oldest first; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decisions: Option<Vec<Decision>>,
    /// Replicas that a rollout in progress waits for; absent where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<AwaitedReplica>,
    /// In the response to a command: the replicas that route by the resulting table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<Acknowledgement>,
}

/// A replica that a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AwaitedReplica {
    /// ID of the replica.
    pub replica_id: String,
    /// Time since its last report, in milliseconds.
    pub heard_ms_ago: u64,
    /// What it has not done yet. A replica that is silent for 5 s is no longer waited for.
    pub waits_for: String,
}

/// A page of rollouts, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rollouts {
    /// The rollouts.
    pub rollouts: Vec<Rollout>,
    /// `page_token` of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}
