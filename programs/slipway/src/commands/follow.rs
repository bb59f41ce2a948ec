//! Waits for rollouts and jobs, for people who watch and for scripts that need an exit code.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use slipway_api::rest::rollouts::{Phase, Rollout};
use slipway_client::{Error, RolloutController, Serving};

use crate::output::{self, errln, outln};

const POLL_MS: u64 = 300;
/// A service that restarts is back well within this time.
const MAX_UNREACHABLE: Duration = Duration::from_secs(60);
/// Between the promotion of a first version and its first answer lies one message to the replicas.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How waiting for a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The new version is stable.
    Promoted,
    /// The new version broke a limit, or was taken back.
    RolledBack,
    /// The new version never served.
    Failed,
    /// The rollout waits for a decision by a person.
    Paused,
    /// A person or another rollout ended it.
    Aborted,
    /// The time ran out first.
    TimedOut,
}

/// The exit codes of [`Ending`], for `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes with --wait or --watch: 0 promoted, 3 rolled back, 4 failed to load, \
    5 paused, 6 aborted or superseded, 7 timed out, 1 any other error.";

impl Ending {
    /// The ending that a phase is, if it is one. A pause is one: only a person ends it.
    const fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Promoted => Some(Self::Promoted),
            Phase::RolledBack => Some(Self::RolledBack),
            Phase::Failed => Some(Self::Failed),
            Phase::Paused => Some(Self::Paused),
            Phase::Aborted => Some(Self::Aborted),
            Phase::Preparing | Phase::Progressing | Phase::Promoting | Phase::RollingBack => None,
        }
    }

    /// The exit code, as in [`EXIT_CODES`].
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Promoted => 0,
            Self::RolledBack => 3,
            Self::Failed => 4,
            Self::Paused => 5,
            Self::Aborted => 6,
            Self::TimedOut => 7,
        })
    }
}

/// Where changes of a rollout are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Lines on standard error.
    Standard,
    /// Lines on standard output; JSON where asked for.
    Watch {
        /// One JSON object per line.
        json: bool,
    },
}

impl Progress {
    fn show(self, rollout: &Rollout) {
        let text = summary(rollout);
        match self {
            Self::Standard => errln!("{text}"),
            Self::Watch { json: false } => outln!("{text}"),
            Self::Watch { json: true } => output::json_line(&json!(rollout)),
        }
    }
}

/// Phase, weight and reason on one line.
fn summary(rollout: &Rollout) -> String {
    format!("{}  {} %  {}", rollout.phase, rollout.weight_percent, rollout.reason)
}

/// Reads a resource repeatedly, through a restart of its service.
pub(crate) struct Watch {
    answered_at: Instant,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self { answered_at: Instant::now() }
    }

    /// The resource that was read; `None` while its service is unreachable, for a minute at most.
    pub(crate) fn note<T>(&mut self, read: Result<T, Error>) -> Result<Option<T>, Error> {
        match read {
            Ok(resource) => {
                self.answered_at = Instant::now();
                Ok(Some(resource))
            }
            Err(error) if error.is_transient() && self.answered_at.elapsed() < MAX_UNREACHABLE => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The pause between two reads.
    pub(crate) async fn pause() {
        tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
    }
}

/// The rollout after it ended, or as it was when the time ran out.
pub(crate) async fn rollout(
    controller: &RolloutController,
    started: Rollout,
    deadline: Option<Instant>,
    progress: Progress,
) -> anyhow::Result<(Ending, Rollout)> {
    let mut watch = Watch::new();
    let id = started.id.to_string();
    let (mut shown, mut last) = (String::new(), started);
    loop {
        if let Some(rollout) = watch.note(controller.rollout(&id).await)? {
            let summary = summary(&rollout);
            if summary != shown {
                progress.show(&rollout);
                shown = summary;
            }
            if let Some(ending) = Ending::of(rollout.phase) {
                return Ok((ending, rollout));
            }
            last = rollout;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok((Ending::TimedOut, last));
        }
        Watch::pause().await;
    }
}

/// Waits until serving answers for a deployment; an error says why it does not.
pub(crate) async fn first_answer(
    serving: &Serving,
    deployment: &str,
    deadline: Option<Instant>,
) -> anyhow::Result<()> {
    let latest = Instant::now() + READY_TIMEOUT;
    let latest = deadline.map_or(latest, |deadline| deadline.min(latest));
    loop {
        match serving.ready(deployment).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_about_access() => {
                // The version is promoted, so that every replica has it loaded; only the question is refused.
                errln!("readiness not checked: {error}; SLIPWAY_SERVING_TOKEN is the token for serving");
                return Ok(());
            }
            // A refusal may be that of a replica that has not received the traffic table.
            Err(error) if Instant::now() >= latest => {
                let context = format!("serving does not answer for deployment {deployment}");
                return Err(anyhow::Error::new(error).context(context));
            }
            Err(_) => Watch::pause().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_without_a_next_step_is_an_ending() {
        for phase in [Phase::Preparing, Phase::Progressing, Phase::Promoting, Phase::RollingBack] {
            assert_eq!(Ending::of(phase), None, "{phase}");
        }
        assert_eq!(Ending::of(Phase::Paused), Some(Ending::Paused));
        assert_eq!(Ending::of(Phase::RolledBack), Some(Ending::RolledBack));
    }
}
