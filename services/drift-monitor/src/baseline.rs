//! Where a monitor's baseline comes from: the deployment's stable version, and the training profile of that version.

use std::time::Duration;

use chrono::Utc;
use futures::StreamExt as _;
use slipway_api::events::{DriftDetected, MonitorChange};
use slipway_api::proto::registry::{GetModelVersionRequest, GetTrainingProfileRequest};
use slipway_api::proto::rollout::{Deployment, GetDeploymentRequest};
use slipway_domain::drift::Profile;
use slipway_domain::drift::policy::MonitorState;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::state::App;
use crate::layout::{self, Fit, Input};
use crate::store::baselines::Baseline;
use crate::store::monitors::DRIFTED;
use crate::store::positions::{self, Watched};
use crate::{rename, store};

/// Pause before a baseline that cannot be had is asked for again.
const RETRY_MS: u64 = 1_000;
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
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let mut changes = app.changes.subscribe();
    while !shutdown.is_cancelled() {
        match positions::in_doubt(&app.pool).await {
            Ok(monitors) => {
                let refreshes = futures::stream::iter(monitors);
                refreshes.for_each_concurrent(CONCURRENT, |watched| settle(&app, watched)).await;
            }
            Err(error) => tracing::debug!(%error, "baselines are asked for later"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(RETRY_MS)) => {}
        }
    }
}

async fn settle(app: &App, watched: Watched) {
    match refresh(app, &watched).await {
        Ok(true) => app.monitors_changed(),
        Ok(false) => {}
        Err(error) => {
            tracing::debug!(
                monitor = watched.name,
                error = format!("{error:#}"),
                "the baseline is asked for later"
            );
        }
    }
}

/// Asks which baseline is due and takes it into use, or notes why that cannot be. Answers whether the monitor's row changed.
async fn refresh(app: &App, watched: &Watched) -> anyhow::Result<bool> {
    let deployment = deployment(app, watched).await;
    if let Ok(deployment) = &deployment
        && store::baselines::set_deployment(&app.pool, watched.id, &deployment.id).await?
    {
        // The row is read again.
        return Ok(true);
    }
    match find(app, watched, deployment).await {
        Ok(None) => confirm(app, watched).await,
        Ok(Some(baseline)) => take(app, watched, &baseline).await.map(|()| true),
        Err(Lack::Missing { version, reason }) => suspend(app, watched, version.as_deref(), &reason).await,
        Err(Lack::Away(reason)) if watched.profile.is_none() => {
            suspend(app, watched, watched.baseline_version.as_deref(), &reason).await
        }
        Err(Lack::Away(_)) => Ok(false),
    }
}

/// The baseline is the one in use.
async fn confirm(app: &App, watched: &Watched) -> anyhow::Result<bool> {
    if let (Some(profile), Some(version), None) =
        (&watched.profile, &watched.baseline_version, &watched.inputs)
        && let Ok(Some(inputs)) = inputs(app, watched, version).await
    {
        let misfit = match layout::fit(profile, &inputs) {
            Fit::Whole => String::new(),
            Fit::Partly(text) | Fit::None(text) => text,
        };
        store::baselines::set_inputs(&app.pool, watched.id, &inputs, &misfit).await?;
        return Ok(true);
    }
    if let Some(since) = watched.baseline_stale_since {
        store::baselines::confirm(&app.pool, watched.id, since).await?;
        return Ok(true);
    }
    Ok(false)
}

/// There is nothing to compare with. That monitoring ends is an event.
async fn suspend(app: &App, watched: &Watched, version: Option<&str>, reason: &str) -> anyhow::Result<bool> {
    let mut transaction = app.pool.begin().await?;
    let changed =
        store::baselines::set_waiting(&mut transaction, watched.id, watched.epoch, version, reason).await?;
    if changed && watched.profile.is_some() {
        announce(app, &mut transaction, watched, "suspended", reason).await?;
    }
    transaction.commit().await?;
    if changed {
        tracing::warn!(monitor = watched.name, reason, "no baseline");
        app.metrics.stands(&watched.name, false);
    }
    Ok(changed)
}

async fn announce(
    app: &App,
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
    app.outbox.enqueue(connection, &event).await?;
    Ok(())
}

