//! True values for past predictions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// True values for past predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// 1 to 10000 entries.
    pub labels: Vec<Label>,
}

/// The true value of a prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// ID of the prediction request: the header `X-Request-Id` of its response.
    pub request_id: String,
    /// A number, a string or a boolean, or an array of these with one for each row of the request.
    pub label: serde_json::Value,
}

/// Labels that were stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedLabels {
    /// Number of labels.
    pub accepted: usize,
}
