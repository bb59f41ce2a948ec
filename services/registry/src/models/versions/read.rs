//! Use cases that read model versions: by number, by alias, for a deployment, as a list and by a filter.

use slipway_domain::access::{Role, Scope};
use slipway_domain::registry::filter::{Clause, Order};
use sqlx::PgConnection;

use crate::access::caller::Caller;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::model_versions::{self as table, ModelVersion, VersionFile, VersionName};
use crate::store::{deployed, registered_models};
use crate::trust::signing::{self, Judged};

/// A version with its files.
#[derive(Debug)]
pub(crate) struct WithFiles {
    pub(crate) version: ModelVersion,
    pub(crate) files: Vec<VersionFile>,
    /// How often its model was renamed.
    pub(crate) name_revision: u32,
}

/// How a service names a version.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'name> {
    Number(i32),
    Alias(&'name str),
    /// The newest version with it.
    Digest(&'name str),
}

/// That version of that model.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn get(registry: &Registry, name: VersionName<'_>) -> Result<ModelVersion, Error> {
    table::version_get(&mut *registry.pool.acquire().await?, name.model, name.version).await
}

/// A version with its files, and how it is signed.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn details(
    registry: &Registry,
    name: VersionName<'_>,
) -> Result<(ModelVersion, Vec<VersionFile>, Judged), Error> {
    let mut db = registry.pool.acquire().await?;
    let found = table::version_get(&mut db, name.model, name.version).await?;
    let files = table::version_files(&mut db, found.model_key, found.version).await?;
    let judged = signing::judge(&mut db, found.model_key, found.version).await?;
    Ok((found, files, judged))
}

/// A page of a model's versions, the newest first, below the given one.
///
/// # Errors
/// The model does not exist, or Postgres is unreachable.
pub(crate) async fn list(
    registry: &Registry,
    model: &str,
    below: Option<i32>,
    limit: i64,
) -> Result<Vec<ModelVersion>, Error> {
    let mut db = registry.pool.acquire().await?;
    let model = registered_models::model_get(&mut db, model).await?;
    table::version_list(&mut db, model.model_key, below, limit).await
}

/// The newest version of each stage.
///
/// # Errors
/// The model does not exist, or Postgres is unreachable.
pub(crate) async fn latest(registry: &Registry, model: &str) -> Result<Vec<ModelVersion>, Error> {
    let mut db = registry.pool.acquire().await?;
    let model = registered_models::model_get(&mut db, model).await?;
    table::versions_latest(&mut db, &[model.model_key]).await
}

/// A page of the versions that the caller may read, which match a filter.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn search(
    registry: &Registry,
    caller: &Caller,
    conditions: (&[Clause], &[Order]),
    page: (i64, i64),
) -> Result<Vec<ModelVersion>, Error> {
    let mut db = registry.pool.acquire().await?;
    table::version_search(&mut db, &caller.grants.visible_models(), conditions, page).await
}

/// A version with its files, for another service. With `for_deployment`, the version is held for that
/// deployment, so that it is not deleted before the deployment serves it.
///
/// # Errors
/// The caller may not read the model, the version does not exist, or Postgres is unreachable.
pub(crate) async fn with_files(
    registry: &Registry,
    caller: &Caller,
    model: &str,
    which: Which<'_>,
    for_deployment: &str,
) -> Result<WithFiles, Error> {
    let may_read = |model: &str| caller.require(Role::Viewer, &Scope::Model(model.to_owned()));
    let mut db = slipway_service_kit::db::begin(&registry.pool).await?;
    let (model, version) = match which {
        Which::Number(version) => {
            let model = present_name(&mut db, model.to_owned()).await?;
            may_read(&model)?;
            (model, version)
        }
        Which::Digest(digest) => {
            let model = present_name(&mut db, model.to_owned()).await?;
            may_read(&model)?;
            let version = table::version_of_digest(&mut db, &model, digest).await?;
            let absent = || Error::not_found(format!("Model '{model}' has no version with digest {digest}"));
            (model.clone(), version.ok_or_else(absent)?)
        }
        Which::Alias(alias) => {
            may_read(model)?;
            (model.to_owned(), registered_models::alias_get(&mut db, model, alias).await?)
        }
    };
    let found = held(&mut db, &model, version, for_deployment).await?;
    db.commit().await?;
    Ok(found)
}

/// The name that a renamed model has now; any other name stays as it is.
///
/// # Errors
/// Postgres is unreachable.
pub(super) async fn present_name(db: &mut PgConnection, name: String) -> Result<String, Error> {
    Ok(deployed::renamed_to(db, &name).await?.unwrap_or(name))
}

async fn held(
    db: &mut PgConnection,
    model: &str,
    version: i32,
    for_deployment: &str,
) -> Result<WithFiles, Error> {
    let found = table::version_get(db, model, version).await?;
    if !for_deployment.is_empty()
        && !deployed::version_hold(db, found.model_key, version, for_deployment, now_ms()).await?
    {
        return Err(table::absent(model, version));
    }
    let name_revision = registered_models::name_revision(db, found.model_key).await?.unsigned_abs();
    let files = table::version_files(db, found.model_key, version).await?;
    Ok(WithFiles { version: found, files, name_revision })
}
