//! A bounded queue of calls that this service refused, for the audit trail.

use std::sync::Arc;

use slipway_access::audit::{Omitted, RefusalLimit};
use slipway_api::events::CallOutcome;
use slipway_audit::Actor;
use slipway_runtime::clock::now_unix_ms;
use tokio::sync::mpsc;

const QUEUE: usize = 256;
const MAX_PATH_CHARS: usize = 512;

/// A call that this service refused.
#[derive(Debug)]
pub(crate) struct RefusedCall {
    pub(crate) actor: Actor,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) reason: String,
}

/// Takes refused calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Refusals {
    queue: mpsc::Sender<RefusedCall>,
    limit: Arc<RefusalLimit>,
    omitted: Arc<Omitted>,
}

/// What [`super::calls::write_refused`] writes.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) queue: mpsc::Receiver<RefusedCall>,
    pub(crate) omitted: Arc<Omitted>,
}

/// Queue of refused calls, and its end for [`super::calls::write_refused`].
pub(crate) fn refusals() -> (Refusals, Refused) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let omitted: Arc<Omitted> = Arc::default();
    let refusals = Refusals { queue: sender, limit: Arc::default(), omitted: Arc::clone(&omitted) };
    (refusals, Refused { queue, omitted })
}

impl Refusals {
    /// Notes a refused call. Of too many of them, and of those that come while Postgres is slow or
    /// unreachable, the number is noted: the refusal itself does not depend on it.
    pub(crate) fn note(&self, mut call: RefusedCall) {
        call.path = call.path.chars().take(MAX_PATH_CHARS).collect();
        if !self.limit.allows() || self.queue.try_send(call).is_err() {
            self.omitted.count(CallOutcome::Refused, now_unix_ms());
        }
    }
}
