//! Where a monitor's baseline comes from: the deployment's stable version, and the training profile of that
//! version.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use slipway_api::events::{DriftDetected, MonitorChange};
use slipway_api::proto::registry::{GetModelVersionRequest, GetTrainingProfileRequest};
use slipway_api::proto::rollout::{Deployment, GetDeploymentRequest};
use slipway_domain::drift::Profile;
use slipway_runtime::clock;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::layout::{self, Fit, Input};
use crate::state::State;
use crate::store::baselines::Baseline;
use crate::store::monitors::DRIFTED;
use crate::store::positions::{self, Watched};
use crate::{rename, store};

/// Pause before a baseline that cannot be had is asked for again.
const RETRY_MS: u64 = 1_000;
/// Pause where all monitors have one: changes wake the loop.
const IDLE_MS: u64 = 5_000;
/// Monitors whose baselines are asked for at the same time.
const CONCURRENT: usize = 8;

/// Why there is no baseline now.
#[derive(Debug)]
enum Lack {
    /// A person has to do something; `version` is the version without a usable profile, where one is known.
    Missing { version: Option<String>, reason: String },
    /// Another service is unreachable; what was known holds until then.
    Away(String),
}

/// Asks for every baseline that is due until `shutdown`.
pub(crate) async fn run(state: State, shutdown: CancellationToken) {
    let mut changes = state.changes.subscribe();
    while !shutdown.is_cancelled() {
        let mut pause_ms = RETRY_MS;
        match positions::in_doubt(&state.pool).await {
            Ok(monitors) if monitors.is_empty() => pause_ms = IDLE_MS,
            Ok(monitors) => {
                let refreshes = futures::stream::iter(monitors);
                refreshes.for_each_concurrent(CONCURRENT, |watched| settle(&state, watched)).await;
            }
            Err(error) => tracing::debug!(%error, "baselines not requested; retrying"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
}

async fn settle(state: &State, watched: Watched) {
    match refresh(state, &watched).await {
        Ok(true) => state.monitors_changed(),
        Ok(false) => {}
        Err(error) => {
            tracing::debug!(
                monitor = watched.name,
                error = format!("{error:#}"),
                "baseline not requested; retrying"
            );
        }
    }
}

/// Asks which baseline is due and takes it into use, or notes why that cannot be. Answers whether the
/// monitor's row changed.
async fn refresh(state: &State, watched: &Watched) -> anyhow::Result<bool> {
    let deployment = deployment(state, watched).await;
    if let Ok(deployment) = &deployment
        && watched.deployment_id.as_ref() != Some(&deployment.id)
    {
        let mut transaction = slipway_lease::begin(&state.pool).await?;
        let changed = store::baselines::set_deployment(&mut transaction, watched.id, &deployment.id).await?;
        transaction.commit().await?;
        if changed {
            // The row is read again.
            return Ok(true);
        }
    }
    match find(state, watched, deployment).await {
        Ok(None) => confirm(state, watched).await,
        Ok(Some(baseline)) => take(state, watched, &baseline).await.map(|()| true),
        Err(Lack::Missing { version, reason }) => suspend(state, watched, version.as_deref(), &reason).await,
        Err(Lack::Away(reason)) if watched.profile.is_none() => {
            suspend(state, watched, watched.baseline_version.as_deref(), &reason).await
        }
        Err(Lack::Away(_)) => Ok(false),
    }
}

/// The baseline is the one in use.
async fn confirm(state: &State, watched: &Watched) -> anyhow::Result<bool> {
    if let (Some(profile), Some(version), None) =
        (&watched.profile, &watched.baseline_version, &watched.inputs)
        && let Ok(Some(inputs)) = inputs(state, watched, version).await
    {
        let misfit = match layout::fit(profile, &inputs) {
            Fit::Whole => String::new(),
            Fit::Partly(text) | Fit::None(text) => text,
        };
        let mut transaction = slipway_lease::begin(&state.pool).await?;
        store::baselines::set_inputs(&mut transaction, watched.id, &inputs, &misfit).await?;
        transaction.commit().await?;
        return Ok(true);
    }
    if let Some(since) = watched.baseline_stale_since {
        let mut transaction = slipway_lease::begin(&state.pool).await?;
        store::baselines::confirm(&mut transaction, watched.id, since).await?;
        transaction.commit().await?;
        return Ok(true);
    }
    Ok(false)
}

/// There is nothing to compare with. That monitoring ends is an event.
async fn suspend(
    state: &State,
    watched: &Watched,
    version: Option<&str>,
    reason: &str,
) -> anyhow::Result<bool> {
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    let changed =
        store::baselines::set_waiting(&mut transaction, watched.id, watched.epoch, version, reason).await?;
    if changed && watched.profile.is_some() {
        announce(state, &mut transaction, watched, "suspended", reason).await?;
    }
    transaction.commit().await?;
    if changed {
        tracing::warn!(monitor = watched.name, reason, "no baseline");
        state.metrics.stands(&watched.name, false);
    }
    Ok(changed)
}

async fn announce(
    state: &State,
    connection: &mut sqlx::PgConnection,
    watched: &Watched,
    what: &str,
    reason: &str,
) -> anyhow::Result<()> {
    let event = MonitorChange {
        monitor: watched.name.clone(),
        deployment: watched.deployment.clone(),
        what: what.to_owned(),
        reason: reason.to_owned(),
    };
    state.outbox.enqueue(connection, &event).await?;
    Ok(())
}

/// The baseline that is due; `None` where it is the one in use.
async fn find(
    state: &State,
    watched: &Watched,
    deployment: Result<Deployment, Lack>,
) -> Result<Option<Baseline>, Lack> {
    let (version, prediction_output) = match &watched.spec.baseline_version {
        Some(version) => {
            // The deployment may come later; without it the prediction is found by the general rule.
            let output = deployment.ok().map(|deployment| deployment.prediction_output);
            (version.clone(), output)
        }
        None => {
            let deployment = deployment?;
            let (was, is) = (watched.model.as_str(), deployment.model.as_str());
            if was != is
                && matches!(rename::caught_up(state, was, is, &deployment.stable_version).await, Ok(true))
            {
                return Err(Lack::Away(format!(
                    "the model was renamed to `{is}`; the baseline is requested again"
                )));
            }
            (stable_version(watched, &deployment)?, Some(deployment.prediction_output))
        }
    };
    if watched.profile.is_some() && watched.baseline_version.as_ref() == Some(&version) {
        return Ok(None);
    }
    let profile = profile(state, watched, &version).await?;
    let inputs = inputs(state, watched, &version).await?;
    let misfit = match inputs.as_ref().map_or(Fit::Whole, |inputs| layout::fit(&profile, inputs)) {
        Fit::Whole => String::new(),
        Fit::Partly(text) => text,
        Fit::None(text) => return Err(unusable(watched, &version, &text)),
    };
    Ok(Some(Baseline {
        version,
        profile,
        prediction_output: prediction_output.filter(|name| !name.is_empty()),
        inputs,
        misfit,
    }))
}

async fn deployment(state: &State, watched: &Watched) -> Result<Deployment, Lack> {
    let request = GetDeploymentRequest { name: watched.deployment.clone() };
    match state.rollouts.clone().get_deployment(request).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if status.code() == Code::NotFound => Err(Lack::Missing {
            version: None,
            reason: format!(
                "there is no deployment `{}`: create it, or set the monitor's baseline_version",
                watched.deployment
            ),
        }),
        Err(status) => Err(away("the rollout controller", &status)),
    }
}

/// The model's inputs in the order of its signature; `None` where the version has none that are known.
async fn inputs(state: &State, watched: &Watched, version: &str) -> Result<Option<Vec<Input>>, Lack> {
    let request = GetModelVersionRequest {
        model: watched.model.clone(),
        version: version.to_owned(),
        ..GetModelVersionRequest::default()
    };
    match state.registry.clone().get_model_version(request).await {
        Ok(answer) => {
            let inputs: Vec<Input> = answer.into_inner().inputs.iter().map(layout::of_spec).collect();
            Ok(Some(inputs).filter(|inputs| !inputs.is_empty()))
        }
        Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
            Err(away("the registry", &status))
        }
        Err(status) => {
            tracing::debug!(%status, version,
                "signature unavailable; columns are derived from the records only");
            Ok(None)
        }
    }
}

fn unusable(watched: &Watched, version: &str, reason: &str) -> Lack {
    Lack::Missing {
        version: Some(version.to_owned()),
        reason: format!(
            "the training profile of version {version} of `{}` cannot be used: {reason}; log a corrected \
             slipway/profile.json, or set the monitor's baseline_version to another version",
            watched.model
        ),
    }
}

fn stable_version(watched: &Watched, deployment: &Deployment) -> Result<String, Lack> {
    let missing = |reason| Err(Lack::Missing { version: None, reason });
    if deployment.model != watched.model {
        return missing(format!(
            "the deployment `{}` serves the model `{}`, not `{}`: delete the monitor and create it for that \
             model",
            watched.deployment, deployment.model, watched.model
        ));
    }
    if deployment.stable_version.is_empty() {
        return missing(format!(
            "the deployment `{}` has no stable version yet: wait for its first rollout, or set the monitor's \
             baseline_version",
            watched.deployment
        ));
    }
    Ok(deployment.stable_version.clone())
}

async fn profile(state: &State, watched: &Watched, version: &str) -> Result<Profile, Lack> {
    let missing = |reason| Lack::Missing { version: Some(version.to_owned()), reason };
    let request = GetTrainingProfileRequest { model: watched.model.clone(), version: version.to_owned() };
    let answer = match state.registry.clone().get_training_profile(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == Code::NotFound => {
            return Err(missing(format!(
                "there is no training profile of version {version} of `{}` ({}): have the training run log \
                 the artifact slipway/profile.json, or set the monitor's baseline_version to a version that \
                 has one",
                watched.model,
                status.message()
            )));
        }
        Err(status) if refuses(&status) => return Err(unusable(watched, version, status.message())),
        Err(status) => return Err(away("the registry", &status)),
    };
    let refused = |reason: String| unusable(watched, version, &reason);
    let profile: Profile =
        serde_json::from_slice(&answer.profile_json).map_err(|error| refused(error.to_string()))?;
    profile.validate().map_err(|invalid| refused(invalid.to_string()))?;
    Ok(profile)
}

/// Whether the same question would be refused again.
fn refuses(status: &tonic::Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange)
}

