//! Conditions of a status.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A condition, as Kubernetes defines it.
///
/// Source: <https://pkg.go.dev/k8s.io/apimachinery/pkg/apis/meta/v1#Condition>.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// Cause in one word.
    pub reason: String,
    /// Cause, for people.
    pub message: String,
    /// Since when the status is what it is.
    pub last_transition_time: DateTime<Utc>,
    /// Generation of the resource that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// A condition without its time.
    pub(crate) fn new(kind: &str, is_so: bool, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            status: if is_so { "True" } else { "False" }.to_owned(),
            reason: reason.to_owned(),
            message: message.into(),
            ..Self::default()
        }
    }
}

/// Conditions about a generation, each with the time since when it holds.
pub(crate) fn dated(
    conditions: impl Iterator<Item = Condition>,
    before: &[Condition],
    observed_generation: Option<i64>,
    now: DateTime<Utc>,
) -> Vec<Condition> {
    let dated = |condition: Condition| {
        let same = |old: &&Condition| old.kind == condition.kind && old.status == condition.status;
        let last_transition_time = before.iter().find(same).map_or(now, |old| old.last_transition_time);
        Condition { last_transition_time, observed_generation, ..condition }
    };
    conditions.map(dated).collect()
}
