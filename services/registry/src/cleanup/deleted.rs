//! Removes for good what was deleted long enough ago: runs with their histories and files, logged models,
//! experiments.
//!
//! Each run goes in steps that may are interrupted anywhere: it is hidden, then its points go in portions,
//! then the rest in one transaction with the event that tells of it. What a model version was made from
//! stays, and so does every file that a version pins. Bytes are freed by the sweeper, which looks again
//! whether something refers to them.

use serde_json::json;

use crate::cleanup::unreferenced;
use crate::clock::now_ms;
use crate::error::Error;
use crate::models::versions::source::proxy_path;
use crate::state::Registry;
use crate::store::purge::{self as table, Due, Entry};
use crate::store::{artifacts, blobs};

/// Points that one statement removes.
const METRICS_AT_ONCE: i64 = 50_000;

/// Removes at most `limit` of each kind; says what went.
///
/// # Errors
/// Postgres is unreachable: what went is gone, the rest goes next time.
pub(crate) async fn purge(registry: &Registry, before_ms: i64, limit: i64) -> Result<Due, Error> {
    let mut gone = Due::default();
    let runs = table::runs_due(&mut *registry.pool.acquire().await?, before_ms, limit).await?;
    for run in &runs {
        gone.runs += i64::from(purge_run(registry, run, before_ms, &mut gone).await?);
    }
    let models = table::logged_models_due(&mut *registry.pool.acquire().await?, before_ms, limit).await?;
    for model in &models {
        gone.logged_models += i64::from(purge_logged_model(registry, model, before_ms, &mut gone).await?);
    }
    let mut change = registry.change().await?;
    let experiments = table::experiments_remove(change.db(), before_ms, limit).await?;
    for experiment in &experiments {
        change.tell("experiment", "purged", experiment.to_string(), json!({})).await?;
    }
    change.commit().await?;
    gone.experiments = i64::try_from(experiments.len()).unwrap_or(i64::MAX);
    Ok(gone)
}

/// What a purge would remove.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn due(registry: &Registry, before_ms: i64) -> Result<Due, Error> {
    table::purge_count(&mut *registry.pool.acquire().await?, before_ms).await
}

/// Removes one run; `false` where it is not due any more.
pub(crate) async fn purge_run(
    registry: &Registry,
    run: &Entry,
    before_ms: i64,
    gone: &mut Due,
) -> Result<bool, Error> {
    let mut change = registry.change().await?;
    let Some(run_key) = table::run_hide(change.db(), &run.id, before_ms).await? else { return Ok(false) };
    change.commit().await?;
    loop {
        let mut db = slipway_lease::begin(&registry.pool).await?;
        let removed = table::metrics_remove(&mut db, run_key, METRICS_AT_ONCE).await?;
        db.commit().await?;
        if removed == 0 {
            break;
        }
    }
    let mut change = registry.change().await?;
    let files = remove_files(change.db(), &run.artifact_uri).await?;
    // Purges may meet: of two replicas, or of a rule and a client.
    if !table::run_remove(change.db(), run_key).await? {
        return Ok(false);
    }
    let details = json!({"files": files.0, "size_bytes": files.1});
    change.tell("run", "purged", run.id.as_str(), details).await?;
    change.commit().await?;
    count(gone, files);
    Ok(true)
}

async fn purge_logged_model(
    registry: &Registry,
    model: &Entry,
    before_ms: i64,
    gone: &mut Due,
) -> Result<bool, Error> {
    let mut change = registry.change().await?;
    let files = remove_files(change.db(), &model.artifact_uri).await?;
    if !table::logged_model_remove(change.db(), &model.id, before_ms).await? {
        return Ok(false);
    }
    let details = json!({"files": files.0, "size_bytes": files.1});
    change.tell("logged-model", "purged", model.id.as_str(), details).await?;
    change.commit().await?;
    count(gone, files);
    Ok(true)
}

fn count(gone: &mut Due, (files, size_bytes): (i64, i64)) {
    gone.files += files;
    gone.size_bytes += size_bytes;
}

/// Deletes the files under an artifact URI; how many, and their bytes. Files that lie elsewhere are not ours
/// to remove.
async fn remove_files(db: &mut sqlx::PgConnection, artifact_uri: &str) -> Result<(i64, i64), Error> {
    let Some(root) = proxy_path(artifact_uri)? else { return Ok((0, 0)) };
    // Against a registration that pins them.
    artifacts::artifact_lock(db, &root, false).await?;
    let removed = table::files_remove(db, &root).await?;
    let (keys, sizes): (Vec<String>, Vec<i64>) = removed.into_iter().unzip();
    if !keys.is_empty() {
        blobs::blobs_release(db, &keys, unreferenced::released_at(now_ms())).await?;
    }
    Ok((i64::try_from(keys.len()).unwrap_or(i64::MAX), sizes.iter().sum()))
}
