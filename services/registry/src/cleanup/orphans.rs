//! Garbage collection on demand: what waits to be swept, and objects of the bucket that no row knows.
//!
//! Every upload notes its key before its first byte, and keys are never used twice: so an object that no row
//! knows belongs to nobody, for instance after the database was restored from a backup. Whatever it removes,
//! it may are interrupted at any point and be repeated.

use std::time::{Duration, SystemTime};

use slipway_runtime::clock;

use crate::cleanup::unreferenced::{self, Freed};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::blobs;

/// Objects that wait to be swept and whose sizes a dry run looks up.
const MAX_LOOSE_SHOWN: i64 = 1_000;

/// An object that no row knows.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) key: String,
    pub(crate) size_bytes: u64,
}

/// What one page came to.
#[derive(Debug)]
pub(crate) struct Collected {
    /// What waited to be swept; looked at with the first page alone.
    pub(crate) loose: Freed,
    /// Objects of the bucket that were looked at.
    pub(crate) examined: usize,
    pub(crate) orphans: Vec<Orphan>,
    /// Key behind which the next page begins.
    pub(crate) next: Option<String>,
}

/// Looks at up to `limit` objects behind the key `after`, and removes what has been garbage for `grace`
/// unless it is a dry run.
///
/// # Errors
/// Postgres or the artifact store is unreachable: what was removed is gone, and the page may be repeated.
pub(crate) async fn step(
    registry: &Registry,
    after: Option<&str>,
    limit: usize,
    grace: Duration,
    dry_run: bool,
) -> Result<Collected, Error> {
    let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
    let loose = match (after, dry_run) {
        (Some(_), _) => Freed::default(),
        (None, true) => waiting(registry, grace_ms).await?,
        (None, false) => {
            let freed = unreferenced::pass(registry, grace_ms).await?;
            unreferenced::parts(registry, grace_ms).await?;
            freed
        }
    };
    let listed = registry.artifacts.list_page(blobs::PREFIX, after, limit).await?;
    let next = if listed.len() == limit { listed.last().map(|object| object.key.clone()) } else { None };
    let examined = listed.len();
    let before = clock::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
    // Stores tell the time by the second.
    let old: Vec<_> =
        listed.into_iter().filter(|object| object.modified.is_some_and(|at| at <= before)).collect();
    // After the listing: what it saw was noted before.
    let keys: Vec<String> = old.iter().map(|object| object.key.clone()).collect();
    let unknown = blobs::blobs_unknown(&mut *registry.pool.acquire().await?, &keys).await?;
    let orphans = old.into_iter().filter(|object| unknown.contains(&object.key));
    let orphans: Vec<Orphan> =
        orphans.map(|object| Orphan { key: object.key, size_bytes: object.size_bytes }).collect();
    if !dry_run {
        for orphan in &orphans {
            registry.artifacts.delete(&orphan.key).await?;
        }
    }
    Ok(Collected { loose, examined, orphans, next })
}

/// What would be swept.
async fn waiting(registry: &Registry, grace_ms: i64) -> Result<Freed, Error> {
    let mut db = registry.pool.acquire().await?;
    let keys = blobs::blobs_loose(&mut db, now_ms() - grace_ms, MAX_LOOSE_SHOWN).await?;
    drop(db);
    let mut waiting = Freed::default();
    for key in keys {
        waiting.count(registry.artifacts.size_bytes(&key).await?);
    }
    Ok(waiting)
}
