//! The state of a rollout. Only [`step`](super::step) changes it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    action::{Action, EventKind, Intent},
    clause::{ClauseName, Verdict},
    strategy::Strategy,
};
use crate::{Invalid, traffic::Target};

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Replicas load the new version; no traffic has moved.
    Preparing,
    /// The new version serves the share of the current step.
    Progressing,
    /// Waits for a person; traffic stays as it is. A broken limit still rolls back.
    Paused,
    /// All traffic is going to the new version.
    Promoting,
    /// The new version is stable.
    Promoted,
    /// All traffic is going back to the version before.
    RollingBack,
    /// The version before serves everything: the new one broke a limit, or a person took it back.
    RolledBack,
    /// The new version never served: it does not load.
    Failed,
    /// A person or another rollout ended it.
    Aborted,
}

impl Phase {
    /// Whether nothing happens by itself any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Promoted | Self::RolledBack | Self::Failed | Self::Aborted)
    }

    /// The name that JSON and columns carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Progressing => "progressing",
            Self::Paused => "paused",
            Self::Promoting => "promoting",
            Self::Promoted => "promoted",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }
}

/// What a rollout is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRollout {
    /// Its id.
    pub id: String,
    /// Deployment.
    pub deployment: String,
    /// Version that serves now; absent at the first deployment.
    pub from: Option<Target>,
    /// Version to roll out.
    pub to: Target,
    /// How.
    pub strategy: Strategy,
}

/// A rollout. It holds everything that its future depends on, so it can be stored as it is and carried on
/// elsewhere.
///
/// [`Rollout::start`] makes one, [`step`](super::step) changes it, and the stored form is its JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    pub(super) id: String,
    pub(super) deployment: String,
    pub(super) from: Option<Target>,
    pub(super) to: Target,
    pub(super) strategy: Strategy,
    pub(super) phase: Phase,
    pub(super) step: usize,
    pub(super) reason: String,
    pub(super) phase_since_unix_ms: u64,
    pub(super) window_since_unix_ms: u64,
    /// Last verdict recorded in this window.
    pub(super) last_verdict: Option<Verdict>,
    /// Clauses that judged something in any step so far.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) judged: BTreeSet<ClauseName>,
    /// While paused: the phase to go back to.
    pub(super) paused_in: Option<Phase>,
    /// While rolling back: the phase in which it ends.
    pub(super) ends_as: Option<Phase>,
    /// A person asked to skip the remaining steps; this waits until the version is ready.
    pub(super) promote_requested: bool,
    /// A person asked to undo a promotion; this waits until the version before is ready.
    pub(super) undo_requested: Option<String>,
    pub(super) created_at_unix_ms: u64,
    pub(super) updated_at_unix_ms: u64,
    pub(super) promotion_decided_at_unix_ms: Option<u64>,
    pub(super) rollback_decided_at_unix_ms: Option<u64>,
}

impl Rollout {
    /// A new rollout and its first actions.
    pub fn start(new: NewRollout, now_unix_ms: u64) -> Result<(Self, Vec<Action>), Invalid> {
        new.strategy.validate().map_err(|invalid| invalid.under("strategy"))?;
        if new.from.as_ref().is_some_and(|from| from.version == new.to.version) {
            return Err(Invalid::new("version", format!("version {} is already stable", new.to.version)));
        }
        let rollout = Self {
            id: new.id,
            deployment: new.deployment,
            from: new.from,
            to: new.to,
            strategy: new.strategy,
            phase: Phase::Preparing,
            step: 0,
            reason: "the new version is being loaded".to_owned(),
            phase_since_unix_ms: now_unix_ms,
            window_since_unix_ms: now_unix_ms,
            last_verdict: None,
            judged: BTreeSet::new(),
            paused_in: None,
            ends_as: None,
            promote_requested: false,
            undo_requested: None,
            created_at_unix_ms: now_unix_ms,
            updated_at_unix_ms: now_unix_ms,
            promotion_decided_at_unix_ms: None,
            rollback_decided_at_unix_ms: None,
        };
        let actions = vec![
            Action::PublishEvent { kind: EventKind::Started, reason: String::new() },
            Action::PublishEvent { kind: EventKind::Preparing, reason: rollout.reason.clone() },
            Action::WriteTraffic(Intent::Prepare),
        ];
        Ok((rollout, actions))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Name of its deployment when it started.
    pub fn deployment(&self) -> &str {
        &self.deployment
    }

    /// Version that served before; `None` at the first deployment.
    pub fn from(&self) -> Option<&Target> {
        self.from.as_ref()
    }

    /// Version being rolled out.
    pub fn to(&self) -> &Target {
        &self.to
    }

    /// Steps and limits.
    pub fn strategy(&self) -> &Strategy {
        &self.strategy
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The phase that it is in, or returns to after a pause.
    pub fn unpaused_phase(&self) -> Phase {
        self.paused_in.unwrap_or(self.phase)
    }

    /// Index of the current canary step, from 0.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Why it is where it is, for people.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Facts count from here on, Unix time in milliseconds.
    pub fn window_since_unix_ms(&self) -> u64 {
        self.window_since_unix_ms
    }

    /// Start, Unix time in milliseconds.
    pub fn created_at_unix_ms(&self) -> u64 {
        self.created_at_unix_ms
    }

    /// Last change, Unix time in milliseconds.
    pub fn updated_at_unix_ms(&self) -> u64 {
        self.updated_at_unix_ms
    }

    /// When all traffic was given to the new version, Unix time in milliseconds.
    pub fn promotion_decided_at_unix_ms(&self) -> Option<u64> {
        self.promotion_decided_at_unix_ms
    }

    /// When all traffic was given back, Unix time in milliseconds.
    pub fn rollback_decided_at_unix_ms(&self) -> Option<u64> {
        self.rollback_decided_at_unix_ms
    }

    /// Whether it is in progress towards `version`, and not on its way back from it.
    pub fn leads_to(&self, version: &Target) -> bool {
        self.is_active() && self.to == *version && self.undo_requested.is_none() && self.ends_as.is_none()
    }

    /// Whether it is in progress and replaces `version`.
    pub fn leads_away_from(&self, version: &Target) -> bool {
        self.is_active() && self.from.as_ref() == Some(version)
    }

    /// Whether the controller still has to step it.
    pub fn is_active(&self) -> bool {
        !self.phase.is_final() || self.undo_requested.is_some()
    }

    /// Share of the traffic that the new version is meant to have, in percent.
    pub fn weight_percent(&self) -> u8 {
        match self.intent() {
            Intent::Prepare | Intent::AllToStable => 0,
            Intent::Canary { weight_percent, .. } => weight_percent,
            Intent::AllToNew => 100,
        }
    }

    /// What the traffic table has to say in this state.
    pub fn intent(&self) -> Intent {
        match self.unpaused_phase() {
            Phase::Preparing => Intent::Prepare,
            Phase::Progressing | Phase::Paused => Intent::Canary {
                weight_percent: self.strategy.steps.get(self.step).map_or(0, |step| step.weight_percent),
                shadow_percent: self.strategy.shadow_percent,
            },
            Phase::Promoting | Phase::Promoted => Intent::AllToNew,
            Phase::RollingBack | Phase::RolledBack | Phase::Failed | Phase::Aborted => Intent::AllToStable,
        }
    }
}
