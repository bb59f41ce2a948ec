//! The deployments of ModelDeployments.

use std::collections::HashMap;

use http::StatusCode;
use slipway_api::proto::registry::{EndImportRequest, EnsureImportRequest, Import};
use slipway_api::rest::rollouts::{NewDeployment, RulesRequest};
use slipway_http_server::Problem;
use slipway_kubernetes_resources::model_deployment::{
    Change, Deployed, ModelDeployment, ModelRef, Move, Spec, change,
};
use slipway_kubernetes_serving::Delivery;
use tonic::Code;

use super::deliver::{self, Reader};
use super::{fault_replay, monitor};

use crate::api::rest::bodies;
use crate::manage::{self, Requested};
use crate::state::State;
use crate::store::deployments::{self, Deployment, Origin};
use crate::store::drills::{self, StoredDrill};
use crate::store::rollouts::{self, StoredRollout};
use crate::{overrides, update};

/// Those of these objects, by UID.
pub(super) async fn of(state: &State, uids: &[String]) -> Result<HashMap<String, Deployed>, Problem> {
    let mut connection = state.pool.acquire().await?;
    let found = deployments::of_resources(&mut connection, uids).await?;
    let keys: Vec<i64> = found.iter().map(|deployment| deployment.deployment_key).collect();
    let newest = rollouts::newest_of(&mut connection, &keys).await?;
    let rehearsed = drills::newest_of(&mut connection, &keys).await?;
    drop(connection);
    let mut newest: HashMap<i64, StoredRollout> =
        newest.into_iter().map(|rollout| (rollout.deployment_key, rollout)).collect();
    let mut rehearsed: HashMap<i64, StoredDrill> =
        rehearsed.into_iter().map(|drill| (drill.deployment_key, drill)).collect();
    let shown = |deployment: Deployment| {
        let uid = deployment.resource_uid.clone()?;
        let rollout = newest.remove(&deployment.deployment_key);
        let drill = rehearsed.remove(&deployment.deployment_key);
        let drill = drill.map(|drill| bodies::drill(drill, deployment.name.clone()));
        let mut deployed = shown(deployment, rollout);
        deployed.deployment.drill = drill;
        Some((uid, deployed))
    };
    Ok(found.into_iter().filter_map(shown).collect())
}

fn shown(deployment: Deployment, rollout: Option<StoredRollout>) -> Deployed {
    let generation = deployment.resource_generation.unwrap_or_default();
    let deployment = bodies::deployment(deployment, None, Vec::new());
    Deployed { deployment, rollout: rollout.map(bodies::listed), generation }
}

/// What came of applying a spec.
#[derive(Debug)]
pub(super) enum Applied {
    /// The deployment is what the spec says.
    Done(Box<Deployed>),
    /// Something has to be there first, which this text tells.
    Waits(String),
}

/// Which version an object asks for.
enum Wanted {
    Version(String),
    /// It is still being imported.
    Waits(String),
}

/// The version that an object asks for now, held by the registry for its deployment.
async fn wanted(state: &State, object: &ModelDeployment, spec: &Spec) -> Result<Wanted, Problem> {
    let (deployment, model) = (object.deployment(), object.model_name(spec));
    let found = match &spec.model {
        ModelRef { version: Some(version), .. } => return Ok(Wanted::Version(version.clone())),
        ModelRef { alias: Some(alias), .. } => state.resolve_alias(&deployment, &model, alias).await?,
        ModelRef { digest: Some(digest), .. } => state.resolve_digest(&deployment, &model, digest).await?,
        ModelRef { storage_uri: Some(uri), .. } => return imported(state, object, spec, uri).await,
        _ => {
            return Err(Problem::invalid(
                "version",
                "expected a version, an alias, a digest or a storageUri",
            ));
        }
    };
    Ok(Wanted::Version(found.version))
}

