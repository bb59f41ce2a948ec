//! Monitors and their state.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::spec::MonitorSpec;

/// State of a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MonitorState {
    /// The baseline is not available yet; `reason` has the cause.
    WaitingForBaseline,
    /// No drift is detected.
    Watching,
    /// Drift was detected and has not cleared.
    Drifted,
}

/// A monitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Monitor {
    /// Name.
    pub name: String,
    /// Deployment.
    pub deployment: String,
    /// Registered model.
    pub model: String,
    /// State.
    pub state: MonitorState,
    /// Cause of the state.
    pub reason: String,
    /// Version whose training data is the baseline.
    pub baseline_version: Option<String>,
    /// Whether the baseline follows the stable version of the deployment.
    pub follows_stable: bool,
    /// Number of closed windows.
    pub windows_closed: i64,
    /// The window that is being filled.
    pub open_window: Option<OpenWindow>,
    /// ID of the deployment.
    pub deployment_id: Option<String>,
    /// While drifted: the columns and predictions that were reported.
    pub drifted_parts: BTreeSet<String>,
    /// When drift was last detected, Unix time in milliseconds.
    pub detected_at_unix_ms: Option<u64>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Specification.
    pub spec: MonitorSpec,
}

/// The window that is being filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenWindow {
    /// Rows so far.
    pub rows: u64,
    /// When its first row arrived.
    pub opened_at: Option<DateTime<Utc>>,
    /// Rows whose records left the stream before they were read.
    #[serde(default)]
    pub rows_lost: u64,
    /// Rows whose records were dropped by serving replicas because their queue was full.
    #[serde(default)]
    pub rows_dropped: u64,
    /// Rows of requests too large to be recorded, and of records without inputs.
    #[serde(default)]
    pub rows_not_recorded: u64,
}

/// A page of monitors, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Monitors {
    /// The monitors.
    pub monitors: Vec<Monitor>,
    /// `page_token` of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}
