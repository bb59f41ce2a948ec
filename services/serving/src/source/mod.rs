//! Where prediction records come from: what the records of a version, and those of a deployment, have in
//! common.

mod feed;
mod policy;

use std::sync::Arc;

pub(crate) use self::feed::Feed;
pub(crate) use self::policy::{RecordPolicy, Redaction};

/// What the records of a version have in common.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    /// Deployment that was called.
    pub deployment: String,
    /// Its model.
    pub model: String,
    /// Version that ran.
    pub version: String,
    /// Output that holds the prediction, where the table says so.
    pub prediction_output: Option<String>,
    /// What of it is recorded.
    pub policy: RecordPolicy,
    /// The deployment's records.
    pub feed: Arc<Feed>,
}
