//! What a rollout is asked to do, and in which phases it does that.

use serde::{Deserialize, Serialize};

use super::state::{Phase, Rollout};

impl Rollout {
    /// Whether `command` is accepted in this phase while the kill switch of the deployment is on or off.
    /// [`step`](super::step) ignores a command that is not.
    ///
    /// While the switch is on, commands that could give a version more traffic are refused. All others stay
    /// available, because they only ever return traffic to the version that served before.
    ///
    /// # Errors
    /// The command does not apply to this phase, or the kill switch forbids it.
    pub fn accepts(&self, command: &Command, kill_switch_on: bool) -> Result<(), Refused> {
        self.accepts_in_phase(command)?;
        if kill_switch_on && matches!(command, Command::Promote | Command::Resume) {
            return Err(Refused { verb: command.verb(), phase: self.phase, why: KILL_SWITCH_IS_ON });
        }
        Ok(())
    }

    fn accepts_in_phase(&self, command: &Command) -> Result<(), Refused> {
        use Phase::{Paused, Preparing, Progressing, Promoted, Promoting, RollingBack};
        let refused = |why| Err(Refused { verb: command.verb(), phase: self.phase, why });
        match (command, self.phase) {
            (Command::Promote, Preparing | Progressing | Paused)
            | (Command::Pause { .. }, Preparing | Progressing)
            | (Command::Resume, Paused)
            | (Command::Abort { .. } | Command::Rollback { .. }, Preparing | Progressing | Paused)
            | (Command::Refuse { .. }, Preparing)
            | (Command::Supersede { .. }, Preparing | Progressing | Paused | RollingBack) => Ok(()),
            (Command::Supersede { .. }, Promoted) if self.undo_requested.is_some() => Ok(()),
            (Command::Delete, _) if self.is_active() => Ok(()),
            (Command::Abort { .. } | Command::Rollback { .. } | Command::Supersede { .. }, Promoting)
            | (Command::Rollback { .. }, Promoted) => {
                if self.from.is_some() {
                    Ok(())
                } else {
                    refused(": no version served before this one")
                }
            }
            _ => refused(""),
        }
    }
}

const KILL_SWITCH_IS_ON: &str = ": the kill switch of its deployment is on, and no version gains traffic \
    until it is turned off with `slipway deployments revive` (DELETE /api/v1/deployments/{name}/kill-switch)";

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
    /// Carry on; the hold and the facts of the current step start again.
    Resume,
    /// End it: all traffic back to stable.
    Abort {
        /// Why.
        reason: String,
    },
    /// All traffic back to the version before, even after promotion.
    Rollback {
        /// Why.
        reason: String,
    },
    /// Fail it before it starts, because its version cannot be rolled out.
    Refuse {
        /// Why.
        reason: String,
    },
    /// End it immediately, without waiting for the replicas: the rollout of another version replaces it. A
    /// promoted rollout that was about to be undone stays promoted.
    Supersede {
        /// The other version.
        by_version: String,
    },
    /// End it immediately, because its deployment and its traffic table are being deleted.
    Delete,
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
            Self::Refuse { .. } => "refuse",
            Self::Supersede { .. } => "supersede",
            Self::Delete => "delete",
        }
    }
}
