//! Attempts whose objects the API server has not accepted yet: an API server that is down for a while ends no
//! attempt.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slipway_domain::training::Outcome;

use super::Kubernetes;
use super::apply::Failure;
use super::table::AttemptKey;
use crate::backend::{Launch, Seen};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// An attempt whose objects are to be created.
#[derive(Debug, Clone)]
pub(super) struct Start {
    launch: Launch,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Will be tried again.
    Waiting { reason: String },
    /// Will never be accepted.
    Refused { reason: String },
}

impl Start {
    pub(super) const fn waiting(launch: Launch, reason: String) -> Self {
        Self { launch, state: State::Waiting { reason } }
    }

    const fn waits(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Starts {
    starts: Mutex<BTreeMap<AttemptKey, Start>>,
}

impl Starts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptKey, Start>> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one waits to be tried again.
    pub(super) fn is_any_waiting(&self) -> bool {
        self.lock().values().any(Start::waits)
    }

    pub(super) fn add(&self, key: AttemptKey, start: Start) {
        self.lock().insert(key, start);
    }

    /// What is known of such an attempt.
    pub(super) fn seen(&self, key: &AttemptKey) -> Option<Seen> {
        self.lock().get(key).map(|start| match &start.state {
            State::Waiting { reason } => {
                Seen::pending(format!("the API server does not accept its Job yet: {reason}"))
            }
            State::Refused { reason } => {
                Seen::Ended { outcome: Outcome::NotStarted { reason: reason.clone() } }
            }
        })
    }

    /// Gives up attempts of a job up to `last`.
    pub(super) fn forget(&self, job_id: &str, last: u32) {
        self.lock().retain(|(id, attempt), _| id != job_id || *attempt > last);
    }

    pub(super) fn keys(&self) -> Vec<AttemptKey> {
        self.lock().keys().cloned().collect()
    }

    /// One that is to be tried.
    fn next(&self) -> Option<(AttemptKey, Launch)> {
        let starts = self.lock();
        let waiting = starts.iter().find(|(_, start)| start.waits());
        waiting.map(|(key, start)| (key.clone(), start.launch.clone()))
    }

    /// Notes what came of a try, unless the attempt was given up meanwhile. Returns whether it was.
    fn note(&self, key: &AttemptKey, result: &Result<(), Failure>) -> bool {
        let mut starts = self.lock();
        let Some(start) = starts.get_mut(key) else { return true };
        match result {
            Ok(()) => drop(starts.remove(key)),
            Err(Failure::Passing(reason)) => start.state = State::Waiting { reason: reason.clone() },
            Err(Failure::Final(reason)) => start.state = State::Refused { reason: reason.clone() },
        }
        false
    }
}

impl Kubernetes {
    /// Retries what the API server did not accept. Does not return.
    pub(super) async fn retry_starts(&self) {
        let starts = &self.cluster.starts;
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            while let Some((key, launch)) = starts.next() {
                let result = self.create(&launch).await;
                let is_given_up = starts.note(&key, &result);
                self.cluster.watched.news.notify_one();
                if is_given_up && let Err(error) = self.give_up(&key).await {
                    tracing::debug!(%error, "a Job that is not needed is deleted later");
                }
                if let Err(Failure::Passing(_)) = result {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    break;
                }
                pause = FIRST_PAUSE;
            }
        }
    }

    async fn give_up(&self, key: &AttemptKey) -> Result<usize, crate::backend::Error> {
        use crate::backend::Backend as _;
        self.end_leftovers(&key.0, key.1).await
    }
}
