//! Reads the addresses: one replica at a time does.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use slipway_audit::Actor;
use slipway_domain::access::Grants;
use slipway_domain::registry::{FileDigest, manifest_digest};
use tokio_util::sync::CancellationToken;

use super::remote::{Content, RemoteFile};
use crate::access::caller::Caller;
use crate::clock::now_ms;
use crate::models::aliases;
use crate::models::versions::create;
use crate::state::Registry;
use crate::store::artifacts::{self, within};
use crate::store::imports::{self as table, Import};
use crate::store::model_versions;
use crate::tracking::artifacts as files;

/// Watched addresses are looked at this often…
const POLL_MS: u64 = 1_000;
/// …and this often it is looked whether there are any.
const IDLE_MS: u64 = 2_000;
/// How often it is noted how much of the content is stored.
const PROGRESS_MS: u64 = 1_000;
/// Addresses that are looked at, or read, at the same time.
const PARALLEL: usize = 4;
/// What failed is tried again after this time, and then after twice as long each time, up to the maximum.
const FIRST_RETRY_MS: u64 = 1_000;
const MAX_RETRY_MS: u64 = 60_000;
/// Directory of the files of all imports within the artifact proxy.
const ROOT: &str = "imports";
/// Tag of a version with the address that it was imported from.
const URI_TAG: &str = "slipway.import_uri";
const MAX_PROBLEM_CHARS: usize = 1_000;
/// Characters of a fingerprint in a path.
const SHORT: usize = 16;
const MAX_FILES: i64 = 100_000;

/// What is remembered of an import between two looks.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Fingerprint at the look before.
    fingerprint: String,
    failures: u32,
    retry_at: Option<Instant>,
}

/// Reads addresses until `shutdown`. It may be dropped anywhere: what was stored of a version that was not
/// made is removed as every interrupted upload is.
pub(crate) async fn run(registry: Registry, shutdown: CancellationToken) {
    let mut seen: HashMap<i64, Seen> = HashMap::new();
    loop {
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
        let waits = seen.retry_at.is_some_and(|at| at > Instant::now());
        (!waits).then(|| look_and_note(registry, import, seen))
    });
    let looked: Vec<(i64, Seen)> = stream::iter(looks).buffer_unordered(PARALLEL).collect().await;
    seen.extend(looked);
    Ok(count)
}

async fn look_and_note(registry: &Registry, import: Import, mut seen: Seen) -> (i64, Seen) {
    match Box::pin(look(registry, &import, &mut seen)).await {
        Ok(()) => (seen.failures, seen.retry_at) = (0, None),
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
            seen.retry_at = Some(Instant::now() + Duration::from_millis(wait_ms));
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
    registry.imports.check(&import.uri).map_err(|invalid| anyhow::anyhow!(invalid.message))?;
    let content = registry.imports.remote.look(&import.uri).await?;
    let before = std::mem::replace(&mut seen.fingerprint, content.fingerprint.clone());
    let version = import.version.filter(|_| import.fingerprint.as_ref() == Some(&content.fingerprint));
    let version = match version {
        Some(_) if import.problem.is_none() => return Ok(()),
        // The alias was not set, or the address was unreachable meanwhile.
        Some(version) => version,
        None if !content.is_atomic() && before != content.fingerprint => return Ok(()),
        None => {
            let version = Box::pin(read(registry, import, &content)).await?;
            let mut change = registry.change().await?;
            let fingerprint = &content.fingerprint;
            table::import_done(change.db(), import.import_key, fingerprint, version, now_ms()).await?;
            change.commit().await?;
            tracing::info!(uri = import.uri, model = import.model, version, "imported");
            version
        }
    };
    if !import.alias.is_empty() {
        aliases::set(registry, &import.model, &import.alias, version).await.with_context(|| {
            format!("version {version} is imported; the alias {} is not set", import.alias)
        })?;
    }
    note(registry, import, None).await
}

/// The service itself: what it may read was authorised when the import was begun.
fn own_caller() -> Caller {
    Caller { actor: Arc::new(Actor::system()), groups: Arc::default(), grants: Arc::new(Grants::full()) }
}

/// Makes a version of what is at an address, unless the model has one with the same digest.
async fn read(registry: &Registry, import: &Import, content: &Content) -> anyhow::Result<i32> {
    let caller = own_caller();
    let short: String = content.fingerprint.chars().filter(char::is_ascii_alphanumeric).take(SHORT).collect();
    let root = format!("{ROOT}/{}/{short}", import.id.simple());
    let progress = Arc::new(AtomicU64::new(0));
    let target = Target { registry, import, caller: &caller, root: &root };
    for file in &content.files {
        let mut storing = pin!(target.store(file, &progress));
        loop {
            tokio::select! {
                stored = &mut storing => break stored?,
                () = tokio::time::sleep(Duration::from_millis(PROGRESS_MS)) => {}
            }
            let done_bytes = progress.load(Ordering::Relaxed);
            note_progress(registry, import, done_bytes, content.size_bytes()).await?;
        }
    }
    let mut db = registry.pool.acquire().await?;
    let stored = artifacts::artifact_tree(&mut db, &root, MAX_FILES).await?;
    let digests: Vec<FileDigest> = stored
        .iter()
        .map(|file| FileDigest {
            path: within(&root, &file.path).to_owned(),
            sha256: file.sha256.clone(),
            size_bytes: file.size_bytes.unsigned_abs(),
        })
        .collect();
    let known = model_versions::version_of_digest(&mut db, &import.model, &manifest_digest(&digests)).await?;
    drop(db);
    if let Some(version) = known {
        // Another version pins files of its own; these are not needed.
        let _ = files::delete(registry, &caller, &root).await;
        return Ok(version);
    }
    let request = create::Request {
        name: import.model.clone(),
        source: format!("mlflow-artifacts:/{root}"),
        run_id: None,
        model_id: None,
        run_link: None,
        description: None,
        tags: vec![(URI_TAG.to_owned(), import.uri.clone())],
        version: None,
    };
    Ok(create::create(registry, &caller, &request).await?.version)
}

async fn note_progress(
    registry: &Registry,
    import: &Import,
    done_bytes: u64,
    total_bytes: u64,
) -> anyhow::Result<()> {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (done_bytes, total_bytes) = (bytes(done_bytes), bytes(total_bytes));
    let mut change = registry.change().await?;
    table::import_progress(change.db(), import.import_key, done_bytes, total_bytes).await?;
    Ok(change.commit().await?)
}

/// Where the files of an import are stored, and on whose behalf.
struct Target<'read> {
    registry: &'read Registry,
    import: &'read Import,
    caller: &'read Caller,
    root: &'read str,
}

impl Target<'_> {
    /// Stores one file; counts the bytes that are stored.
    async fn store(&self, file: &RemoteFile, progress: &Arc<AtomicU64>) -> anyhow::Result<()> {
        let Self { registry, import, caller, root } = *self;
        let about = || format!("{} of {}", file.path, import.uri);
        let bytes = registry.imports.remote.open(file).await.with_context(about)?;
        let counted = Arc::clone(progress);
        let bytes = bytes.inspect(move |chunk: &Result<Bytes, String>| {
            if let Ok(chunk) = chunk {
                counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        });
        let path = format!("{root}/{}", file.path);
        let stored = files::upload(registry, caller.clone(), &path, bytes, file.size_bytes).await;
        stored.with_context(about)
    }
}
