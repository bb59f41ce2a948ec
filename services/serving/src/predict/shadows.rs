//! Copies of requests for shadow versions.

use std::sync::Arc;
use std::time::Duration;

use slipway_api::predictions::Variant;
use slipway_domain::traffic::{shadows_for, stable_hash};
use slipway_inference::{Priority, Tensor};

use super::{Call, MAX_SHADOWS, Predictor, Way, told};
use crate::metrics::Outcome;
use crate::models::routing::{Pick, Route};
use crate::predict::missed::Missed;
use crate::records::Primary;

/// Shadows may take this long after the last request.
const DRAIN_MS: u64 = 2_000;

impl Predictor {
    /// Waits for the shadows that still run, for a while.
    pub(crate) async fn drain(&self) {
        self.shadow_tasks.close();
        let limit = Duration::from_millis(DRAIN_MS);
        if tokio::time::timeout(limit, self.shadow_tasks.wait()).await.is_err() {
            tracing::warn!(limit_ms = DRAIN_MS, "some shadows were still running at the end");
        }
    }

    /// Sends copies of a request that was answered to the shadows of the table.
    pub(super) fn copy_to_shadows(
        &self,
        route: &Arc<Route>,
        call: &Call<'_>,
        answered: &Pick,
        inputs: &Arc<Vec<Tensor>>,
        outputs: &Arc<Vec<Tensor>>,
    ) {
        if route.table.shadows.is_empty() || answered.variant == Variant::Pinned {
            return;
        }
        let Some(version) = route.versions.get(&answered.source.version) else { return };
        for target in shadows_for(&route.table, &version.target, stable_hash(&[call.request_id])) {
            let Some(pick) = route.shadow(target) else { continue };
            // Copies go first when there is too much to do: none joins a queue that clients wait in.
            let permit = Arc::clone(&self.shadow_permits).try_acquire_owned();
            let served = pick.resident.served();
            if served.is_none() {
                // This copy is lost, but not those after it.
                pick.resident.ask();
            }
            let has_room = served.is_some_and(|served| served.waiting() < MAX_SHADOWS);
            let (Ok(permit), true) = (permit, has_room) else {
                self.metrics.shadow_dropped();
                continue;
            };
            let (this, inputs, request_id) = (self.clone(), Arc::clone(inputs), call.request_id.to_owned());
            let primary = Primary { source: Arc::clone(&answered.source), outputs: Arc::clone(outputs) };
            self.shadow_tasks.spawn(async move {
                // A copy is compared, and nobody waits for it.
                let call = Call {
                    version: None,
                    request_id: &request_id,
                    timeout_us: None,
                    priority: Priority::Low,
                };
                // Its failures are in its record.
                let outcome = this.run(&call, Way::keyless(), &pick, &inputs, Some(primary.clone())).await;
                if let Err(missed @ Missed { outcome: Outcome::Rejected, .. }) = outcome {
                    let error = Err(told(&pick.source, &missed));
                    this.observe(&request_id, &pick, &inputs, Duration::ZERO, error, Some(primary));
                }
                drop(permit);
            });
        }
    }
}
