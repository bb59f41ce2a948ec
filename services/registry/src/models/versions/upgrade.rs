//! Brings what is known of older versions up to the present rules: a version is inspected again, from its
//! pinned files, when it was last inspected by an older revision of the inspection. One after another, so
//! that requests and the artifact store hardly notice.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::inspect::{self, INSPECTION};
use super::source::proxy_path;
use super::tags::{MAX_REASON_CHARS, UNSERVABLE_TAG, UNVERIFIED_TAG, unverified_tag};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::deployed;
use crate::store::facts::Facts;
use crate::store::model_versions::{self as table, ModelVersion, VersionFile};

/// Versions that one look at the table brings.
const BATCH: i64 = 50;
/// Pause between two versions.
const PAUSE_MS: u64 = 50;
/// Pause after a failure, and between looks for versions that another replica registered meanwhile.
const RETRY_MS: u64 = 60_000;

/// Runs until every version is up to date, or until `shutdown`.
pub(crate) async fn run(registry: Registry, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = all(&registry) => {}
    }
    shutdown.cancelled().await;
}

async fn all(registry: &Registry) {
    let mut done = 0_u64;
    loop {
        match pass(registry).await {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) => {
                tracing::debug!(%error, "inspection of older versions failed; retrying");
                tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
            }
        }
    }
    if done > 0 {
        tracing::info!(versions = done, revision = INSPECTION, "inspected older model versions again");
    }
}

/// A batch; how many versions it had.
async fn pass(registry: &Registry) -> Result<u64, Error> {
    let outdated = table::versions_outdated(&mut *registry.pool.acquire().await?, INSPECTION, BATCH).await?;
    let mut done = 0;
    for version in outdated {
        again(registry, &version).await?;
        done += 1;
        tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
    }
    Ok(done)
}

/// Inspects a version again and stores what was found.
///
/// # Errors
/// Postgres or the artifact store is unreachable.
async fn again(registry: &Registry, version: &ModelVersion) -> Result<(), Error> {
    let key = (version.model_key, version.version);
    let files = table::version_files(&mut *registry.pool.acquire().await?, key.0, key.1).await?;
    let root = proxy_path(&version.download_uri)?.unwrap_or_default();
    let files: Vec<_> = files.into_iter().map(VersionFile::into_artifact).collect();
    let found = inspect::inspect(&registry.artifacts, &root, &files, &registry.scan_policy).await;
    let found = match found {
        Err(error @ Error::Unavailable(_)) => return Err(error),
        // What would be refused today was registered once.
        Err(error @ (Error::Invalid { .. } | Error::Violation(_))) => {
            Facts { inspection: INSPECTION, ..Facts::unservable(error.to_string()) }
        }
        // Its bytes cannot be read: what was found before is all there is.
        Err(error) => {
            tracing::warn!(model = version.name, version = version.version, %error,
                "version cannot be inspected again");
            Facts { inspection: INSPECTION, ..version.facts.0.clone() }
        }
        Ok(facts) => Facts { profile_misfit: version.facts.0.profile_misfit.clone(), ..facts },
    };
    let mut change = registry.change().await?;
    let Some(before) = table::version_hold(change.db(), key).await? else { return Ok(()) };
    let seen = (now_ms(), registry.following.is_current());
    let in_use = !deployed::uses(change.db(), key.0, Some(key.1), seen).await?.is_empty();
    let facts = judged(&before, found, in_use);
    let id = format!("{}/{}", version.name, version.version);
    if let Some(reason) = &facts.withheld_reason {
        tracing::warn!(
            version = id,
            reason,
            "deployed version would no longer be registered as servable; it stays servable while it is \
             deployed"
        );
    }
    let servable = facts.facts.unservable_reason.is_none();
    table::version_reinspected(change.db(), key, (&facts.facts, servable), now_ms()).await?;
    match &facts.facts.unservable_reason {
        Some(reason) if !files.is_empty() => {
            let reason = reason.chars().take(MAX_REASON_CHARS).collect();
            table::version_tags_set(change.db(), key.0, key.1, &[(UNSERVABLE_TAG.to_owned(), reason)])
                .await?;
        }
        _ => table::version_tag_delete(change.db(), key.0, key.1, UNSERVABLE_TAG).await?,
    }
    match unverified_tag(&facts.facts) {
        Some(tag) => table::version_tags_set(change.db(), key.0, key.1, &[tag]).await?,
        None => table::version_tag_delete(change.db(), key.0, key.1, UNVERIFIED_TAG).await?,
    }
    if servable != version.servable {
        let details = json!({"servable": servable, "unservable_reason": facts.facts.unservable_reason});
        change.tell("model-version", "updated", id, details).await?;
    }
    change.commit().await
}

/// What is stored of a version that was inspected again.
#[derive(Debug)]
struct Judged {
    facts: Facts,
    /// Why it would be unservable, where it stays servable nevertheless.
    withheld_reason: Option<String>,
}

/// A version that deployments serve does not stop being servable under them.
fn judged(before: &Facts, found: Facts, in_use: bool) -> Judged {
    let keeps = in_use && before.unservable_reason.is_none();
    match found.unservable_reason.clone().filter(|_| keeps) {
        None => Judged { facts: found, withheld_reason: None },
        Some(reason) => {
            let scan = found.scan.or_else(|| before.scan.clone());
            let facts = Facts { scan, inspection: found.inspection, ..before.clone() };
            Judged { facts, withheld_reason: Some(reason) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_in_use_stays_servable_and_shows_what_was_found() {
        let before = Facts { onnx_path: Some("model.onnx".into()), ..Facts::default() };
        let found = Facts { inspection: INSPECTION, ..Facts::unservable("it is not safe") };
        let used = judged(&before, found.clone(), true);
        assert_eq!(used.withheld_reason.as_deref(), Some("it is not safe"));
        assert_eq!(used.facts, Facts { inspection: INSPECTION, ..before.clone() });
        assert_eq!(judged(&before, found.clone(), false).facts, found);
        let better = Facts { inspection: INSPECTION, ..before };
        assert_eq!(judged(&found, better.clone(), true).facts, better);
    }
}
