//! Models from outside of the registry: an address is read once, or watched, and its content becomes
//! versions.
//!
//! A version is made once for each content: by its digest, whatever address it comes from. Where an alias is
//! given, it is set to each version that is made, so that deployments which follow the alias roll it out.

mod config;
pub(crate) mod delivery;
mod oci;
mod reading;
mod remote;
pub(crate) mod sources;
mod stream;
mod tar;
mod unpack;
mod worker;

use slipway_access::principal::ROLLOUT_CONTROLLER_SERVICE;
use slipway_domain::Invalid;
use slipway_domain::access::{Role, Scope};
use slipway_domain::registry::validate_alias;
use slipway_runtime::id;
use uuid::Uuid;

pub use self::config::ImportConfig;
pub(crate) use self::worker::run;
use crate::access::caller::Caller;
use crate::clock::now_ms;
use crate::error::Error;
use crate::models::registered_models::{self, NewModel};
use crate::state::Registry;
use crate::store::imports::{self as table, Import};
use crate::store::registered_models as models;

/// Longest address.
const MAX_URI_BYTES: usize = 2_048;

/// An import as a client asks for it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) model: String,
    pub(crate) uri: String,
    /// Set to each version that is made; empty: none is.
    pub(crate) alias: String,
    pub(crate) watch: bool,
    /// Whether the bytes are delivered, since the registry cannot read them.
    pub(crate) delivered: bool,
}

/// Begins to import an address, or goes on with it. A model that does not exist is created.
///
/// # Errors
/// The address may not be imported, the caller may not register versions of the model or set the alias, or
/// Postgres is unreachable.
pub(crate) async fn ensure(registry: &Registry, caller: &Caller, request: &Request) -> Result<Import, Error> {
    let Request { model, uri, alias, watch, delivered } = request;
    may_import(caller, model, alias)?;
    let refuse = |Invalid { field, message }: Invalid| Error::invalid(field, message);
    if uri.len() > MAX_URI_BYTES {
        return Err(Error::invalid("uri", format!("expected at most {MAX_URI_BYTES} bytes")));
    }
    if *delivered {
        delivery::may_have_delivered(caller)?;
        delivery::check(uri)?;
        if *watch {
            return Err(Error::invalid("watch", format!("{uri} is delivered once, and cannot be watched")));
        }
    } else {
        remote::check(uri).map_err(|error| Error::invalid("uri", error.to_string()))?;
        registry.imports.check(uri).map_err(refuse)?;
    }
    if !alias.is_empty() {
        validate_alias(alias)?;
    }
    let new = NewModel { name: model.clone(), description: None, tags: Vec::new() };
    match registered_models::create(registry, &new).await {
        Ok(_) | Err(Error::Exists(_)) => {}
        Err(error) => return Err(error),
    }
    let mut change = registry.change().await?;
    let model_key = models::model_get(change.db(), model).await?.model_key;
    let new = table::NewImport {
        id: id::time_ordered(),
        model_key,
        uri,
        alias,
        watch: *watch,
        delivered: *delivered,
    };
    let import = table::import_put(change.db(), &new, now_ms()).await?;
    change.commit().await?;
    Ok(import)
}

/// Who may register versions of the model and set its aliases may; so may the rollout controller, for
/// ModelDeployments.
fn may_import(caller: &Caller, model: &str, alias: &str) -> Result<(), Error> {
    if caller.actor.principal == ROLLOUT_CONTROLLER_SERVICE {
        return Ok(());
    }
    let role = if alias.is_empty() { Role::Editor } else { Role::Deployer };
    caller.require(role, &Scope::Model(model.to_owned()))
}

/// Imports of a model, the oldest first, behind the given one.
///
/// # Errors
/// The model does not exist, or Postgres is unreachable.
pub(crate) async fn list(
    registry: &Registry,
    model: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<Import>, Error> {
    let mut db = registry.pool.acquire().await?;
    models::model_get(&mut db, model).await?;
    table::import_list(&mut db, model, after, limit).await
}

/// Ends an import. Its versions stay.
///
/// # Errors
/// There is none, or Postgres is unreachable.
pub(crate) async fn delete(registry: &Registry, model: &str, id: Uuid) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let found = table::import_get(change.db(), model, id).await?;
    let absent = || Error::not_found(format!("There is no import '{id}' of model '{model}'"));
    table::import_delete(change.db(), found.ok_or_else(absent)?.import_key).await?;
    change.commit().await
}

/// Ends the imports of a model whose versions get this alias, if there are any.
///
/// # Errors
/// The caller may not set the alias, or Postgres is unreachable.
pub(crate) async fn end(registry: &Registry, caller: &Caller, model: &str, alias: &str) -> Result<(), Error> {
    may_import(caller, model, alias)?;
    let mut change = registry.change().await?;
    table::imports_delete_of_alias(change.db(), model, alias).await?;
    change.commit().await
}
