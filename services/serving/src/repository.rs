//! The model repository extension: what is there, and who decides that.

use slipway_api::inference::repository_index_response::ModelIndex;
use slipway_api::traffic::VersionState;

use crate::failure::{Failure, Kind};
use crate::routing::Routing;

/// Said of a version that answers and is not in memory.
const UNLOADED: &str = "unloaded to make room; the next request loads it again";

/// Every version of every deployment and its state.
///
/// # Errors
/// There is one repository, which has no name.
pub(crate) fn index(
    routing: &Routing,
    repository: &str,
    only_ready: bool,
) -> Result<Vec<ModelIndex>, Failure> {
    unnamed(repository)?;
    let routes = routing.all();
    let versions =
        routes.iter().flat_map(|(name, route)| route.versions.values().map(move |version| (name, version)));
    Ok(versions
        .filter(|(_, version)| !only_ready || version.state == VersionState::Ready)
        .map(|(name, version)| ModelIndex {
            name: name.clone(),
            version: version.target.version.clone(),
            state: match version.state {
                VersionState::Ready => "READY",
                VersionState::Loading => "LOADING",
                VersionState::Failed => "UNAVAILABLE",
            }
            .to_owned(),
            reason: match &version.reason {
                Some(reason) => reason.clone(),
                None if version.is_unloaded() => UNLOADED.to_owned(),
                None => String::new(),
            },
        })
        .collect())
}

/// Confirms a model that is loaded, and has one loaded that was unloaded to make room; `overrides` are the names of files and settings sent along.
///
/// # Errors
/// It is not ready: the rollout controller decides what is loaded. Files and settings come from the registry and the server only.
pub(crate) fn load<'name>(
    routing: &Routing,
    repository: &str,
    name: &str,
    mut overrides: impl Iterator<Item = &'name str>,
) -> Result<(), Failure> {
    unnamed(repository)?;
    if let Some(given) = overrides.next() {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "model '{name}' cannot be loaded with '{given}': its files come from the registry and its \
                 settings from this server; register a new version and roll it out"
            ),
        ));
    }
    let route = routing.get(name).map_err(|_unknown| {
        Failure::not_found(format!(
            "unknown model '{name}': clients load nothing here; create a deployment of that name at the rollout controller"
        ))
    })?;
    match route.representative() {
        Ok(pick) => {
            if pick.resident.served().is_none() {
                pick.resident.ask();
            }
            Ok(())
        }
        Err(loading) if loading.kind == Kind::Unavailable => Err(loading),
        Err(failed) => Err(Failure::new(
            Kind::Refused,
            format!("{}; the rollout controller decides which versions are loaded", failed.message),
        )),
    }
}

/// Confirms that a model is not loaded.
///
/// # Errors
/// It is: the rollout controller decides what is unloaded.
pub(crate) fn unload(routing: &Routing, repository: &str, name: &str) -> Result<(), Failure> {
    unnamed(repository)?;
    match routing.get(name) {
        Err(_not_loaded) => Ok(()),
        Ok(_) => Err(Failure::new(
            Kind::Refused,
            format!(
                "model '{name}' stays loaded while its deployment is there; delete the deployment at the rollout \
                 controller, or roll out another version"
            ),
        )),
    }
}

fn unnamed(repository: &str) -> Result<(), Failure> {
    if repository.is_empty() {
        return Ok(());
    }
    Err(Failure::not_found(format!(
        "there is no repository '{repository}'; the only one, the registry, has no name"
    )))
}
