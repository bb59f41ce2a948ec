//! Applies retention rules, a page at a time. A page may are interrupted anywhere and be repeated: each thing
//! goes in a transaction of its own, in which the decision is made once more about what is there then.

use std::time::Duration;

use serde_json::json;
use slipway_domain::registry::retention::{Action, Rule, Scope, Verdict};
use tokio_util::sync::CancellationToken;

use crate::cleanup::deleted;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::purge::Due;
use crate::store::registered_models::{model_get, model_touch};
use crate::store::retention::{self as table, RunCandidate, RunSet, VersionCandidate};
use crate::store::{model_versions, purge as purge_table};

/// Things that one step of the periodic pass looks at.
const PASS_PAGE: i64 = 200;
/// Rules that one look of the periodic pass reads.
const RULES_AT_ONCE: i64 = 100;

/// How often rules are applied.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Retention")]
pub struct RetentionConfig {
    /// Interval between two passes over the enabled retention rules, in seconds; 0 disables them.
    #[arg(long, env = "SLIPWAY_RETENTION_INTERVAL_S", default_value_t = 3_600, value_name = "SECONDS")]
    pub retention_interval_s: u64,
}

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Place {
    /// Behind a run of an experiment; at its first one without.
    Runs { experiment_id: i64, after: Option<(i64, String)> },
    /// Behind a version.
    Versions { after: i32 },
}

/// Something that goes, or would.
#[derive(Debug)]
pub(crate) struct Gone {
    /// `run` or `model-version`.
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) reason: String,
    /// Bytes that are freed by it.
    pub(crate) size_bytes: i64,
}

/// What one page came to.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) examined: usize,
    pub(crate) gone: Vec<Gone>,
    pub(crate) next: Option<Place>,
}

/// Looks at up to `limit` things from a place on, and deletes what the rule says unless it is a `dry_run`.
///
/// # Errors
/// Postgres is unreachable: what went is gone, and the page may be repeated.
pub(crate) async fn step(
    registry: &Registry,
    name: &str,
    rule: &Rule,
    place: Option<Place>,
    limit: i64,
    dry_run: bool,
) -> Result<Page, Error> {
    match &rule.scope {
        Scope::Model { model } => {
            let after = match place {
                Some(Place::Versions { after }) => after,
                _ => 0,
            };
            versions(registry, name, rule, model, after, limit, dry_run).await
        }
        scope => {
            let (only, tag) = match scope {
                Scope::Experiment { experiment } => (Some(experiment.as_str()), None),
                Scope::Tag { key, value } => (None, Some((key.as_str(), value.as_deref()))),
                _ => (None, None),
            };
            let (experiment_id, after) = match place {
                Some(Place::Runs { experiment_id, after }) => (experiment_id, after),
                _ => {
                    let mut db = registry.pool.acquire().await?;
                    match table::experiment_next(&mut db, -1, only).await? {
                        Some(first) => (first, None),
                        None => return Ok(Page::default()),
                    }
                }
            };
            let set = RunSet { experiment_id, tag };
            let mut page = runs(registry, name, rule, set, after.as_ref(), limit, dry_run).await?;
            if page.next.is_none() {
                let mut db = registry.pool.acquire().await?;
                page.next = table::experiment_next(&mut db, experiment_id, only)
                    .await?
                    .map(|experiment_id| Place::Runs { experiment_id, after: None });
            }
            Ok(page)
        }
    }
}

async fn runs(
    registry: &Registry,
    name: &str,
    rule: &Rule,
    set: RunSet<'_>,
    after: Option<&(i64, String)>,
    limit: i64,
    dry_run: bool,
) -> Result<Page, Error> {
    let now = now_ms();
    let mut db = registry.pool.acquire().await?;
    let best = match &rule.keep_best {
        Some(best) => table::runs_best(&mut db, set, best).await?,
        None => Vec::new(),
    };
    let last = match rule.keep_last {
        Some(k) => table::runs_last(&mut db, set, k).await?,
        None => Vec::new(),
    };
    let deletes = rule.action == Action::Delete;
    let found = table::run_candidates(&mut db, set, rule.cutoff_ms(now), deletes, after, limit).await?;
    drop(db);
    let mut page = Page { examined: found.len(), ..Page::default() };
    if i64::try_from(found.len()).unwrap_or(i64::MAX) == limit {
        let last = found.last().map(|run| (run.start_ms, run.run_id.clone()));
        page.next = Some(Place::Runs { experiment_id: set.experiment_id, after: last });
    }
    for run in found {
        let Verdict::Goes(reason) = rule.judge(&run.facts(&best, &last), now) else { continue };
        let mut size_bytes = if deletes { run.size_bytes } else { 0 };
        if !dry_run {
            let judge = |run: &RunCandidate| rule.judge(&run.facts(&best, &last), now);
            match run_goes(registry, name, deletes, &run, judge).await? {
                Some(freed) => size_bytes = freed,
                None => continue,
            }
        }
        page.gone.push(Gone { kind: "run", id: run.run_id, reason, size_bytes });
    }
    Ok(page)
}

