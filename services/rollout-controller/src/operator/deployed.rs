//! The deployments of ModelDeployments.

use std::collections::HashMap;

use http::StatusCode;
use slipway_api::rest::rollouts::{NewDeployment, RulesRequest};
use slipway_http_server::Problem;
use slipway_kubernetes_resources::model_deployment::{Change, Deployed, ModelDeployment, Move, Spec, change};

use crate::api::rest::bodies;
use crate::manage::{self, Requested};
use crate::state::State;
use crate::store::deployments::{self, Deployment, Origin};
use crate::store::rollouts::{self, StoredRollout};
use crate::{overrides, update};

/// Those of these objects, by UID.
pub(super) async fn of(state: &State, uids: &[String]) -> Result<HashMap<String, Deployed>, Problem> {
    let mut connection = state.pool.acquire().await?;
    let found = deployments::of_resources(&mut connection, uids).await?;
    let keys: Vec<i64> = found.iter().map(|deployment| deployment.deployment_key).collect();
    let newest = rollouts::newest_of(&mut connection, &keys).await?;
    drop(connection);
    let mut newest: HashMap<i64, StoredRollout> =
        newest.into_iter().map(|rollout| (rollout.deployment_key, rollout)).collect();
    let shown = |deployment: Deployment| {
        let uid = deployment.resource_uid.clone()?;
        let rollout = newest.remove(&deployment.deployment_key);
        Some((uid, shown(deployment, rollout)))
    };
    Ok(found.into_iter().filter_map(shown).collect())
}

fn shown(deployment: Deployment, rollout: Option<StoredRollout>) -> Deployed {
    let generation = deployment.resource_generation.unwrap_or_default();
    let deployment = bodies::deployment(deployment, None, Vec::new());
    Deployed { deployment, rollout: rollout.map(bodies::listed), generation }
}

/// Creates the deployment of an object.
pub(super) async fn create(
    state: &State,
    object: &ModelDeployment,
    spec: &Spec,
) -> Result<Deployed, Problem> {
    let new = NewDeployment {
        name: object.deployment(),
        model: spec.model.name.clone(),
        version: spec.model.version.clone(),
        alias: spec.model.alias.clone(),
        sticky_key: spec.sticky_key.clone(),
        prediction_output: spec.prediction_output.clone(),
        dedicated: true,
        rules: spec.rules.clone(),
        watch_alias: spec.model.alias.clone(),
        default_strategy: spec.strategy.clone().unwrap_or_default(),
    };
    let origin = Origin { uid: object.uid().to_owned(), generation: object.generation() };
    let (mut deployment, rollout) = manage::create(state, new, Some(&origin)).await?;
    deployment.resource_generation = Some(origin.generation);
    Ok(shown(deployment, Some(rollout)))
}

/// Makes a deployment what the spec of its object says now. Whatever is cut off, the next pass goes on from
/// there: the generation counts as applied once everything is.
pub(super) async fn change_to(
    state: &State,
    object: &ModelDeployment,
    spec: &Spec,
    deployed: &Deployed,
) -> Result<(), Problem> {
    let name = &deployed.deployment.name;
    let version = match (&spec.model.version, &spec.model.alias) {
        (Some(version), _) => version.clone(),
        (None, Some(alias)) => state.resolve_alias(name, &spec.model.name, alias).await?.version,
        (None, None) => return Err(Problem::invalid("version", "expected either `version` or `alias`")),
    };
    let Change { settings, rules, moves } = change(spec, deployed, &version);
    if !settings.is_empty() {
        update::apply(state, name, settings).await?;
    }
    if let Some(rules) = rules {
        overrides::set_rules(state, name, RulesRequest { rules }).await?;
    }
    match moves {
        Some(Move::To(version)) => {
            let key = format!("{}/{}/{version}", object.uid(), object.generation());
            let requested = Requested { version, strategy: None, idempotency_key: Some(key) };
            manage::start(state, name, requested).await?;
        }
        Some(Move::Back(version)) => {
            let reason = format!("the ModelDeployment asks for version {version} again");
            manage::roll_back(state, name, Some(version), &reason).await?;
        }
        None => {}
    }
    let mut connection = state.pool.acquire().await?;
    deployments::set_resource_generation(&mut connection, object.uid(), object.generation()).await?;
    drop(connection);
    state.committed();
    Ok(())
}

/// Deletes the deployment; that there is none is no error.
pub(super) async fn delete(state: &State, deployed: &Deployed) -> Result<(), Problem> {
    match manage::delete(state, &deployed.deployment.name).await {
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => Ok(()),
        deleted => deleted,
    }
}
