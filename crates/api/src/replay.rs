//! Recorded requests that the rollout controller sends to one serving replica for a drill.

use serde::{Deserialize, Serialize};

use crate::predictions::PredictionRecord;

/// One message: the counts first, then each recorded request, then the end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReplayMessage {
    /// Recorded requests that are sent in all.
    pub found: u64,
    /// Recorded requests that are not, because some of their values are not recorded.
    pub incomplete: u64,
    /// A recorded request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<PredictionRecord>,
    /// Whether it was the last one.
    #[serde(default)]
    pub done: bool,
}
