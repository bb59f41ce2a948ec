//! The faults of drills: each fails a request as the real failure does, with its class and message.

use std::time::Duration;

use slipway_api::traffic::Fault;
use slipway_inference::Error;

use super::call::Call;
use super::missed::Missed;
use super::waiting::patience;
use crate::metrics::Outcome;
use crate::models::{Absent, LOAD_WAIT_MS};
use crate::source::Source;

/// A fault that a request meets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met<'drill> {
    /// The fault.
    pub fault: Fault,
    /// Identity of the drill, for the message.
    pub drill_id: &'drill str,
}

/// What a fault does to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Consequence {
    /// How much longer it takes.
    pub added: Duration,
    /// Why there is no answer then, where there is none.
    pub missed: Option<Missed>,
}

impl Met<'_> {
    /// What it does to a request.
    pub(super) fn consequence(self, call: &Call<'_>, source: &Source) -> Consequence {
        let Source { deployment, version, .. } = source;
        let id = self.drill_id;
        let refused = |reason: String| Missed {
            outcome: Outcome::Failure,
            failure: Absent::Refused(reason).failure(deployment, version),
        };
        let (limit, late) = patience(call.timeout_us);
        let at_once = |missed| Consequence { added: Duration::ZERO, missed: Some(missed) };
        match self.fault {
            Fault::NotLoading => at_once(refused(format!("the model does not load (drill {id})"))),
            Fault::OutOfMemory => at_once(refused(format!(
                "the system killed (SIGKILL) the child process that loads it first, as it does when memory \
                 runs out (drill {id})"
            ))),
            Fault::Errors => at_once(Error::Runtime(format!("drill {id}")).into()),
            // It is tried again as long as the request waits, and the request waits no longer than that.
            Fault::StorageGone => {
                let load_wait = Duration::from_millis(LOAD_WAIT_MS);
                let missed = if limit < load_wait {
                    late.into()
                } else {
                    Absent::Late(load_wait).failure(deployment, version).into()
                };
                Consequence { added: limit.min(load_wait), missed: Some(missed) }
            }
            Fault::Latency { added_ms } => {
                let added = Duration::from_millis(added_ms);
                let missed = (added >= limit).then(|| late.into());
                Consequence { added: added.min(limit), missed }
            }
        }
    }

    /// Lets a request of a user meet the fault.
    ///
    /// # Errors
    /// The fault.
    pub(super) async fn endure(self, call: &Call<'_>, source: &Source) -> Result<(), Missed> {
        let Consequence { added, missed } = self.consequence(call, source);
        if !added.is_zero() {
            tokio::time::sleep(added).await;
        }
        missed.map_or(Ok(()), Err)
    }
}
