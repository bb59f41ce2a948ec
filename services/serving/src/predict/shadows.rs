//! Copies of requests for shadow versions.

use std::sync::Arc;
use std::time::Duration;

use slipway_api::predictions::Variant;
use slipway_domain::traffic::{shadows_for, stable_hash};
use slipway_inference::Tensor;
use tokio::sync::OwnedSemaphorePermit;

use super::attempt::Attempt;
use super::call::Call;
use super::missed::Missed;
use super::predictor::{MAX_SHADOWS, Predictor};
use super::run::recorded_reason;
use crate::metrics::Outcome;
use crate::models::routing::{Pick, Route};
use crate::records::Primary;

/// Shadows may take this long after the last request.
const DRAIN_MS: u64 = 2_000;

/// A copy of a request, on its way to one shadow.
struct Copy {
    request_id: String,
    shadow: Pick,
    inputs: Arc<Vec<Tensor>>,
    /// The answer that the client got.
    primary: Primary,
}

impl Predictor {
    /// Waits for the shadows that still run, for a while.
    pub(crate) async fn drain(&self) {
        self.shadow_tasks.close();
        let limit = Duration::from_millis(DRAIN_MS);
        if tokio::time::timeout(limit, self.shadow_tasks.wait()).await.is_err() {
            tracing::warn!(limit_ms = DRAIN_MS, "shadow requests interrupted by shutdown");
        }
    }

    /// Sends copies of a request that was answered with `outputs` to the shadows of the table.
    pub(super) fn copy_to_shadows(&self, route: &Route, answered: Attempt<'_>, outputs: &Arc<Vec<Tensor>>) {
        let Attempt { call, pick, inputs, .. } = answered;
        if route.table.shadows.is_empty() || pick.variant == Variant::Pinned {
            return;
        }
        let Some(version) = route.versions.get(&pick.source.version) else { return };
        for target in shadows_for(&route.table, &version.target, stable_hash(&[call.request_id])) {
            let Some(shadow) = route.shadow(target) else { continue };
            let Some(permit) = self.shadow_permit(&shadow) else {
                self.metrics.shadow_dropped();
                continue;
            };
            let copy = Copy {
                request_id: call.request_id.to_owned(),
                shadow,
                inputs: Arc::clone(inputs),
                primary: Primary { source: Arc::clone(&pick.source), outputs: Arc::clone(outputs) },
            };
            let this = self.clone();
            self.shadow_tasks.spawn(async move {
                this.shadow(&copy).await;
                drop(permit);
            });
        }
    }

    /// Copies are dropped first when there is too much to do: none joins a queue that clients wait in.
    fn shadow_permit(&self, shadow: &Pick) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.shadow_permits).try_acquire_owned();
        let served = shadow.resident.served();
        if served.is_none() {
            // This copy is lost, but not those after it.
            shadow.resident.ask();
        }
        permit.ok().filter(|_| served.is_some_and(|served| served.waiting() < MAX_SHADOWS))
    }

    async fn shadow(&self, copy: &Copy) {
        let call = Call::of_copy(&copy.request_id);
        let primary = Some(&copy.primary);
        let attempt = Attempt { primary, ..Attempt::new(&call, &copy.shadow, &copy.inputs) };
        // Its failures are in its record.
        if let Err(missed @ Missed { outcome: Outcome::Rejected, .. }) = self.run(attempt).await {
            let error = recorded_reason(&copy.shadow.source, &missed);
            self.observe(attempt.ended(Duration::ZERO, Err(error)));
        }
    }
}
