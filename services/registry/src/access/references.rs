//! What the body of a request names by id: runs, logged models, versions, files.
//!
//! To refer to a thing is to read it: a version shows the run that it was made from on its card, in its
//! training profile and in the metrics that a policy judges. So a row refers to a thing only through a link
//! of this module, and a link is made only for a caller who may read the thing. A thing that does not exist
//! needs the role on everything, as everywhere else.

use slipway_domain::access::{Role, Scope};
use sqlx::PgConnection;

use super::caller::Caller;
use super::links::{LoggedModelLink, RunLink};
use crate::error::Error;
use crate::store::access as table;
use crate::store::logged_models::LoggedModel;
use crate::store::model_versions::ModelVersion;

/// Experiments have artifact locations no deeper than this.
const MAX_LOCATION_SEGMENTS: usize = 16;

fn may_read(caller: &Caller, scope: &Scope) -> Result<(), Error> {
    caller.require(Role::Viewer, scope)
}

async fn experiment_of(db: &mut PgConnection, run_id: &str) -> Result<Option<i64>, Error> {
    Ok(table::run_experiments(db, &[run_id.to_owned()]).await?.remove(run_id))
}

/// A run that the request names.
///
/// # Errors
/// The caller may not read it, or Postgres is unreachable.
pub(crate) async fn run(db: &mut PgConnection, caller: &Caller, run_id: &str) -> Result<RunLink, Error> {
    let experiment_id = experiment_of(db, run_id).await?;
    may_read(caller, &experiment_id.map_or(Scope::Everything, Scope::Experiment))?;
    Ok(RunLink::new(run_id, experiment_id))
}

/// Logged models that the request names.
///
/// # Errors
/// As for [`run`].
pub(crate) async fn logged_models(
    db: &mut PgConnection,
    caller: &Caller,
    model_ids: Vec<String>,
) -> Result<Vec<LoggedModelLink>, Error> {
    if !model_ids.is_empty() && may_read(caller, &Scope::Everything).is_err() {
        for scope in table::logged_model_experiments(db, &model_ids).await? {
            may_read(caller, &scope)?;
        }
    }
    Ok(model_ids.into_iter().map(LoggedModelLink::new).collect())
}

/// One logged model that the request names.
///
/// # Errors
/// As for [`run`].
pub(crate) async fn logged_model(
    db: &mut PgConnection,
    caller: &Caller,
    model_id: &str,
) -> Result<LoggedModelLink, Error> {
    logged_models(db, caller, vec![model_id.to_owned()]).await?;
    Ok(LoggedModelLink::new(model_id.to_owned()))
}

/// A registered model that the request names, with all its versions.
///
/// # Errors
/// The caller may not read it.
pub(crate) fn registered_model(caller: &Caller, name: &str) -> Result<(), Error> {
    may_read(caller, &Scope::Model(name.to_owned()))
}

/// Files of the artifact proxy that the request names.
///
/// # Errors
/// As for [`run`].
pub(crate) async fn artifacts(db: &mut PgConnection, caller: &Caller, path: &str) -> Result<(), Error> {
    owners(db, path).await?.iter().try_for_each(|scope| may_read(caller, scope))
}

/// The run of a logged model that the request names: what is reached through a reference is authorised like
/// the reference itself.
///
/// # Errors
/// The run is in another experiment, which the caller may not read; or Postgres is unreachable.
pub(crate) async fn run_of_model(
    db: &mut PgConnection,
    caller: &Caller,
    model: &LoggedModel,
) -> Result<Option<RunLink>, Error> {
    let Some(run_id) = &model.source_run_id else { return Ok(None) };
    reached(db, caller, run_id, Some(model.experiment_id)).await.map(Some)
}

/// The run of a version that the request names.
///
/// # Errors
/// Readers of the version may not read its run, and neither may the caller; or Postgres is unreachable.
pub(crate) async fn run_of_version(
    db: &mut PgConnection,
    caller: &Caller,
    version: &ModelVersion,
) -> Result<Option<RunLink>, Error> {
    let Some(run_id) = &version.run_id else { return Ok(None) };
    reached(db, caller, run_id, version.run_experiment_id).await.map(Some)
}

/// The logged model of a version that the request names, which readers of the version may refer to.
pub(crate) fn model_of_version(version: &ModelVersion) -> Option<LoggedModelLink> {
    version.logged_model_id.clone().map(LoggedModelLink::new)
}

/// A run that is reached through something whose readers may read the experiment `through`.
async fn reached(
    db: &mut PgConnection,
    caller: &Caller,
    run_id: &str,
    through: Option<i64>,
) -> Result<RunLink, Error> {
    let mut experiment_id = experiment_of(db, run_id).await?;
    if let Some(experiment) = experiment_id.filter(|_| experiment_id != through) {
        may_read(caller, &Scope::Experiment(experiment))?;
        // With access control off nothing was authorised, so the link proves nothing once it is on.
        experiment_id = experiment_id.filter(|_| !caller.is_anonymous());
    }
    Ok(RunLink::new(run_id, experiment_id))
}

/// The experiments in whose artifact locations a path lies; everything where it lies in none.
pub(crate) async fn owners(db: &mut PgConnection, path: &str) -> Result<Vec<Scope>, Error> {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    let locations: Vec<String> =
        ends.take(MAX_LOCATION_SEGMENTS).map(|end| format!("mlflow-artifacts:/{}", &path[..end])).collect();
    let found = table::experiments_at(db, &locations).await?;
    if found.is_empty() || path.is_empty() {
        return Ok(vec![Scope::Everything]);
    }
    Ok(found.into_iter().map(Scope::Experiment).collect())
}

/// For whom a version is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reader<'caller> {
    /// Access control is off: every caller reads everything.
    Everyone,
    /// One caller, who sees a run that it may read also where the version's link to it was not authorised.
    Caller(&'caller Caller),
    /// Every reader of the version: decisions and other services, which act for many callers.
    Version,
}

impl Reader<'_> {
    /// Whether names were proven by credentials.
    pub(crate) const fn is_authenticated(self) -> bool {
        !matches!(self, Self::Everyone)
    }
}

/// The run that a version was made from, as far as this reader may see it. A link from before links were
/// authorised, or to a run that was since replaced by one of another experiment, shows nothing to readers of
/// the version.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn visible_run<'version>(
    db: &mut PgConnection,
    version: &'version ModelVersion,
    reader: Reader<'_>,
) -> Result<Option<&'version str>, Error> {
    let Some(run_id) = version.run_id.as_deref() else { return Ok(None) };
    if !reader.is_authenticated() {
        return Ok(Some(run_id));
    }
    let Some(experiment) = experiment_of(db, run_id).await? else { return Ok(Some(run_id)) };
    let authorised = version.run_experiment_id == Some(experiment);
    let own = match reader {
        Reader::Caller(caller) => may_read(caller, &Scope::Experiment(experiment)).is_ok(),
        Reader::Everyone | Reader::Version => false,
    };
    Ok((authorised || own).then_some(run_id))
}

/// A listing that shows only files of versions of these models: its caller may read them, and not the
/// experiment that contains them.
#[derive(Debug, Clone)]
pub(crate) struct PinnedBy(pub(crate) Vec<String>);
