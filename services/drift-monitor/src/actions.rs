//! Performs what policies ask for. An action has a key that is the same at every attempt, so that the other
//! service acts once.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_api::proto::launcher::SubmitJobRequest;
use slipway_api::proto::rollout::PauseDeploymentRequest;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::Instrument as _;

use crate::spec::ActionKind;
use crate::state::State;
use crate::store::actions::{self, DueAction};

/// Actions taken together.
const BATCH: i64 = 4;
/// Longer than the calls of a batch may take together; where we die the actions are due again after this.
const LEASE_S: f64 = 60.0;
/// How often actions that are due again are looked for while some are pending…
const POLL_MS: u64 = 1_000;
/// …and while none are: new ones wake the loop.
const IDLE_MS: u64 = 5_000;
const RETRY_INITIAL_S: f64 = 0.5;
const RETRY_MAX_S: f64 = 60.0;
/// About a day of attempts. Actions that failed until then need an operator.
const MAX_ATTEMPTS: i32 = 1_440;

/// Runs until `shutdown`.
pub(crate) async fn run(state: State, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let mut pause_ms = POLL_MS;
        match round(&state).await {
            Ok(Round { more: true, .. }) => continue,
            Ok(Round { pending: 0, .. }) => pause_ms = IDLE_MS,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "actions not read; retrying"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = state.actions_due.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
}

/// What one look found.
struct Round {
    /// There may be more that is due.
    more: bool,
    /// Actions that are not over.
    pending: i64,
}

/// Performs what is due.
async fn round(state: &State) -> sqlx::Result<Round> {
    let pending = actions::count_pending(&state.pool).await?;
    state.metrics.actions_pending.set(pending);
    if pending == 0 {
        return Ok(Round { more: false, pending });
    }
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    let mut batch = actions::take_due(&mut transaction, BATCH, LEASE_S).await?;
    transaction.commit().await?;
    // In the order of each policy.
    batch.sort_by_key(|due| due.id);
    let full = batch.len() == usize::try_from(BATCH).unwrap_or(usize::MAX);
    for due in batch {
        let span = tracing::info_span!("drift.act", monitor = %due.monitor, action = %due.action);
        slipway_telemetry::set_parent(&span, due.traceparent.as_deref());
        perform(state, &due).instrument(span).await?;
    }
    let pending = actions::count_pending(&state.pool).await?;
    state.metrics.actions_pending.set(pending);
    Ok(Round { more: full, pending })
}

async fn perform(state: &State, due: &DueAction) -> sqlx::Result<()> {
    let called = if due.action == ActionKind::SubmitJob.as_str() {
        submit_job(state, due).await
    } else {
        pause_rollout(state, due).await
    };
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    match called {
        Ok(result) => {
            tracing::info!(%result, "done");
            state.metrics.action(&due.action, "done");
            actions::finish(&mut transaction, due.id, &result).await?;
        }
        Err(status) if is_final(status.code()) || due.attempts >= MAX_ATTEMPTS => {
            tracing::error!(%status, attempts = due.attempts, "action given up");
            state.metrics.action(&due.action, "failed");
            actions::fail(&mut transaction, due.id, status.message()).await?;
        }
        Err(status) => {
            let delay_s = backoff_s(due.attempts);
            tracing::warn!(%status, attempts = due.attempts, delay_s, "action failed; retrying");
            state.metrics.action(&due.action, "postponed");
            let error = format!("{:?}: {}", status.code(), status.message());
            actions::postpone(&mut transaction, due.id, &error, delay_s).await?;
        }
    }
    transaction.commit().await
}

async fn submit_job(state: &State, due: &DueAction) -> Result<Value, Status> {
    let request =
        SubmitJobRequest { idempotency_key: due.idempotency_key(), spec_json: due.request.to_string() };
    let job = state.launcher.clone().submit_job(request).await?.into_inner();
    Ok(json!({"job_id": job.id}))
}

async fn pause_rollout(state: &State, due: &DueAction) -> Result<Value, Status> {
    let reason = due.request.get("reason").and_then(Value::as_str).unwrap_or("drift").to_owned();
    let request = PauseDeploymentRequest {
        deployment: due.deployment.clone(),
        reason,
        idempotency_key: due.idempotency_key(),
    };
    let answer = state.rollouts.clone().pause_deployment(request).await?.into_inner();
    Ok(match answer.rollout {
        Some(rollout) => json!({"rollout_id": rollout.id, "phase": rollout.phase}),
        None => json!({"note": "no rollout was in progress"}),
    })
}

/// What would be answered alike the next time.
const fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::PermissionDenied
    )
}

fn backoff_s(attempts: i32) -> f64 {
    (RETRY_INITIAL_S * 2f64.powi(attempts.saturating_sub(1).min(16))).min(RETRY_MAX_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!((backoff_s(1), backoff_s(2), backoff_s(100)), (0.5, 1.0, RETRY_MAX_S));
    }
}