/// Has the registry import the storage of an object. Its versions get the name of the deployment as an alias.
async fn imported(
    state: &State,
    object: &ModelDeployment,
    spec: &Spec,
    uri: &str,
) -> Result<Wanted, Problem> {
    let waits = |why: String| Ok(Wanted::Waits(format!("importing {uri}: {why}")));
    let source = match deliver::reader(state, object, spec, uri).await? {
        Reader::Registry => None,
        Reader::Job(source) => Some(source),
        Reader::Waits(why) => return waits(why),
    };
    let request = EnsureImportRequest {
        model: object.model_name(spec),
        uri: source.as_ref().map_or_else(|| uri.to_owned(), |source| source.uri(object.namespace())),
        alias: object.deployment(),
        watch: spec.model.watch,
        delivered: source.is_some(),
    };
    let answered = state.imports.clone().ensure(request).await;
    let import = answered.map_err(|status| match status.code() {
        Code::InvalidArgument => Problem::invalid("uri", status.message()),
        _ => Problem::from(status),
    })?;
    let Import { version, problem, done_bytes, total_bytes, id } = import.into_inner();
    if !version.is_empty() {
        return Ok(Wanted::Version(version));
    }
    if !problem.is_empty() {
        return waits(format!("{problem}; it is tried again"));
    }
    if let Some(source) = &source {
        let delivery = Delivery { import: &id, source };
        return waits(deliver::ensure(state, object, spec, delivery).await?);
    }
    let percent = (done_bytes * 100).checked_div(total_bytes).unwrap_or(0);
    waits(format!("{percent} %"))
}

/// Ends the import of an object that does not ask for one.
async fn end_import(state: &State, object: &ModelDeployment, spec: &Spec) -> Result<(), Problem> {
    let request = EndImportRequest { model: object.model_name(spec), alias: object.deployment() };
    match state.imports.clone().end(request).await {
        // A registry of an earlier release has none.
        Err(status) if status.code() != Code::Unimplemented => Err(status.into()),
        _ => Ok(()),
    }
}

/// Creates the deployment of an object.
pub(super) async fn create(state: &State, object: &ModelDeployment, spec: &Spec) -> Result<Applied, Problem> {
    fault_replay::check(object, spec)?;
    let version = match wanted(state, object, spec).await? {
        Wanted::Version(version) => version,
        Wanted::Waits(why) => return Ok(Applied::Waits(why)),
    };
    let name = object.deployment();
    let new = NewDeployment {
        model: object.model_name(spec),
        version: Some(version),
        alias: None,
        sticky_key: spec.sticky_key.clone(),
        prediction_output: spec.prediction_output.clone(),
        dedicated: true,
        rules: spec.rules.clone(),
        watch_alias: spec.followed_alias(&name),
        default_strategy: spec.strategy.clone().unwrap_or_default(),
        name,
    };
    // What has a monitor counts as applied once the monitor is there, too.
    let generation = if spec.monitor.is_some() { 0 } else { object.generation() };
    let origin = Origin { uid: object.uid().to_owned(), generation };
    let (mut deployment, rollout) = manage::create(state, new, Some(&origin)).await?;
    deployment.resource_generation = Some(origin.generation);
    Ok(Applied::Done(Box::new(shown(deployment, Some(rollout)))))
}

/// Makes a deployment what the spec of its object says now. Whatever is cut off, the next pass goes on from
/// there: the generation counts as applied once everything is.
pub(super) async fn change_to(
    state: &State,
    object: &ModelDeployment,
    spec: &Spec,
    deployed: &Deployed,
) -> Result<Applied, Problem> {
    fault_replay::check(object, spec)?;
    let name = &deployed.deployment.name;
    let version = match wanted(state, object, spec).await? {
        Wanted::Version(version) => version,
        Wanted::Waits(why) => return Ok(Applied::Waits(why)),
    };
    if spec.model.storage_uri.is_none() {
        end_import(state, object, spec).await?;
    }
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
    monitor::set(state, object, spec).await?;
    let mut connection = state.pool.acquire().await?;
    deployments::set_resource_generation(&mut connection, object.uid(), object.generation()).await?;
    drop(connection);
    state.committed();
    Ok(Applied::Done(Box::new(Deployed { generation: object.generation(), ..deployed.clone() })))
}

/// Deletes the deployment, its monitor and its import; that there is none is no error.
pub(super) async fn delete(
    state: &State,
    object: &ModelDeployment,
    deployed: &Deployed,
) -> Result<(), Problem> {
    monitor::remove(state, object).await?;
    if let Some(spec) = object.parsed().ok().filter(|spec| spec.model.storage_uri.is_some()) {
        end_import(state, object, &spec).await?;
    }
    match manage::delete(state, &deployed.deployment.name).await {
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => Ok(()),
        deleted => deleted,
    }
}
