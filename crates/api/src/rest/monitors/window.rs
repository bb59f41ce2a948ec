//! Closed windows, verdicts and actions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::score::{ColumnScore, WindowScores};
use super::spec::ActionKind;

/// A closed window with its scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Window {
    /// Number of the window, from 1.
    pub sequence: i64,
    /// When its first row arrived.
    pub opened_at: DateTime<Utc>,
    /// When it closed.
    pub closed_at: DateTime<Utc>,
    /// Rows.
    pub rows: i64,
    /// Whether it drifted.
    pub drifted: bool,
    /// Version whose training data was the baseline.
    pub baseline_version: String,
    /// Rows whose records left the stream before they were read.
    pub rows_lost: i64,
    /// Rows whose records were dropped by serving replicas because their queue was full.
    pub rows_dropped: i64,
    /// Rows of requests too large to be recorded, and of records without inputs.
    pub rows_not_recorded: i64,
    /// Scores of every column, and the reasons.
    pub scores: WindowScores,
}

/// A page of windows, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Windows {
    /// The windows.
    pub windows: Vec<Window>,
    /// `page_token` of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// What a verdict says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Drift was detected.
    Detected,
    /// Drift has cleared.
    Cleared,
}

/// A detection of drift, or its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftVerdict {
    /// ID of the event.
    pub event_id: Uuid,
    /// Whether drift was detected or cleared.
    pub what: VerdictKind,
    /// Version whose training data was the baseline.
    pub baseline_version: String,
    /// Numbers of the windows that led to it.
    pub windows: Vec<i64>,
    /// The scores that led to it.
    pub evidence: DriftEvidence,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
}

/// Scores of the window that decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftEvidence {
    /// Rows in the window.
    pub rows: u64,
    /// Whether the window could be judged.
    pub conclusive: bool,
    /// Whether the window drifted.
    pub drifted: bool,
    /// Share of compared inputs that drifted, 0 to 1.
    pub share_drifted: f64,
    /// Whether an output drifted.
    pub predictions_drifted: bool,
    /// Whether a few rows repeat.
    pub rows_repeated: bool,
    /// Distinct rows among those that were checked for repetition.
    pub distinct_rows: u64,
    /// Why it drifted.
    pub reasons: Vec<String>,
    /// Number of inputs that are left out of `features`, because there are too many for an event.
    pub features_left_out: u64,
    /// Inputs, those that moved most first.
    pub features: Vec<ColumnScore>,
    /// Outputs, those that moved most first.
    pub predictions: Vec<ColumnScore>,
}

/// A page of verdicts, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftVerdicts {
    /// The verdicts.
    pub verdicts: Vec<DriftVerdict>,
    /// `page_token` of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// State of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionStatus {
    /// Not performed yet, or to be retried.
    Pending,
    /// Performed.
    Done,
    /// Rejected permanently; `last_error` has the cause.
    Failed,
}

/// An action that a detection led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Action {
    /// ID.
    pub id: i64,
    /// ID of the verdict's event.
    pub event_id: Uuid,
    /// What it does.
    pub action: ActionKind,
    /// State.
    pub status: ActionStatus,
    /// Number of attempts.
    pub attempts: i32,
    /// Error of the last attempt.
    pub last_error: Option<String>,
    /// Result, once performed.
    pub result: Option<ActionResult>,
    /// Idempotency key of the request to the other service.
    pub idempotency_key: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was performed or rejected.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Result of an action.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ActionResult {
    /// The submitted job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The paused rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_id: Option<String>,
    /// Phase of that rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A page of actions, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Actions {
    /// The actions.
    pub actions: Vec<Action>,
    /// `page_token` of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}
