//! Collects objects that nothing refers to: released checkpoints that an agent did not get to delete, and uploads that were cut
//! off before they were committed.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use slipway_service_kit::health::Readiness;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::state::State;
use crate::store::{checkpoints, jobs};

const INTERVAL_MS: u64 = 30_000;
/// An agent deletes what is released itself; what is left after this time is collected here.
const RELEASED_AGE_S: f64 = 600.0;
/// By then no agent of the job uploads any more.
const FINISHED_AGE_S: f64 = 600.0;
const BATCH: i64 = 32;
/// Objects looked at in one go; the rest follows with the next pass.
const MAX_OBJECTS: usize = 20_000;
const BUCKET_RETRY_MS: u64 = 300;

/// Object key prefix of a job's checkpoints, without a trailing slash.
pub(crate) fn prefix(job_id: Uuid) -> String {
    format!("checkpoints/{job_id}")
}

/// Runs until `shutdown`. A pass that fails is repeated later: left-over bytes only take room.
pub(crate) async fn run(state: State, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(INTERVAL_MS)) => {}
        }
        if let Err(error) = pass(&state).await {
            tracing::debug!(error = format!("{error:#}"), "left-over checkpoints are collected later");
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

async fn pass(state: &State) -> anyhow::Result<()> {
    let mut connection = state.pool.acquire().await.context("database")?;
    for (job_id, prefix) in
        checkpoints::released(&mut connection, RELEASED_AGE_S, BATCH).await.context("database")?
    {
        // First the manifest: without it the rest is no checkpoint.
        state.store.delete(&format!("{prefix}/MANIFEST.json")).await?;
        for object in state.store.list(&format!("{prefix}/"), MAX_OBJECTS).await? {
            state.store.delete(&object.key).await?;
        }
        checkpoints::forget(&mut connection, job_id, &prefix).await.context("database")?;
    }
    for job_id in jobs::uncollected(&mut connection, FINISHED_AGE_S, BATCH).await.context("database")? {
        let committed = checkpoints::list(&mut connection, job_id, i64::MAX).await.context("database")?;
        let wanted: BTreeSet<String> = committed
            .iter()
            .flat_map(|checkpoint| {
                let manifest = &checkpoint.manifest;
                manifest.files.iter().map(|file| manifest.file_key(file)).chain([manifest.key()])
            })
            .collect();
        let found = state.store.list(&format!("{}/", prefix(job_id)), MAX_OBJECTS).await?;
        let complete = found.len() < MAX_OBJECTS;
        for object in found.into_iter().filter(|object| !wanted.contains(&object.key)) {
            state.store.delete(&object.key).await?;
        }
        if complete {
            jobs::set_collected(&mut connection, job_id).await.context("database")?;
        }
    }
    Ok(())
}