/// The baseline that is due; `None` where it is the one in use.
async fn find(
    app: &App,
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
                && matches!(rename::caught_up(app, was, is, &deployment.stable_version).await, Ok(true))
            {
                return Err(Lack::Away(format!(
                    "the model was renamed to `{is}`; the baseline is asked for again"
                )));
            }
            (stable_version(watched, &deployment)?, Some(deployment.prediction_output))
        }
    };
    if watched.profile.is_some() && watched.baseline_version.as_ref() == Some(&version) {
        return Ok(None);
    }
    let profile = profile(app, watched, &version).await?;
    let inputs = inputs(app, watched, &version).await?;
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

async fn deployment(app: &App, watched: &Watched) -> Result<Deployment, Lack> {
    let request = GetDeploymentRequest { name: watched.deployment.clone() };
    match app.rollouts.clone().get_deployment(request).await {
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
async fn inputs(app: &App, watched: &Watched, version: &str) -> Result<Option<Vec<Input>>, Lack> {
    let request = GetModelVersionRequest {
        model: watched.model.clone(),
        version: version.to_owned(),
        ..GetModelVersionRequest::default()
    };
    match app.registry.clone().get_model_version(request).await {
        Ok(answer) => {
            let inputs: Vec<Input> = answer.into_inner().inputs.iter().map(layout::of_spec).collect();
            Ok(Some(inputs).filter(|inputs| !inputs.is_empty()))
        }
        Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
            Err(away("the registry", &status))
        }
        Err(status) => {
            tracing::debug!(%status, version, "the signature is not known; columns are found in the records alone");
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
            "the deployment `{}` serves the model `{}`, not `{}`: delete the monitor and create it for that model",
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

async fn profile(app: &App, watched: &Watched, version: &str) -> Result<Profile, Lack> {
    let missing = |reason| Lack::Missing { version: Some(version.to_owned()), reason };
    let request = GetTrainingProfileRequest { model: watched.model.clone(), version: version.to_owned() };
    let answer = match app.registry.clone().get_training_profile(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == Code::NotFound => {
            return Err(missing(format!(
                "there is no training profile of version {version} of `{}` ({}): have the training run log the artifact \
                 slipway/profile.json, or set the monitor's baseline_version to a version that has one",
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
    tracing::debug!(%status, service, "the baseline cannot be asked for");
    let what = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => "refuses the drift monitor's token",
        Code::Unavailable | Code::DeadlineExceeded => "is unreachable",
        _ => "cannot answer",
    };
    Lack::Away(format!("{service} {what} ({:?}: {}); retrying", status.code(), status.message()))
}

/// Takes the baseline into use. Windows begin anew with the moment from which it is due; drift from the old baseline is over.
async fn take(app: &App, watched: &Watched, baseline: &Baseline) -> anyhow::Result<()> {
    let known = watched.policy_state.last_window.is_some() || watched.profile.is_some();
    let read_from = watched.baseline_stale_since.filter(|_| known).unwrap_or(watched.read_from);
    // The time of the last detection stays, so that a new baseline does not cut a cool-down short.
    let state = MonitorState {
        detected_at_unix_ms: watched.policy_state.detected_at_unix_ms,
        ..MonitorState::default()
    };
    let mut transaction = app.pool.begin().await?;
    if !store::lock(&mut transaction, watched.id, watched.epoch).await? {
        return Ok(());
    }
    let asked_since = watched.baseline_stale_since;
    store::baselines::set(&mut transaction, watched.id, baseline, &state, read_from, asked_since).await?;
    let over = watched.policy_state.drifted || watched.status == DRIFTED;
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
                "at": Utc::now(),
            }),
        };
        let event_id = app.outbox.enqueue(&mut transaction, &event).await?;
        store::windows::insert_verdict(&mut transaction, watched.id, event_id, &event).await?;
    }
    if watched.profile.is_none() {
        let reason = format!("the baseline is version {}", baseline.version);
        announce(app, &mut transaction, watched, "resumed", &reason).await?;
    }
    transaction.commit().await?;
    app.outbox.wake();
    app.metrics.stands(&watched.name, false);
    if over {
        app.metrics.event(&watched.name, "cleared");
    }
    tracing::info!(
        monitor = watched.name,
        model = watched.model,
        version = baseline.version,
        "baseline in use"
    );
    Ok(())
}
