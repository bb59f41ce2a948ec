//! Collects what nothing refers to: checkpoints that retention has released, uploads that were cut off before
//! they were committed, objects of logs that longer ones have replaced, and the work
//! folders on this machine of jobs that have ended. Launchers may do so at the same time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use slipway_service_kit::health::Readiness;
use sqlx::PgConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::logs::LogKey;
use crate::state::State;
use crate::store::checkpoints::{self, StoredCheckpoint};
use crate::store::jobs;
use crate::{logs, uploads};

const INTERVAL_MS: u64 = 30_000;
/// By then no agent of the job uploads any more.
const FINISHED_AGE_S: f64 = 600.0;
/// People look into the work folder of a job that failed.
const FAILED_AGE_S: f64 = 24.0 * 3600.0;
const BATCH: i64 = 32;
/// Objects looked at in one go; the rest follows with the next pass.
const MAX_OBJECTS: usize = 20_000;
/// Work folders looked at in one go.
const MAX_FOLDERS: usize = 10_000;
const BUCKET_RETRY_MS: u64 = 300;

/// Runs until `shutdown`. A pass that fails is repeated later: left-over bytes only take room. `work_dir`
/// holds the jobs' work folders; without it they stay.
pub(crate) async fn run(state: State, work_dir: Option<PathBuf>, shutdown: CancellationToken) {
    let mut next_pass = Instant::now() + Duration::from_millis(INTERVAL_MS);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep_until(next_pass) => {
                next_pass = Instant::now() + Duration::from_millis(INTERVAL_MS);
                if let Err(error) = pass(&state, work_dir.as_deref()).await {
                    tracing::debug!(error = format!("{error:#}"), "collecting failed; retrying");
                }
            }
            () = state.released.notified() => {}
        }
        // Also what a launcher that has ended did not get to.
        if let Err(error) = collect_released(&state).await {
            tracing::debug!(error = format!("{error:#}"), "released checkpoints not deleted; retrying");
        }
    }
}

/// Makes the bucket, however long the store stays away.
pub(crate) async fn wait_for_bucket(state: &State, readiness: &Readiness, shutdown: &CancellationToken) {
    let mut complained = false;
    while let Err(error) = state.store.ensure_bucket().await {
        if !std::mem::replace(&mut complained, true) {
            tracing::warn!(%error, "waiting for the artifact store");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(BUCKET_RETRY_MS)) => {}
        }
    }
    readiness.ready("s3");
}

async fn pass(state: &State, work_dir: Option<&Path>) -> anyhow::Result<()> {
    let mut connection = state.pool.acquire().await.context("database")?;
    if let Some(work_dir) = work_dir {
        remove_folders(&mut connection, work_dir).await?;
    }
    let ended = jobs::uncollected(&mut connection, FINISHED_AGE_S, FAILED_AGE_S, BATCH);
    for job_id in ended.await.context("database")? {
        let committed = checkpoints::list(&mut connection, job_id, i64::MAX).await.context("database")?;
        let logs = logs::lengths(&mut connection, job_id).await.context("database")?;
        if collect_objects(state, job_id, &committed).await? && collect_logs(state, job_id, &logs).await? {
            jobs::set_collected(&mut connection, job_id).await.context("database")?;
        }
    }
    Ok(())
}

/// Deletes the objects of checkpoints that retention has released, then forgets them.
async fn collect_released(state: &State) -> anyhow::Result<()> {
    loop {
        let mut connection = state.pool.acquire().await.context("database")?;
        let released = checkpoints::released(&mut connection, BATCH).await.context("database")?;
        drop(connection);
        if released.is_empty() {
            return Ok(());
        }
        for (job_id, prefix, parts) in released {
            // Its manifest first: without it the parts are no checkpoint.
            for upload in std::iter::once(&prefix).chain(&parts) {
                uploads::delete(state, upload).await?;
            }
            let mut connection = state.pool.acquire().await.context("database")?;
            checkpoints::forget(&mut connection, job_id, &prefix).await.context("database")?;
        }
    }
}

/// Deletes a job's objects and uploads in parts that belong to none of its checkpoints; `true` where all of
/// them were looked at.
async fn collect_objects(
    state: &State,
    job_id: Uuid,
    committed: &[StoredCheckpoint],
) -> Result<bool, slipway_artifact_store::Error> {
    let wanted: BTreeSet<String> = committed
        .iter()
        .flat_map(|checkpoint| {
            let manifest = &checkpoint.manifest;
            manifest.files.iter().map(|file| manifest.file_key(file)).chain([manifest.key()])
        })
        .collect();
    let prefix = format!("{}/", uploads::prefix_of(job_id));
    let complete = delete_others(state, &prefix, &wanted).await?;
    state.store.abort_parts_under(&prefix).await?;
    Ok(complete)
}

/// Deletes objects of a job's logs that longer ones have replaced; `true` where all of them were looked at.
async fn collect_logs(
    state: &State,
    job_id: Uuid,
    lengths: &[(LogKey, u64)],
) -> Result<bool, slipway_artifact_store::Error> {
    let wanted: BTreeSet<String> =
        lengths.iter().flat_map(|(log, length)| logs::keys(log, *length)).collect();
    delete_others(state, &format!("{}/", logs::prefix(job_id)), &wanted).await
}

/// Deletes objects under a prefix that are not wanted; `true` where all of them were looked at.
async fn delete_others(
    state: &State,
    prefix: &str,
    wanted: &BTreeSet<String>,
) -> Result<bool, slipway_artifact_store::Error> {
    let found = state.store.list(prefix, MAX_OBJECTS).await?;
    let complete = found.len() < MAX_OBJECTS;
    for object in found.into_iter().filter(|object| !wanted.contains(&object.key)) {
        state.store.delete(&object.key).await?;
    }
    Ok(complete)
}

/// Removes the work folders on this machine of jobs that have ended.
async fn remove_folders(connection: &mut PgConnection, work_dir: &Path) -> anyhow::Result<()> {
    let within = || format!("cannot read {}", work_dir.display());
    let mut folders = tokio::fs::read_dir(work_dir).await.with_context(within)?;
    let mut found = Vec::new();
    while let Some(folder) = folders.next_entry().await.with_context(within)? {
        if found.len() >= MAX_FOLDERS {
            break;
        }
        found.extend(folder.file_name().to_str().and_then(|name| Uuid::parse_str(name).ok()));
    }
    let ended = jobs::ended_among(connection, &found, FINISHED_AGE_S, FAILED_AGE_S);
    for job_id in ended.await.context("database")? {
        remove_folder(&work_dir.join(job_id.to_string())).await?;
    }
    Ok(())
}

async fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
