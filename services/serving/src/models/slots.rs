//! Versions by their digest: how far each is, and the task that loads it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use slipway_api::traffic::{Target, TrafficTable, VersionState};
use slipway_domain::ensemble::Definition;
use slipway_inference::Signature;
use slipway_runtime::task;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::failure::{LoadFailure, Retry};
use super::labels::Labels;
use super::loader::Loader;
use super::opener::Loaded;
use super::resident::{Absent, Resident};
use super::served::{Beside, Described, Served};
use crate::models::ensemble::{Cause, Unbound};

const RETRY_INITIAL_MS: u64 = 200;
const RETRY_MAX_MS: u64 = 10_000;
/// Longest pause where registry or artifact store answered, and do not give the version.
const RETRY_WITHHELD_MAX_MS: u64 = 60_000;

/// A digest that some table names, or that is kept for a rollback.
pub(super) struct Slot {
    /// Which version of its model it is.
    pub(super) target: Target,
    /// Its model.
    pub(super) model: String,
    /// How far it is. One that was unloaded to make room stays ready: it answers.
    pub(super) state: VersionState,
    /// Why it failed, or what its loading waits for.
    pub(super) reason: Option<String>,
    /// Its place in memory.
    pub(super) resident: Arc<Resident>,
    /// Whether no table names it.
    pub(super) spare: bool,
    /// What an ensemble consists of, and what comes with it.
    pub(super) ensemble: Option<(Arc<Definition>, Beside)>,
    /// Whether it is an ensemble that waits for a model which no table names.
    pub(super) misses_model: bool,
    load: Option<Load>,
}

/// A load in progress.
struct Load {
    /// Tells outcomes of an earlier load of the same digest apart.
    number: u64,
    task: AbortHandle,
}

/// What a load is of.
struct LoadRequest {
    target: Target,
    model: String,
    /// The number that its outcomes carry.
    number: u64,
    /// Whether the version has been in memory before.
    was_there: bool,
}

/// What an ensemble takes and gives, and the names of its classes; or why it cannot be served.
pub(super) type Binding = Result<(Signature, Labels), Unbound>;

/// How a load went.
pub(super) struct Outcome {
    /// What was loaded.
    pub(super) digest: String,
    /// The number with which it was started.
    pub(super) load: u64,
    /// What came of it.
    pub(super) result: Result<Loaded, LoadFailure>,
}

impl Slot {
    /// A slot of nothing yet.
    pub(super) fn new(target: Target, model: String, demands: mpsc::Sender<String>) -> Self {
        let resident = Arc::new(Resident::new(&target.digest, demands));
        Self {
            target,
            model,
            state: VersionState::Loading,
            reason: None,
            resident,
            spare: false,
            ensemble: None,
            misses_model: false,
            load: None,
        }
    }

    /// Whether it is being loaded.
    pub(super) const fn is_loading(&self) -> bool {
        self.load.is_some()
    }

    /// Takes another name of its model, under which the registry is asked from now on; says whether it has to
    /// be loaded again, since it failed under the name before, or is still being requested under it.
    pub(super) fn renamed(&mut self, model: &str) -> bool {
        if self.model == model {
            return false;
        }
        model.clone_into(&mut self.model);
        let failed = self.state == VersionState::Failed && self.ensemble.is_none();
        if failed {
            (self.state, self.reason) = (VersionState::Loading, None);
        }
        failed || self.load.is_some()
    }

    /// Has it loaded; the outcome carries `number`.
    pub(super) fn begin(&mut self, loader: Loader, number: u64, outcomes: mpsc::Sender<Outcome>) {
        let (target, model) = (self.target.clone(), self.model.clone());
        let was_there = self.resident.described().is_some();
        let request = LoadRequest { target, model, number, was_there };
        let load = load_until_settled(loader, request, outcomes);
        let task = task::detached("model-load", load).abort_handle();
        // One that is still retried asks under another name of the model.
        if let Some(before) = self.load.replace(Load { number, task }) {
            before.task.abort();
        }
    }

    /// Takes the outcome of its load; `false` for one of an earlier load.
    pub(super) fn finish(&mut self, outcome: Outcome) -> bool {
        if self.load.as_ref().is_none_or(|load| load.number != outcome.load) {
            return false;
        }
        match outcome.result {
            Ok(Loaded::Model(served)) => {
                (self.state, self.reason, self.load) = (VersionState::Ready, None, None);
                self.resident.fill(Arc::new(served));
            }
            // Whether it can be served, its models say.
            Ok(Loaded::Ensemble(definition, beside)) => {
                (self.ensemble, self.load) = (Some((definition, beside)), None);
            }
            Err(LoadFailure { reason, retry: Retry::Soon }) => {
                // Whatever its state was: a version that was ready goes on, one that had failed still has.
                self.reason = Some(reason);
            }
            Err(LoadFailure { reason, retry }) => {
                self.resident.refuse(Absent::Refused(reason.clone()));
                (self.state, self.reason) = (VersionState::Failed, Some(reason));
                if retry == Retry::Never {
                    self.load = None;
                }
            }
        }
        true
    }

