//! How long a request waits, for a version and for its run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slipway_inference::{Error, Inference, Model, Request};

use super::call::Call;
use super::missed::Missed;
use crate::metrics::Outcome;
use crate::models::routing::Pick;
use crate::models::{Absent, Served};
use crate::source::Source;

/// A model that has not answered within this time counts as failed.
const ANSWER_TIMEOUT_MS: u64 = 30_000;

/// Waits for a version to be loaded, as long as the client does.
pub(super) async fn loaded(call: &Call<'_>, pick: &Pick) -> Result<Arc<Served>, Missed> {
    let (limit, late) = patience(call.timeout_us);
    let Source { deployment, version, .. } = &*pick.source;
    pick.resident.wait(limit).await.map_err(|absent| match absent {
        Absent::Late(waited) if waited == limit => late.into(),
        Absent::Refused(_) => {
            Missed { outcome: Outcome::Failure, failure: absent.failure(deployment, version) }
        }
        absent => absent.failure(deployment, version).into(),
    })
}

/// Waits for the model, as long as the client does.
pub(super) async fn queued(
    model: &Model,
    request: Request,
    timeout_us: Option<u64>,
    started: Instant,
) -> Result<Inference, Error> {
    let (limit, late) = patience(timeout_us);
    let request = Request { deadline: started.checked_add(limit), ..request };
    match tokio::time::timeout(limit, model.infer_queued(request)).await {
        Ok(Err(Error::Expired { .. })) | Err(_) => Err(late),
        Ok(result) => result,
    }
}

/// How long to wait, and what to say afterwards: the client's own limit, or ours.
pub(super) fn patience(timeout_us: Option<u64>) -> (Duration, Error) {
    let ours = Duration::from_millis(ANSWER_TIMEOUT_MS);
    match timeout_us {
        Some(timeout_us) if Duration::from_micros(timeout_us) < ours => {
            (Duration::from_micros(timeout_us), Error::Expired { timeout_us })
        }
        _ => (ours, Error::TimedOut { limit_ms: ANSWER_TIMEOUT_MS }),
    }
}
