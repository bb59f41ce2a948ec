//! What a step of a rollout asks for.

use super::{analysis::Evidence, clause::Verdict};

/// What a traffic table is to say; [`plan_table`](super::plan_table) makes the table of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Stable serves everything, the new version is loaded.
    Prepare,
    /// The new version gets a share and copies.
    Canary {
        /// The share.
        weight_percent: u8,
        /// Copies.
        shadow_percent: u8,
    },
    /// The new version is stable; the one before is kept loaded.
    AllToNew,
    /// The version before serves everything; the new one may be unloaded.
    AllToStable,
}

/// What an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It exists.
    Started,
    /// The version is being loaded.
    Preparing,
    /// A canary step began.
    Advanced,
    /// It waits for a person.
    Paused,
    /// It carries on.
    Resumed,
    /// The new version is stable.
    Promoted,
    /// Traffic is back at the version before.
    RolledBack,
    /// The version does not load.
    Failed,
    /// It was ended.
    Aborted,
}

impl EventKind {
    /// The last token of the event's subject.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Preparing => "preparing",
            Self::Advanced => "advanced",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }
}

/// What is to be done. Store the new state together with decisions and events in one transaction, then write
/// the table.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Store the table that [`plan_table`](super::plan_table) makes of the new state.
    WriteTraffic(Intent),
    /// Forget the facts; count from [`Rollout::window_since_unix_ms`].
    BeginWindow,
    /// Write down why.
    RecordDecision {
        /// Step that it is about.
        step: usize,
        /// What was found.
        verdict: Verdict,
        /// Why, for people.
        reason: String,
        /// The numbers.
        evidence: Box<Evidence>,
    },
    /// Tell the others.
    PublishEvent {
        /// What.
        kind: EventKind,
        /// Why.
        reason: String,
    },
}