fn away(service: &str, status: &tonic::Status) -> Lack {
    tracing::debug!(%status, service, "the baseline cannot be requested");
    let what = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => "refuses the drift monitor's token",
        Code::Unavailable | Code::DeadlineExceeded => "is unreachable",
        _ => "cannot answer",
    };
    Lack::Away(format!("{service} {what} ({:?}: {}); retrying", status.code(), status.message()))
}

/// Takes the baseline into use. Windows start again at the moment from which it is due; drift from the old
/// baseline is over.
async fn take(state: &State, watched: &Watched, baseline: &Baseline) -> anyhow::Result<()> {
    let known = !watched.policy_state.is_new() || watched.profile.is_some();
    let read_from = watched.baseline_stale_since.filter(|_| known).unwrap_or(watched.read_from);
    let rebased = watched.policy_state.rebased();
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    if !store::lock(&mut transaction, watched.id, watched.epoch).await? {
        return Ok(());
    }
    let asked_since = watched.baseline_stale_since;
    store::baselines::set(&mut transaction, watched.id, baseline, &rebased, read_from, asked_since).await?;
    let over = watched.policy_state.is_drifted() || watched.status == DRIFTED;
    if over {
        let old = watched.baseline_version.clone().unwrap_or_default();
        let event = DriftDetected {
            monitor: watched.name.clone(),
            deployment: watched.deployment.clone(),
            model: watched.model.clone(),
            baseline_version: old.clone(),
            what: "cleared".to_owned(),
            windows: Vec::new(),
            further: false,
            parts: Vec::new(),
            evidence: serde_json::json!({
                "reason": format!("the baseline is now version {}", baseline.version),
                "baseline_version": baseline.version,
                "at": DateTime::<Utc>::from(clock::now()),
            }),
        };
        let event_id = state.outbox.enqueue(&mut transaction, &event).await?;
        store::windows::insert_verdict(&mut transaction, watched.id, event_id, &event).await?;
    }
    if watched.profile.is_none() {
        let reason = format!("the baseline is version {}", baseline.version);
        announce(state, &mut transaction, watched, "resumed", &reason).await?;
    }
    transaction.commit().await?;
    state.outbox.wake();
    state.metrics.stands(&watched.name, false);
    if over {
        state.metrics.event(&watched.name, "cleared");
    }
    tracing::info!(
        monitor = watched.name,
        model = watched.model,
        version = baseline.version,
        "baseline in use"
    );
    Ok(())
}
