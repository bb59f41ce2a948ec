//! Where a monitor's baseline comes from: the deployment's stable version, and the training profile of that version.

use chrono::Utc;
use slipway_api::events::DriftDetected;
use slipway_api::proto::registry::GetTrainingProfileRequest;
use slipway_api::proto::rollout::{Deployment, GetDeploymentRequest};
use slipway_domain::drift::Profile;
use slipway_domain::drift::policy::MonitorState;
use tonic::Code;

use crate::app::App;
use crate::store;
use crate::store::baselines::Baseline;
use crate::store::monitors::DRIFTED;
use crate::store::positions::Watched;

/// What asking for the baseline has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// The monitor's row has changed, or the doubt is gone.
    Settled,
    /// There is still a question open; ask again later.
    Open,
}

/// Why there is no baseline now.
#[derive(Debug)]
enum Lack {
    /// A person has to do something; `version` is the version without a usable profile, where one is known.
    Missing { version: Option<String>, reason: String },
    /// Someone does not answer; what was known holds until then.
    Away(String),
}

/// Asks which baseline is due and takes it into use, or notes why that cannot be.
pub(crate) async fn refresh(app: &App, watched: &Watched) -> anyhow::Result<Refreshed> {
    match find(app, watched).await {
        Ok(None) => {
            if let Some(since) = watched.baseline_stale_since {
                store::baselines::confirm(&app.pool, watched.id, since).await?;
            }
            Ok(Refreshed::Settled)
        }
        Ok(Some(baseline)) => {
            take(app, watched, &baseline).await?;
            Ok(Refreshed::Settled)
        }
        Err(Lack::Missing { version, reason }) => {
            if watched.reason != reason {
                tracing::warn!(monitor = watched.name, reason, "no baseline");
            }
            store::baselines::set_waiting(&app.pool, watched.id, watched.epoch, version.as_deref(), &reason)
                .await?;
            Ok(Refreshed::Open)
        }
        Err(Lack::Away(reason)) => {
            if watched.profile.is_none() {
                let version = watched.baseline_version.as_deref();
                store::baselines::set_waiting(&app.pool, watched.id, watched.epoch, version, &reason).await?;
            }
            Ok(Refreshed::Open)
        }
    }
}

/// The baseline that is due; `None` where it is the one in use.
async fn find(app: &App, watched: &Watched) -> Result<Option<Baseline>, Lack> {
    let (version, prediction_output) = match &watched.spec.baseline_version {
        Some(version) => {
            // The deployment may come later; without it the prediction is found by the general rule.
            let deployment = deployment(app, watched).await.ok();
            (version.clone(), deployment.map(|deployment| deployment.prediction_output))
        }
        None => {
            let deployment = deployment(app, watched).await?;
            (stable_version(watched, &deployment)?, Some(deployment.prediction_output))
        }
    };
    if watched.profile.is_some() && watched.baseline_version.as_ref() == Some(&version) {
        return Ok(None);
    }
    let profile = profile(app, watched, &version).await?;
    Ok(Some(Baseline {
        version,
        profile,
        prediction_output: prediction_output.filter(|name| !name.is_empty()),
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
        Err(status) => return Err(away("the registry", &status)),
    };
    let unusable = |reason: String| {
        missing(format!(
            "the training profile of version {version} of `{}` cannot be used: {reason}; log a corrected \
             slipway/profile.json, or set the monitor's baseline_version to another version",
            watched.model
        ))
    };
    let profile: Profile =
        serde_json::from_slice(&answer.profile_json).map_err(|error| unusable(error.to_string()))?;
    profile.validate().map_err(|invalid| unusable(invalid.to_string()))?;
    Ok(profile)
}

fn away(service: &str, status: &tonic::Status) -> Lack {
    tracing::debug!(%status, service, "the baseline cannot be asked for");
    Lack::Away(format!("{service} does not answer ({:?}); it is asked again", status.code()))
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
            evidence: serde_json::json!({
                "reason": format!("the baseline is now version {}", baseline.version),
                "baseline_version": baseline.version,
                "at": Utc::now(),
            }),
        };
        let event_id = app.outbox.enqueue(&mut transaction, &event).await?;
        store::windows::insert_verdict(&mut transaction, watched.id, event_id, &event).await?;
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
