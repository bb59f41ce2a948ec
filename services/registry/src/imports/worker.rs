//! Reads the addresses: one replica at a time does.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::delivery;
use super::oci::SCHEME;
use super::reading::{read, version_of};
use crate::clock::now_ms;
use crate::models::aliases;
use crate::state::Registry;
use crate::store::import_deliveries::delivered_root;
use crate::store::imports::{self as table, Import};

/// Watched addresses are looked at this often…
const POLL_MS: u64 = 1_000;
/// …and this often it is looked whether there are any.
const IDLE_MS: u64 = 2_000;
/// Registries of others limit how often they are asked.
const OCI_POLL_MS: u64 = 10_000;
/// Addresses that are looked at, or read, at the same time.
const PARALLEL: usize = 4;
/// What failed is tried again after this time, and then after twice as long each time, up to the maximum.
const FIRST_RETRY_MS: u64 = 1_000;
const MAX_RETRY_MS: u64 = 60_000;
/// Deliveries that have ended are removed this often.
const SWEEP_MS: u64 = 10_000;
const MAX_PROBLEM_CHARS: usize = 1_000;

/// What is remembered of an import between two looks.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Fingerprint at the look before.
    fingerprint: String,
    failures: u32,
    /// The next look.
    due_at: Option<Instant>,
}

/// Reads addresses until `shutdown`. It may be dropped anywhere: what was stored of a version that was not
/// made is removed as every interrupted upload is.
pub(crate) async fn run(registry: Registry, shutdown: CancellationToken) {
    let mut seen: HashMap<i64, Seen> = HashMap::new();
    let mut swept: Option<Instant> = None;
    loop {
        if swept.is_none_or(|at| at.elapsed() > Duration::from_millis(SWEEP_MS)) {
            swept = Some(Instant::now());
            if let Err(error) = delivery::sweep(&registry).await {
                tracing::debug!(error = format!("{error:#}"), "deliveries of imports not removed; retrying");
            }
        }
        let pause = match round(&registry, &mut seen).await {
            Ok(0) => IDLE_MS,
            Ok(_) => POLL_MS,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "imports not read; retrying");
                IDLE_MS
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
    }
}

/// Looks at all addresses that are due; how many are.
async fn round(registry: &Registry, seen: &mut HashMap<i64, Seen>) -> anyhow::Result<usize> {
    let mut db = registry.pool.acquire().await?;
    let due = table::imports_due(&mut db).await?;
    drop(db);
    seen.retain(|key, _| due.iter().any(|import| import.import_key == *key));
    let count = due.len();
    let looks = due.into_iter().filter_map(|import| {
        let seen = seen.get(&import.import_key).cloned().unwrap_or_default();
        let waits = seen.due_at.is_some_and(|at| at > Instant::now());
        (!waits).then(|| look_and_note(registry, import, seen))
    });
    let looked: Vec<(i64, Seen)> = stream::iter(looks).buffer_unordered(PARALLEL).collect().await;
    seen.extend(looked);
    Ok(count)
}

async fn look_and_note(registry: &Registry, import: Import, mut seen: Seen) -> (i64, Seen) {
    match Box::pin(look(registry, &import, &mut seen)).await {
        Ok(()) => {
            let pause = import.uri.starts_with(SCHEME).then(|| Duration::from_millis(OCI_POLL_MS));
            (seen.failures, seen.due_at) = (0, pause.map(|pause| Instant::now() + pause));
        }
        Err(error) => {
            let problem: String = format!("{error:#}").chars().take(MAX_PROBLEM_CHARS).collect();
            if import.problem.as_deref() != Some(&problem) {
                let (uri, model) = (&import.uri, &import.model);
                tracing::warn!(uri, model, problem, "not imported; retrying");
            }
            let noted = note(registry, &import, Some(&problem)).await;
            if let Err(error) = noted {
                tracing::debug!(error = format!("{error:#}"), "the problem of an import was not stored");
            }
            let wait_ms = (FIRST_RETRY_MS << seen.failures.min(16)).min(MAX_RETRY_MS);
            seen.failures += 1;
            seen.due_at = Some(Instant::now() + Duration::from_millis(wait_ms));
        }
    }
    (import.import_key, seen)
}

async fn note(registry: &Registry, import: &Import, problem: Option<&str>) -> anyhow::Result<()> {
    let mut change = registry.change().await?;
    table::import_problem(change.db(), import.import_key, problem, now_ms()).await?;
    Ok(change.commit().await?)
}

/// Looks at an address, and makes a version of what is new there.
async fn look(registry: &Registry, import: &Import, seen: &mut Seen) -> anyhow::Result<()> {
    let version = match import.delivered {
        true => delivered(registry, import).await?,
        false => read_new(registry, import, seen).await?,
    };
    let Some(version) = version else { return Ok(()) };
    if !import.alias.is_empty() {
        aliases::set(registry, &import.model, &import.alias, version).await.with_context(|| {
            format!("version {version} is imported; the alias {} is not set", import.alias)
        })?;
    }
    note(registry, import, None).await
}

/// The version of what was delivered.
async fn delivered(registry: &Registry, import: &Import) -> anyhow::Result<Option<i32>> {
    if import.version.is_some() {
        return Ok(import.version);
    }
    let root = delivered_root(&mut *registry.pool.acquire().await?, import.import_key).await?;
    let Some(root) = root else { return Ok(None) };
    let version = Box::pin(version_of(registry, import, &root)).await?;
    done(registry, import, &root, version).await?;
    Ok(Some(version))
}

/// The version of what is at an address; `None` where nothing has to be done.
async fn read_new(registry: &Registry, import: &Import, seen: &mut Seen) -> anyhow::Result<Option<i32>> {
    registry.imports.check(&import.uri).map_err(|invalid| anyhow::anyhow!(invalid.message))?;
    // What has a problem is looked at as if nothing were known of it.
    let is_done = import.version.is_some() && import.problem.is_none();
    let known = import.fingerprint.as_deref().filter(|_| is_done);
    let Some(content) = registry.imports.remote.look(&import.uri, known).await? else { return Ok(None) };
    let before = std::mem::replace(&mut seen.fingerprint, content.fingerprint.clone());
    let version = import.version.filter(|_| import.fingerprint.as_ref() == Some(&content.fingerprint));
    match version {
        Some(_) if import.problem.is_none() => Ok(None),
        // The alias was not set, or the address was unreachable meanwhile.
        Some(version) => Ok(Some(version)),
        None if !content.is_atomic() && before != content.fingerprint => Ok(None),
        None => {
            let version = Box::pin(read(registry, import, &content)).await?;
            done(registry, import, &content.fingerprint, version).await?;
            Ok(Some(version))
        }
    }
}

async fn done(registry: &Registry, import: &Import, fingerprint: &str, version: i32) -> anyhow::Result<()> {
    let mut change = registry.change().await?;
    table::import_done(change.db(), import.import_key, fingerprint, version, now_ms()).await?;
    change.commit().await?;
    tracing::info!(uri = import.uri, model = import.model, version, "imported");
    Ok(())
}
