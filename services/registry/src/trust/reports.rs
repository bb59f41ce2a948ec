//! Use cases of validation reports: add one to a version, list and read them. A report never changes.

use serde_json::json;
use slipway_domain::registry::report::Report;
use slipway_runtime::id;

use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::model_versions::{VersionName, version_get};
use crate::store::registered_models::model_touch;
use crate::store::reports::{self as table, StoredReport};

/// Reports of one version.
const MAX_REPORTS: i64 = 1_000;
/// Names that they have: each name's newest is read whenever the version is judged.
const MAX_NAMES: i64 = 50;

/// Adds a report.
///
/// # Errors
/// The report is invalid, the version does not exist or has too many reports, or Postgres is unreachable.
pub(crate) async fn add(
    registry: &Registry,
    name: VersionName<'_>,
    report: &Report,
) -> Result<StoredReport, Error> {
    report.validate()?;
    let VersionName { model, version } = name;
    let mut change = registry.change().await?;
    model_touch(change.db(), model, now_ms()).await?;
    let found = version_get(change.db(), model, version).await?;
    let key = (found.model_key, found.version);
    let (count, other_names) = table::report_counts(change.db(), key, &report.name).await?;
    if count >= MAX_REPORTS || other_names >= MAX_NAMES {
        return Err(Error::Conflict(format!(
            "version {version} of '{model}' has {count} reports already; {MAX_REPORTS} under {MAX_NAMES} \
             names are kept"
        )));
    }
    let id = id::time_ordered().to_string();
    table::report_add(change.db(), key, &id, report, now_ms()).await?;
    let stored = table::report_get(change.db(), key, &id).await?;
    let stored = stored.ok_or_else(|| Error::internal("a report is gone that was just added"))?;
    let details = json!({
        "model": model, "version": version.to_string(), "report": id, "name": report.name,
            "dataset": report.dataset,
        "rows": report.rows, "metrics": report.metrics,
    });
    change.tell("report", "added", format!("{model}/{version}/{}", report.name), details).await?;
    change.commit().await?;
    Ok(stored)
}

/// A page of the reports of a version, the newest first, of one name if given.
///
/// # Errors
/// The version does not exist, or Postgres is unreachable.
pub(crate) async fn list(
    registry: &Registry,
    name: VersionName<'_>,
    report_name: Option<&str>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredReport>, Error> {
    let mut db = registry.pool.acquire().await?;
    let found = version_get(&mut db, name.model, name.version).await?;
    table::reports(&mut db, (found.model_key, found.version), report_name, before, limit).await
}

/// One report of a version.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn get(registry: &Registry, name: VersionName<'_>, id: &str) -> Result<StoredReport, Error> {
    let VersionName { model, version } = name;
    let mut db = registry.pool.acquire().await?;
    let found = version_get(&mut db, model, version).await?;
    let stored = table::report_get(&mut db, (found.model_key, found.version), id).await?;
    stored.ok_or_else(|| Error::not_found(format!("Version {version} of '{model}' has no report '{id}'")))
}
