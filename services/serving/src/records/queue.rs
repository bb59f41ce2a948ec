//! Records on their way from requests to the publisher.

use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::pending::Pending;

/// Records on their way. Requests only push; the publisher takes all at once, so that it is not woken for
/// each.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Records that no message holds yet.
    pub(super) waiting: Mutex<Pending>,
    /// Memory of their tensors.
    pub(super) bytes: AtomicUsize,
    /// There is a first one.
    pub(super) arrived: Notify,
    /// There is a batch of them.
    pub(super) full: Notify,
}

impl Queue {
    pub(super) fn lock(&self) -> MutexGuard<'_, Pending> {
        // Each change is one push or one take, so the records are whole after any panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Takes what waits, and leaves something empty in its place.
    pub(super) fn take(&self, empty: Pending) -> Pending {
        std::mem::replace(&mut *self.lock(), empty)
    }
}
