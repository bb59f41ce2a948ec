//! A bounded queue of calls that this service refused, for the audit trail.

use std::sync::Arc;

use slipway_access::audit::RefusalLimit;
use slipway_audit::Actor;
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
}

/// Queue of refused calls, and its end for [`super::calls::write_refused`].
pub(crate) fn refusals() -> (Refusals, mpsc::Receiver<RefusedCall>) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    (Refusals { queue, limit: Arc::default() }, receiver)
}

impl Refusals {
    /// Notes a refused call, unless there were too many of them.
    pub(crate) fn note(&self, mut call: RefusedCall) {
        if self.limit.allows() {
            call.path = call.path.chars().take(MAX_PATH_CHARS).collect();
            // A full queue means that Postgres is slow or unreachable; the refusal itself does not depend on
            // it.
            let _ = self.queue.try_send(call);
        }
    }
}
