//! The state of a rollout, what is observed of the world, and what is to be done.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    analysis::{ClauseName, Evidence, Verdict},
    facts::WindowFacts,
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

/// A rollout. It holds everything that its future depends on, so it can be stored as it is and carried on elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its id.
    pub id: String,
    /// Deployment.
    pub deployment: String,
    /// Version that served before; absent at the first deployment.
    pub from: Option<Target>,
    /// Version being rolled out.
    pub to: Target,
    /// How.
    pub strategy: Strategy,
    /// Where it is.
    pub phase: Phase,
    /// Index of the current canary step.
    pub step: usize,
    /// Why it is where it is, for people.
    pub reason: String,
    /// When the phase began.
    pub phase_since_unix_ms: u64,
    /// Facts count from here on.
    pub window_since_unix_ms: u64,
    /// Last verdict recorded in this window.
    pub last_verdict: Option<Verdict>,
    /// Clauses that judged something in any step so far.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub judged: BTreeSet<ClauseName>,
    /// While paused: the phase to go back to.
    pub paused_in: Option<Phase>,
    /// While rolling back: the phase in which it ends.
    pub ends_as: Option<Phase>,
    /// A person asked to skip what is left; it waits for the version to be ready.
    pub promote_requested: bool,
    /// A person asked to undo a promotion; it waits for the version before to be ready.
    pub undo_requested: Option<String>,
    /// Start.
    pub created_at_unix_ms: u64,
    /// Last change.
    pub updated_at_unix_ms: u64,
    /// When all traffic was given to the new version.
    pub promotion_decided_at_unix_ms: Option<u64>,
    /// When all traffic was given back.
    pub rollback_decided_at_unix_ms: Option<u64>,
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
        match self.paused_in.unwrap_or(self.phase) {
            Phase::Preparing => Intent::Prepare,
            Phase::Progressing | Phase::Paused => Intent::Canary {
                weight_percent: self.strategy.steps.get(self.step).map_or(0, |step| step.weight_percent),
                shadow_percent: self.strategy.shadow_percent,
            },
            Phase::Promoting | Phase::Promoted => Intent::AllToNew,
            Phase::RollingBack | Phase::RolledBack | Phase::Failed | Phase::Aborted => Intent::AllToStable,
        }
    }

    /// Whether `command` is accepted in this phase while the kill switch of the deployment is on or off.
    /// [`step`](super::step) ignores a command that is not.
    ///
    /// While the switch is on, commands that could give a version more traffic are refused. Pause, abort and rollback
    /// stay available, because they only ever return traffic to the version that served before.
    pub fn accepts(&self, command: &Command, kill_switch_on: bool) -> Result<(), Refused> {
        self.accepts_in_phase(command)?;
        if kill_switch_on && matches!(command, Command::Promote | Command::Resume) {
            return Err(Refused { verb: command.verb(), phase: self.phase, why: KILL_SWITCH_IS_ON });
        }
        Ok(())
    }

    fn accepts_in_phase(&self, command: &Command) -> Result<(), Refused> {
        let refuse = |verb: &'static str| Refused { verb, phase: self.phase, why: "" };
        let undoable = self.from.is_some();
        match (command, self.phase) {
            (Command::Promote, Phase::Preparing | Phase::Progressing | Phase::Paused)
            | (Command::Pause { .. }, Phase::Preparing | Phase::Progressing)
            | (Command::Resume, Phase::Paused)
            | (
                Command::Abort { .. } | Command::Rollback { .. },
                Phase::Preparing | Phase::Progressing | Phase::Paused,
            ) => Ok(()),
            (Command::Abort { .. } | Command::Rollback { .. }, Phase::Promoting)
            | (Command::Rollback { .. }, Phase::Promoted) => {
                let why = ": no version served before this one";
                if undoable { Ok(()) } else { Err(Refused { why, ..refuse(command.verb()) }) }
            }
            _ => Err(refuse(command.verb())),
        }
    }
}

const KILL_SWITCH_IS_ON: &str = ": the kill switch of its deployment is on, and no version gains traffic until it is \
    turned off with `slipway deployments revive` (DELETE /api/v1/deployments/{name}/kill-switch)";

/// A command that the rollout's phase, or the kill switch, does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot {verb} a rollout that is {}{why}", .phase.as_str())]
pub struct Refused {
    /// The command.
    pub verb: &'static str,
    /// The phase.
    pub phase: Phase,
    why: &'static str,
}

/// What a person, an event or another rollout asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Skip what is left and give the new version all traffic, once it is ready.
    Promote,
    /// Stay as it is.
    Pause {
        /// Why, e.g. the drift event.
        reason: String,
    },
    /// Carry on; the current step's hold and facts begin anew.
    Resume,
    /// End it: all traffic back to stable. A newer rollout that takes over aborts with a reason that says so.
    Abort {
        /// Why.
        reason: String,
    },
    /// All traffic back to the version before, even after promotion.
    Rollback {
        /// Why.
        reason: String,
    },
}

impl Command {
    /// Its name.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::Abort { .. } => "abort",
            Self::Rollback { .. } => "roll back",
        }
    }
}

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
    /// Every replica answers with it at once.
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

/// What is to be done. Store the new state together with decisions and events in one transaction, then write the table.
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
