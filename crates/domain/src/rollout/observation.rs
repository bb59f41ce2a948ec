//! What is known of the world at one moment.

use serde::{Deserialize, Serialize};

use super::{command::Command, facts::WindowFacts};

/// How far the replicas are with a version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Readiness {
    /// No replica has said anything.
    #[default]
    Unknown,
    /// Some replica is still loading it.
    Loading,
    /// Some replica is still loading it, and says what that waits for.
    Waiting {
        /// What for.
        reason: String,
    },
    /// Every replica can answer with it immediately.
    Ready,
    /// Some replica cannot load it.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Readiness {
    /// The readiness of a version on all replicas together.
    pub fn of_all(replicas: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::Unknown;
        for (index, replica) in replicas.into_iter().enumerate() {
            all = match (all, replica) {
                (failed @ Self::Failed { .. }, _) | (_, failed @ Self::Failed { .. }) => failed,
                (waiting @ Self::Waiting { .. }, _) | (_, waiting @ Self::Waiting { .. }) => waiting,
                (Self::Ready, Self::Ready) => Self::Ready,
                (_, first) if index == 0 => first,
                _ => Self::Loading,
            };
        }
        all
    }
}

/// How the traffic table compares with what the rollout's state asks for ([`Rollout::intent`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TableState {
    /// The stored table says something else, or there is none.
    #[default]
    Differs,
    /// It is stored; some live replica has not confirmed its revision.
    Written,
    /// Every live replica routes by it.
    Applied,
}

/// What is known at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observation {
    /// The moment, Unix time in milliseconds.
    pub now_unix_ms: u64,
    /// The new version on the replicas.
    pub target: Readiness,
    /// The version before on the replicas; matters only to undo a promotion.
    pub previous: Readiness,
    /// The traffic table.
    pub table: TableState,
    /// Whether the kill switch of the deployment is on: no version gains traffic then.
    pub kill_switch_on: bool,
    /// Records and labels since [`Rollout::window_since_unix_ms`].
    pub facts: WindowFacts,
    /// What was asked for and not yet acted on.
    pub command: Option<Command>,
}
