//! The drift monitors of ModelDeployments.

use slipway_api::proto::drift::{ApplyMonitorRequest, DeleteMonitorRequest};
use slipway_api::rest::monitors::{ActionKind, ActionSpec, MonitorSpec};
use slipway_http_server::Problem;
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, Monitor, Spec};
use tonic::Code;

use crate::state::State;

/// Makes the monitor of an object, or deletes the one that it does not ask for any more.
///
/// # Errors
/// The operator has no drift monitor, which also may refuse the monitor or be unreachable.
pub(super) async fn set(state: &State, object: &ModelDeployment, spec: &Spec) -> Result<(), Problem> {
    let Some(asked) = &spec.monitor else { return remove(state, object).await };
    let Some(client) = &state.monitors else {
        let why = "the operator has no drift monitor (SLIPWAY_DRIFT_MONITOR_URL)";
        return Err(Problem::invalid("monitor", why));
    };
    let monitor = monitor(object, spec, asked)?;
    let spec_json = serde_json::to_string(&monitor).map_err(Problem::internal)?;
    let applied = client.clone().apply(ApplyMonitorRequest { spec_json }).await;
    applied.map(drop).map_err(|status| match status.code() {
        Code::InvalidArgument => Problem::invalid("monitor", status.message()),
        _ => Problem::from(status),
    })
}

/// Deletes the monitor that was made for an object, if one was.
///
/// # Errors
/// The drift monitor is unreachable.
pub(super) async fn remove(state: &State, object: &ModelDeployment) -> Result<(), Problem> {
    let (Some(client), Some(name)) = (&state.monitors, &object.status.monitor) else { return Ok(()) };
    client.clone().delete(DeleteMonitorRequest { name: name.clone() }).await?;
    Ok(())
}

fn monitor(object: &ModelDeployment, spec: &Spec, asked: &Monitor) -> Result<MonitorSpec, Problem> {
    let action = |action, job| ActionSpec { action, job };
    let pause = asked.pause_rollout.then(|| action(ActionKind::PauseRollout, None));
    let job = asked.submit_job.clone().map(serde_json::from_value).transpose();
    let job = job.map_err(|error| Problem::invalid("monitor.submit_job", error.to_string()))?;
    let submit = job.map(|job| action(ActionKind::SubmitJob, Some(job)));
    let name = object.deployment();
    // What is left out has the defaults of a monitor over REST.
    let least = serde_json::json!({"name": name, "deployment": name, "model": object.model_name(spec)});
    let least: MonitorSpec = serde_json::from_value(least).map_err(Problem::internal)?;
    Ok(MonitorSpec {
        baseline_version: asked.baseline_version.clone(),
        window: asked.window.unwrap_or(least.window),
        thresholds: asked.thresholds.unwrap_or(least.thresholds),
        consecutive_windows: asked.consecutive_windows.unwrap_or(least.consecutive_windows),
        cool_down_s: asked.cool_down_s.unwrap_or(least.cool_down_s),
        on_drift: pause.into_iter().chain(submit).collect(),
        ..least
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_monitor_has_the_name_of_the_deployment_and_the_defaults_of_rest() {
        let mut object = ModelDeployment {
            spec: json!({"model": {"name": "fraud-model", "version": "1"}, "monitor": {
                "window": {"rows": 100}, "pauseRollout": true, "thresholds": {"psi": 0.3}}}),
            ..ModelDeployment::default()
        };
        object.metadata.name = Some("fraud".to_owned());
        object.metadata.namespace = Some("ml".to_owned());
        let spec = object.parsed().unwrap();
        let made = monitor(&object, &spec, spec.monitor.as_ref().unwrap()).unwrap();
        assert_eq!((&*made.name, &*made.deployment, &*made.model), ("ml_fraud", "ml_fraud", "fraud-model"));
        assert_eq!((made.window.rows, made.consecutive_windows), (100, 2));
        assert!((made.thresholds.psi - 0.3).abs() < f64::EPSILON);
        assert_eq!(made.on_drift.len(), 1);
    }
}
