//! Attempts whose pods say that their Secret does not exist.
//!
//! A launcher that ends between creating the Job and creating the Secret leaves a pod that waits for ever.
//! But a pod also says so for a while after the Secret was created: kubelet looks again after some seconds,
//! and the API server may be slow to tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::table::AttemptKey;

/// kubelet tries to start a container again within less than this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// So many of the newest attempts are remembered.
const MAX_CREATED: usize = 10_000;

/// What is known about the Secrets of attempts.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Attempts whose Secrets this launcher has created.
    created: BTreeSet<AttemptKey>,
    /// Since when pods of others say that they have none.
    lacking: BTreeMap<AttemptKey, Instant>,
}

impl Secrets {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the Secret of an attempt was created.
    pub(super) fn note_created(&self, key: AttemptKey) {
        let created = &mut self.lock().created;
        created.insert(key);
        if created.len() > MAX_CREATED {
            // Ids begin with the time: it is the oldest one.
            created.pop_first();
        }
    }

    /// Whether the Secret of an attempt will never be created, if its pod says now that there is none.
    pub(super) fn is_missing(&self, key: &AttemptKey, says_so: bool, now: Instant) -> bool {
        let mut known = self.lock();
        if !says_so || known.created.contains(key) {
            known.lacking.remove(key);
            return false;
        }
        let since = *known.lacking.entry(key.clone()).or_insert(now);
        now.saturating_duration_since(since) >= PATIENCE
    }

    /// Forgets attempts of a job up to `last`.
    pub(super) fn forget(&self, job_id: &str, last: u32) {
        let mut known = self.lock();
        let stays = |key: &AttemptKey| key.0 != job_id || key.1 > last;
        known.created.retain(stays);
        known.lacking.retain(|key, _| stays(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(attempt: u32) -> AttemptKey {
        ("7".to_owned(), attempt)
    }

    #[test]
    fn a_secret_that_this_launcher_has_created_is_not_missing_whatever_a_pod_says() {
        let (secrets, now) = (Secrets::default(), Instant::now());
        assert!(!secrets.is_missing(&key(1), true, now));
        secrets.note_created(key(1));
        assert!(!secrets.is_missing(&key(1), true, now + PATIENCE));
        secrets.forget("7", 1);
        assert!(!secrets.is_missing(&key(1), true, now));
        assert!(secrets.is_missing(&key(1), true, now + PATIENCE), "it is another's by now");
    }

    #[test]
    fn a_secret_of_another_launcher_is_missing_if_its_pod_says_so_for_a_while() {
        let (secrets, now) = (Secrets::default(), Instant::now());
        assert!(!secrets.is_missing(&key(2), true, now));
        assert!(!secrets.is_missing(&key(2), true, now + PATIENCE / 2));
        assert!(!secrets.is_missing(&key(2), false, now + PATIENCE / 2), "it was found");
        assert!(!secrets.is_missing(&key(2), true, now + PATIENCE));
        assert!(secrets.is_missing(&key(2), true, now + PATIENCE * 2));
    }
}