/// Deletes a run, unless something changed; the bytes that are freed.
async fn run_goes(
    registry: &Registry,
    name: &str,
    deletes: bool,
    run: &RunCandidate,
    judge: impl Fn(&RunCandidate) -> Verdict,
) -> Result<Option<i64>, Error> {
    let mut change = registry.change().await?;
    let Some(held) = table::run_held(change.db(), &run.run_id).await? else { return Ok(None) };
    let Verdict::Goes(reason) = judge(&held) else { return Ok(None) };
    let now = now_ms();
    // One that is deleted already was told of: by a client, or in a pass that was interrupted.
    if table::run_archive(change.db(), &run.run_id, now).await? {
        let details = json!({"retention_rule": name, "reason": reason});
        change.tell("run", "deleted", run.run_id.as_str(), details).await?;
    }
    change.commit().await?;
    if !deletes {
        return Ok(Some(0));
    }
    let entry = purge_table::Entry { id: run.run_id.clone(), artifact_uri: run.artifact_uri.clone() };
    let mut gone = Due::default();
    // Deleted just now counts as deleted before.
    let went = deleted::purge_run(registry, &entry, now + 1, &mut gone).await?;
    Ok(went.then_some(gone.size_bytes))
}

async fn versions(
    registry: &Registry,
    name: &str,
    rule: &Rule,
    model: &str,
    after: i32,
    limit: i64,
    dry_run: bool,
) -> Result<Page, Error> {
    if rule.action == Action::Delete && !dry_run {
        registry.following.require_complete()?;
    }
    let now = now_ms();
    let mut db = registry.pool.acquire().await?;
    let model_key = match model_get(&mut db, model).await {
        Ok(model) => model.model_key,
        // A rule may be written before its model is there, and outlive it.
        Err(Error::NotFound(_)) => return Ok(Page::default()),
        Err(error) => return Err(error),
    };
    let best = match &rule.keep_best {
        Some(best) => table::versions_best(&mut db, model_key, best).await?,
        None => Vec::new(),
    };
    let last = match rule.keep_last {
        Some(k) => table::versions_last(&mut db, model_key, k).await?,
        None => Vec::new(),
    };
    let found = table::version_candidates(&mut db, model_key, after, limit).await?;
    drop(db);
    let mut page = Page { examined: found.len(), ..Page::default() };
    if i64::try_from(found.len()).unwrap_or(i64::MAX) == limit {
        page.next = found.last().map(|version| Place::Versions { after: version.version });
    }
    let deletes = rule.action == Action::Delete;
    for version in found {
        let judge = |version: &VersionCandidate| rule.judge(&version.facts(&best, &last), now);
        let Verdict::Goes(reason) = judge(&version) else { continue };
        if !dry_run && !version_goes(registry, name, deletes, model, version.version, judge).await? {
            continue;
        }
        let size_bytes = if deletes { version.size_bytes } else { 0 };
        page.gone.push(Gone {
            kind: "model-version",
            id: format!("{model}/{}", version.version),
            reason,
            size_bytes,
        });
    }
    Ok(page)
}

async fn version_goes(
    registry: &Registry,
    name: &str,
    deletes: bool,
    model: &str,
    version: i32,
    judge: impl Fn(&VersionCandidate) -> Verdict,
) -> Result<bool, Error> {
    let mut change = registry.change().await?;
    let now = now_ms();
    // Locks the model, and so every change of its aliases and stages.
    let model_key = match model_touch(change.db(), model, now).await {
        Ok(model_key) => model_key,
        Err(Error::NotFound(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let there = table::version_candidates(change.db(), model_key, version - 1, 1).await?;
    let Some(there) = there.first().filter(|there| there.version == version) else { return Ok(false) };
    let Verdict::Goes(reason) = judge(there) else { return Ok(false) };
    let mut details = json!({"retention_rule": name, "reason": reason});
    let what = if deletes {
        model_versions::version_delete(change.db(), model_key, version, now).await?;
        "deleted"
    } else {
        let archived = (None, Some("Archived"));
        model_versions::version_update(change.db(), model_key, version, archived, now).await?;
        details["stage"] = "Archived".into();
        "updated"
    };
    change.tell("model-version", what, format!("{model}/{version}"), details).await?;
    change.commit().await?;
    Ok(true)
}

/// Applies the enabled rules from time to time until `shutdown`, in the replica that leads.
pub(crate) async fn run(registry: Registry, config: RetentionConfig, shutdown: CancellationToken) {
    if config.retention_interval_s == 0 {
        return shutdown.cancelled().await;
    }
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(config.retention_interval_s)) => {}
        }
        let passed = tokio::select! {
            () = shutdown.cancelled() => return,
            passed = pass(&registry) => passed,
        };
        if let Err(error) = passed {
            tracing::warn!(%error, "retention rules not applied; retrying");
        }
    }
}

/// One pass over all enabled rules.
async fn pass(registry: &Registry) -> Result<(), Error> {
    let mut after: Option<String> = None;
    loop {
        let mut db = registry.pool.acquire().await?;
        let rules = table::rule_list(&mut db, after.as_deref(), RULES_AT_ONCE).await?;
        drop(db);
        for stored in rules.iter().filter(|stored| stored.enabled) {
            apply(registry, &stored.name, &stored.rule.0).await?;
        }
        match rules.last() {
            Some(last) => after = Some(last.name.clone()),
            None => return Ok(()),
        }
    }
}

async fn apply(registry: &Registry, name: &str, rule: &Rule) -> Result<(), Error> {
    let (mut place, mut gone, mut size_bytes) = (None, 0, 0);
    loop {
        let page = step(registry, name, rule, place, PASS_PAGE, false).await?;
        gone += page.gone.len();
        size_bytes += page.gone.iter().map(|thing| thing.size_bytes).sum::<i64>();
        match page.next {
            Some(next) => place = Some(next),
            None => break,
        }
    }
    if gone > 0 {
        tracing::info!(rule = name, gone, size_bytes, "retention rule applied");
    }
    Ok(())
}