    /// Takes what the models of an ensemble say: what it takes and gives as a whole, or why it cannot be
    /// served. Until `all_known`, a model that is not here is about to come.
    pub(super) fn bound(&mut self, bound: Binding, all_known: bool) {
        let Some((definition, beside)) = &self.ensemble else { return };
        let bound = bound.and_then(|(signature, labels)| {
            let beside = Beside { labels, ..beside.clone() };
            match beside.check(&signature) {
                Ok(()) => Ok((signature, beside)),
                Err(reason) => Err(Unbound { reason, cause: Cause::Unfit }),
            }
        });
        match bound {
            Ok((signature, beside)) => {
                let is_same =
                    |known: &Described| known.signature == signature && known.beside.labels == beside.labels;
                if self.resident.served().is_none_or(|served| !is_same(&served.described)) {
                    let served = Served::ensemble(Arc::clone(definition), beside, signature);
                    self.resident.fill(Arc::new(served));
                }
                (self.state, self.reason, self.misses_model) = (VersionState::Ready, None, false);
            }
            Err(Unbound { reason, cause }) => {
                let state = if cause == Cause::Unfit { VersionState::Failed } else { VersionState::Loading };
                let misses_model = cause == Cause::Missing && all_known;
                let before = (self.state, self.reason.as_deref(), self.misses_model);
                let (model, Target { version, digest }) = (&self.model, &self.target);
                match cause {
                    _ if before == (state, Some(&reason), misses_model) => {}
                    Cause::Unfit => {
                        tracing::warn!(model, version, digest, reason, "ensemble is not servable");
                    }
                    Cause::Missing if misses_model => {
                        tracing::warn!(
                            model,
                            version,
                            digest,
                            reason,
                            "ensemble waits for a model that does not exist"
                        );
                    }
                    _ => tracing::debug!(model, version, digest, reason, "ensemble waits for its models"),
                }
                (self.state, self.reason, self.misses_model) = (state, Some(reason), misses_model);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(load) = &self.load {
            load.task.abort();
        }
        self.resident.refuse(Absent::Gone);
    }
}

/// Whether a table can answer all its traffic: by its stable version, or by all candidates where it has none.
pub(super) fn serves(table: &TrafficTable, slots: &HashMap<String, Slot>) -> bool {
    let ready = |target: &Target| is_ready(target, slots);
    match &table.stable {
        Some(stable) => ready(stable),
        None => table.candidates.iter().all(|entry| entry.weight_percent == 0 || ready(&entry.target)),
    }
}

/// Whether a version answers.
pub(super) fn is_ready(target: &Target, slots: &HashMap<String, Slot>) -> bool {
    slots.get(&target.digest).is_some_and(|slot| slot.state == VersionState::Ready)
}

/// Whether a version does not load.
pub(super) fn has_failed(target: &Target, slots: &HashMap<String, Slot>) -> bool {
    slots.get(&target.digest).is_some_and(|slot| slot.state == VersionState::Failed)
}

/// Whether a table does not answer, and is not about to: there is nothing to keep it for.
pub(super) fn hopeless(table: &TrafficTable, slots: &HashMap<String, Slot>) -> bool {
    table.stable.as_ref().is_some_and(|stable| has_failed(stable, slots))
}

async fn load_until_settled(
    loader: Loader,
    LoadRequest { target, model, number: load, was_there }: LoadRequest,
    outcomes: mpsc::Sender<Outcome>,
) {
    let mut delay_ms = RETRY_INITIAL_MS;
    loop {
        let loaded = loader.load(&model, &target).await;
        let result = loaded.map_err(|failure| judged(failure, was_there));
        let retry = result.as_ref().map_or_else(|failure| failure.retry, |_loaded| Retry::Never);
        let outcome = Outcome { digest: target.digest.clone(), load, result };
        // The manager is gone only at the shutdown.
        if outcomes.send(outcome).await.is_err() || retry == Retry::Never {
            return;
        }
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        let longest_ms = if retry == Retry::Later { RETRY_WITHHELD_MAX_MS } else { RETRY_MAX_MS };
        delay_ms = (delay_ms * 2).min(longest_ms);
    }
}

/// What has been loaded before is not broken: where it does not load again, something else is short, and
/// trying again may help.
fn judged(failure: LoadFailure, was_there: bool) -> LoadFailure {
    if was_there { LoadFailure { retry: Retry::Soon, ..failure } } else { failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_was_there_is_never_given_up() {
        let failure = |retry| LoadFailure { reason: "no memory".into(), retry };
        for retry in [Retry::Soon, Retry::Later, Retry::Never] {
            assert_eq!(judged(failure(retry), true), failure(Retry::Soon));
            assert_eq!(judged(failure(retry), false), failure(retry));
        }
    }

    #[test]
    fn a_load_that_fails_decides_the_state_by_whether_it_is_tried_again() {
        let (demands, _asked) = mpsc::channel(1);
        let target = Target { version: "1".into(), digest: "sha256:a".into() };
        let mut slot = Slot::new(target, "points".into(), demands);
        slot.state = VersionState::Ready;
        for (retry, state, loads) in [
            (Retry::Soon, VersionState::Ready, true),
            (Retry::Later, VersionState::Failed, true),
            (Retry::Soon, VersionState::Failed, true),
            (Retry::Never, VersionState::Failed, false),
        ] {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            slot.load = Some(Load { number: 1, task: runtime.spawn(async {}).abort_handle() });
            let result = Err(LoadFailure { reason: "no memory".into(), retry });
            assert!(slot.finish(Outcome { digest: "sha256:a".into(), load: 1, result }));
            assert_eq!((slot.state, slot.reason.as_deref()), (state, Some("no memory")));
            assert_eq!(slot.is_loading(), loads);
        }
    }
}
