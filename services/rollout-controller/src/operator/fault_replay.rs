//! The fault drills that ModelDeployments ask for.
//!
//! An object's drill has a key made of the object and of the field: the same field starts it once, whatever
//! else of the spec changes. A field that was removed and set again starts another one.

use http::StatusCode;
use slipway_api::rest::rollouts::DrillRequest;
use slipway_domain::traffic::stable_hash;
use slipway_http_server::Problem;
use slipway_kubernetes_resources::model_deployment::{Deployed, ModelDeployment, Spec};

use crate::drills;
use crate::state::State;
use crate::store::{deployments, drills as store};

/// Why a drill of an earlier spec is stopped.
const REPLACED: &str = "spec.faultReplay of the ModelDeployment has changed";

/// Checks the field.
///
/// # Errors
/// It means nothing, or a drill against users' requests is not confirmed.
pub(super) fn check(object: &ModelDeployment, spec: &Spec) -> Result<(), Problem> {
    let Some(request) = spec.fault_replay.clone() else { return Ok(()) };
    let request = slipway_domain::rollout::drill::DrillRequest::from(request);
    request
        .validate(&object.deployment())
        .map_err(|invalid| Problem::invalid(format!("fault_replay.{}", invalid.field), invalid.message))
}

/// Starts the drill that a spec asks for, and stops one that it asked for before; whether there is nothing to
/// try again soon. During a rollout it waits: the end of the rollout is news.
///
/// # Errors
/// Postgres is unavailable.
pub(super) async fn follow(
    state: &State,
    object: &ModelDeployment,
    spec: &Spec,
    deployed: Option<&Deployed>,
) -> Result<bool, Problem> {
    let is_applied = |deployed: &&Deployed| deployed.generation >= object.generation();
    let Some(deployed) = deployed.filter(is_applied) else { return Ok(true) };
    let name = &deployed.deployment.name;
    let of_object = format!("{}/", object.uid());
    let key = spec.fault_replay.as_ref().map(|request| key(&of_object, request));
    let mut connection = state.pool.acquire().await?;
    let Some(found) = deployments::find(&mut connection, name).await? else { return Ok(true) };
    if let Some(key) = &key
        && store::find_by_key(&mut connection, key).await?.is_some()
    {
        return Ok(true);
    }
    if let Some(newest) = store::newest(&mut connection, found.deployment_key).await? {
        let is_of_object = newest.idempotency_key.is_some_and(|key| key.starts_with(&of_object));
        if is_of_object && newest.state.ended.is_none() {
            drills::stop(state, name, REPLACED).await?;
        }
        store::forget_keys(&mut connection, found.deployment_key, &of_object).await?;
    }
    let Some((request, key)) = spec.fault_replay.clone().zip(key) else { return Ok(true) };
    drop(connection);
    match drills::start(state, name, request.into(), Some(&key)).await {
        Ok(_) => Ok(true),
        Err(problem) if problem.status() == StatusCode::CONFLICT => Ok(true),
        Err(problem) if problem.status().is_server_error() => Err(problem),
        Err(problem) => {
            tracing::info!(deployment = name, %problem, "drill not started; retrying");
            Ok(false)
        }
    }
}

fn key(of_object: &str, request: &DrillRequest) -> String {
    let hash = stable_hash(&[&serde_json::json!(request).to_string()]);
    format!("{of_object}{hash:016x}")
}
