//! Performs what policies ask for. An action has a key that is the same at every attempt, so that the other service acts once.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_api::proto::launcher::SubmitJobRequest;
use slipway_api::proto::rollout::PauseDeploymentRequest;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::Instrument as _;

use crate::app::App;
use crate::spec::ActionKind;
use crate::store::actions::{self, DueAction};

const BATCH: i64 = 16;
/// Longer than a call may take; where we die the action is due again after this.
const LEASE_S: f64 = 30.0;
const POLL_MS: u64 = 1_000;
const RETRY_INITIAL_S: f64 = 0.5;
const RETRY_MAX_S: f64 = 60.0;

/// Runs until `shutdown`.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = round(&app).await {
            tracing::debug!(%error, "actions are looked at later");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.actions_due.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {}
        }
    }
}

async fn round(app: &App) -> sqlx::Result<()> {
    for due in actions::take_due(&app.pool, BATCH, LEASE_S).await? {
        let span = tracing::info_span!("drift.act", monitor = %due.monitor, action = %due.action);
        slipway_telemetry::set_parent(&span, due.traceparent.as_deref());
        perform(app, &due).instrument(span).await?;
    }
    app.metrics.actions_pending.set(actions::count_pending(&app.pool).await?);
    Ok(())
}

async fn perform(app: &App, due: &DueAction) -> sqlx::Result<()> {
    let outcome = if due.action == ActionKind::SubmitJob.as_str() {
        submit_job(app, due).await
    } else {
        pause_rollout(app, due).await
    };
    match outcome {
        Ok(result) => {
            tracing::info!(%result, "done");
            app.metrics.action(&due.action, "done");
            actions::finish(&app.pool, due.id, &result).await
        }
        Err(status) if is_final(status.code()) => {
            tracing::warn!(%status, "refused; it is not tried again");
            app.metrics.action(&due.action, "failed");
            actions::fail(&app.pool, due.id, status.message()).await
        }
        Err(status) => {
            let delay_s = backoff_s(due.attempts);
            tracing::warn!(%status, attempts = due.attempts, delay_s, "tried again later");
            app.metrics.action(&due.action, "postponed");
            let error = format!("{:?}: {}", status.code(), status.message());
            actions::postpone(&app.pool, due.id, &error, delay_s).await
        }
    }
}

async fn submit_job(app: &App, due: &DueAction) -> Result<Value, Status> {
    let request =
        SubmitJobRequest { idempotency_key: due.idempotency_key(), spec_json: due.request.to_string() };
    let job = app.launcher.clone().submit_job(request).await?.into_inner();
    Ok(json!({"job_id": job.id}))
}

async fn pause_rollout(app: &App, due: &DueAction) -> Result<Value, Status> {
    let reason = due.request.get("reason").and_then(Value::as_str).unwrap_or("drift").to_owned();
    let request = PauseDeploymentRequest {
        deployment: due.deployment.clone(),
        reason,
        idempotency_key: due.idempotency_key(),
    };
    let answer = app.rollouts.clone().pause_deployment(request).await?.into_inner();
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
