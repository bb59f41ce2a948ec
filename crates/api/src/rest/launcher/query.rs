//! Query strings.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::job::JobStatus;

/// Filters and paging of a list of jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct JobsQuery {
    /// Only jobs with this status.
    #[param(value_type = Option<JobStatus>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page [default: the first page].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// Which part of the output of a job to read, and whether to wait for more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// Only this attempt [default: all attempts, in order].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Number of a process of a distributed job [default: 0].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    /// First byte of the log of `attempt` [default: 0].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Waits for further output until the job, or `attempt`, has ended [default: false].
    #[serde(default)]
    pub follow: bool,
}
