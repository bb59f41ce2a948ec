//! Since when leases have not been renewed, as this launcher has seen it.
//!
//! Renewals are counted in Postgres. How long a count stays the same is measured here, with the monotonic
//! clock: neither a clock that is set nor one that differs from another machine's ends an attempt early.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::store::jobs::Active;

/// What was seen of each attempt.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    attempts: HashMap<(Uuid, u32), Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    renewals: i64,
    since: Instant,
    /// Since when some of its processes hold nodes while others find none.
    partial_since: Option<Instant>,
}

impl Observed {
    /// Notes what is stored now. Of attempts that are not among `active`, nothing is kept.
    pub(crate) fn note(&mut self, active: &[Active], now: Instant) {
        let before = std::mem::take(&mut self.attempts);
        self.attempts = active
            .iter()
            .map(|job| {
                let attempt = (job.id, job.state.attempt());
                let unchanged = before.get(&attempt).filter(|seen| seen.renewals == job.renewals);
                let fresh = Seen { renewals: job.renewals, since: now, partial_since: None };
                (attempt, unchanged.copied().unwrap_or(fresh))
            })
            .collect();
    }

    /// How long the lease of a job's attempt has not been renewed.
    pub(crate) fn unrenewed(&self, job: &Active, now: Instant) -> Duration {
        let seen = self.attempts.get(&(job.id, job.state.attempt()));
        seen.map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen.since))
    }

    /// The agent of a job's attempt could not renew its lease until now.
    pub(crate) fn touch(&mut self, job: &Active, now: Instant) {
        if let Some(seen) = self.attempts.get_mut(&(job.id, job.state.attempt())) {
            seen.since = now;
        }
    }

    /// Notes whether some processes of a job's attempt hold nodes while others find none, and answers for how
    /// long that has been so.
    pub(crate) fn partial(&mut self, job: &Active, is_partial: bool, now: Instant) -> Duration {
        let Some(seen) = self.attempts.get_mut(&(job.id, job.state.attempt())) else { return Duration::ZERO };
        seen.partial_since = is_partial.then(|| seen.partial_since.unwrap_or(now));
        seen.partial_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Renewals may have failed or stayed unseen: what was seen before proves nothing.
    pub(crate) fn forget(&mut self) {
        self.attempts.clear();
    }
}
