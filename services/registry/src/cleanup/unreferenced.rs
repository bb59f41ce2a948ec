//! Removes objects that nothing refers to: uploads that was interrupted, files that were replaced or deleted.

use std::time::Duration;

use slipway_runtime::clock;
use slipway_service_kit::db::while_open;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::{blobs, direct_uploads};

const INTERVAL_MS: u64 = 60_000;
/// An upload takes no longer than this; what is loose for longer is garbage.
const MAX_UPLOAD_MS: i64 = 24 * 3_600_000;
const BATCH: i64 = 100;
/// Bytes that are deleted stay for so long, for whoever is still downloading them.
const GRACE_MS: i64 = 3_600_000;

/// Time with which an object is listed that was deleted now, and is garbage after a grace period.
pub(crate) const fn released_at(now_ms: i64) -> i64 {
    now_ms - MAX_UPLOAD_MS + GRACE_MS
}

/// Looking for uploads in parts that a killed process left costs the artifact store more than a look into a
/// table.
const PASSES_PER_LOOK_FOR_PARTS: u32 = 30;

/// Runs until `shutdown`. A pass that fails is repeated later: left-over bytes only take room.
pub(crate) async fn run(registry: Registry, shutdown: CancellationToken) {
    for number in 0_u32.. {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(INTERVAL_MS)) => {}
        }
        match pass(&registry, MAX_UPLOAD_MS).await {
            Ok(freed) if freed.objects > 0 => {
                tracing::info!(freed.objects, freed.size_bytes, "removed unreferenced objects");
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "orphaned objects not removed; retrying"),
        }
        if number % PASSES_PER_LOOK_FOR_PARTS == 0
            && let Err(error) = parts(&registry, MAX_UPLOAD_MS).await
        {
            tracing::debug!(%error, "orphaned parts of uploads not removed; retrying");
        }
    }
}

/// Removes uploads in parts that were begun `age_ms` ago or before.
pub(crate) async fn parts(registry: &Registry, age_ms: i64) -> Result<(), Error> {
    let mut db = slipway_lease::begin(&registry.pool).await?;
    direct_uploads::uploads_forget_before(&mut db, now_ms() - age_ms).await?;
    db.commit().await?;
    let before = clock::now() - Duration::from_millis(age_ms.unsigned_abs());
    let aborted = registry.artifacts.abort_parts_before(blobs::PREFIX, before).await?;
    if aborted > 0 {
        tracing::info!(uploads = aborted, "removed interrupted uploads");
    }
    Ok(())
}

/// What left the bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) objects: u64,
    pub(crate) size_bytes: u64,
}

impl Freed {
    /// Counts an object of that size; none where there was no object.
    pub(crate) fn count(&mut self, size_bytes: Option<u64>) {
        if let Some(size_bytes) = size_bytes {
            self.objects += 1;
            self.size_bytes += size_bytes;
        }
    }
}

/// Removes what has been loose for `age_ms`; the list and the bytes go together, or the list stays.
pub(crate) async fn pass(registry: &Registry, age_ms: i64) -> Result<Freed, Error> {
    let mut freed = Freed::default();
    loop {
        let mut change = registry.change().await?;
        let loose = blobs::blobs_take_loose(change.db(), now_ms() - age_ms, BATCH).await?;
        if loose.is_empty() {
            change.commit().await?;
            return Ok(freed);
        }
        let removed = async {
            for key in &loose {
                // An upload that was interrupted may have left no object at all.
                freed.count(registry.artifacts.size_bytes(key).await?);
                registry.artifacts.delete(key).await?;
            }
            Ok::<_, Error>(())
        };
        while_open(change.db(), removed).await??;
        change.commit().await?;
    }
}
