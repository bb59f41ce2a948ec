//! The model repository extension: what is there, and who decides that.

use slipway_api::inference::repository_index_response::ModelIndex;
use slipway_api::traffic::VersionState;

use crate::failure::{Failure, Kind};
use crate::models::files::LOCAL_PREFIX;
use crate::models::routing::Routing;

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
            name: routing.selection.shown(name).to_owned(),
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

/// Confirms a model that is loaded, and has one loaded that was unloaded to make room; `overrides` are the
/// names of files and settings sent along.
///
/// # Errors
/// It is not ready: the rollout controller decides what is loaded. Files and settings come from the registry
/// and the server only.
pub(crate) fn load<'name>(
    routing: &Routing,
    repository: &str,
    name: &str,
    mut overrides: impl Iterator<Item = &'name str>,
) -> Result<(), Failure> {
    unnamed(repository)?;
    if let Some(given) = overrides.next() {
        let how = Decider::of(routing).how_to_change();
        return Err(Failure::new(
            Kind::Refused,
            format!("model '{name}' cannot be loaded with '{given}': {how}"),
        ));
    }
    let decider = Decider::of(routing);
    let route = routing.get(name).map_err(|_unknown| {
        let how = decider.how_to_add();
        Failure::not_found(format!("unknown model '{name}': clients load nothing here; {how}"))
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
            format!("{}; {} decides which versions are loaded", failed.message, decider.name()),
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
            format!("model '{name}' stays loaded while {}", Decider::of(routing).how_to_remove()),
        )),
    }
}

/// Who decides what is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decider {
    RolloutController,
    /// A folder of models; see [`LOCAL_PREFIX`].
    Folder,
}

impl Decider {
    fn of(routing: &Routing) -> Self {
        let routes = routing.all();
        let mut targets = routes.values().flat_map(|route| route.table.targets());
        let is_local = targets.any(|target| target.digest.starts_with(LOCAL_PREFIX));
        if is_local { Self::Folder } else { Self::RolloutController }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::RolloutController => "the rollout controller",
            Self::Folder => "the folder of models",
        }
    }

    const fn how_to_add(self) -> &'static str {
        match self {
            Self::RolloutController => "create a deployment of that name at the rollout controller",
            Self::Folder => "put it into the folder of models",
        }
    }

    const fn how_to_change(self) -> &'static str {
        match self {
            Self::RolloutController => {
                "its files come from the registry and its settings from this server; register a new version \
                 and roll it out"
            }
            Self::Folder => "its files and settings come from the folder of models; add a version there",
        }
    }

    const fn how_to_remove(self) -> &'static str {
        match self {
            Self::RolloutController => {
                "its deployment is there; delete the deployment at the rollout controller, or roll out \
                 another version"
            }
            Self::Folder => "it is in the folder of models; remove it there",
        }
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
