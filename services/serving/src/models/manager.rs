//! The one task that decides what is loaded and what is routed.
//!
//! A new table is routed by as soon as its stable version is ready; until then the table before stays, so that no request
//! fails because of a change. A version goes when no table names it any more; requests that run on it keep it until they end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use slipway_api::traffic::{Target, TrafficTable, VersionState};
use slipway_service_kit::health::Readiness;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, KnownTables};
use super::loader::{LoadFailure, Loader};
use super::served::Served;
use crate::metrics::{ServingMetrics, VersionMeters};
use crate::routing::{Route, Routes, Routing, Source, Version};
use crate::stats::VersionStats;

const RETRY_INITIAL_MS: u64 = 200;
const RETRY_MAX_MS: u64 = 10_000;
/// Outcomes that may wait for the manager.
const OUTCOMES_LIMIT: usize = 64;
/// Parts of the readiness that this task answers for.
const TABLES_PART: &str = "traffic-tables";
const MODELS_PART: &str = "models";

/// News about tables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Update {
    /// The newest table of a deployment.
    Table(Box<TrafficTable>),
    /// The deployment is gone.
    Deleted(String),
    /// Every table that there was when the watch began has been told.
    Current,
}

/// See the module.
pub(crate) struct Manager {
    loader: Loader,
    routing: Arc<Routing>,
    readiness: Readiness,
    deployments: BTreeMap<String, Deployment>,
    slots: HashMap<String, Slot>,
    stats: HashMap<(String, String), (Arc<VersionStats>, Arc<VersionMeters>)>,
    metrics: ServingMetrics,
    outcomes: mpsc::Sender<Outcome>,
    arrivals: mpsc::Receiver<Outcome>,
    loads_begun: u64,
    /// Whether it is known which deployments there are: from the cache, or from NATS.
    tables_known: bool,
    /// Whether the replica has been ready. A deployment that comes later does not take it away from the others.
    started: bool,
}

struct Deployment {
    wanted: Arc<TrafficTable>,
    active: Arc<TrafficTable>,
    first: Arc<HashMap<String, AtomicBool>>,
}

/// A digest that some table names.
struct Slot {
    state: VersionState,
    reason: Option<String>,
    served: Option<Arc<Served>>,
    /// Tells outcomes of an earlier load of the same digest apart.
    load: u64,
    task: AbortHandle,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Outcome {
    digest: String,
    load: u64,
    result: Result<Served, LoadFailure>,
}

impl Manager {
    /// A manager that begins with the tables of the disk cache.
    pub(crate) fn new(
        loader: Loader,
        routing: Arc<Routing>,
        readiness: Readiness,
        metrics: ServingMetrics,
    ) -> Self {
        let (outcomes, arrivals) = mpsc::channel(OUTCOMES_LIMIT);
        let known = loader.cache().map(Cache::tables).unwrap_or_default();
        let tables_known = !known.is_empty();
        if !tables_known {
            readiness.waiting(TABLES_PART, "it is not known yet which deployments there are");
        }
        let deployments =
            known.into_iter().map(|(name, tables)| (name, Deployment::restored(tables))).collect();
        let mut manager = Self {
            loader,
            routing,
            readiness,
            deployments,
            slots: HashMap::new(),
            stats: HashMap::new(),
            metrics,
            outcomes,
            arrivals,
            loads_begun: 0,
            tables_known,
            started: false,
        };
        // Before the first request: a deployment of the cache is loading then, not unknown.
        manager.settle();
        manager
    }

    /// Follows updates until the shutdown.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                update = updates.recv() => match update {
                    Some(update) => self.apply(update).await,
                    // Only at the shutdown does the watcher end.
                    None => return shutdown.cancelled().await,
                },
                outcome = self.arrivals.recv() => if let Some(outcome) = outcome {
                    self.finish(outcome);
                    self.settle();
                    self.keep_tables().await;
                    self.make_room().await;
                },
            }
        }
    }

    async fn apply(&mut self, update: Update) {
        match update {
            Update::Table(table) => {
                if let Err(invalid) = table.validate() {
                    tracing::error!(deployment = table.deployment, %invalid, "a traffic table is not valid; the one before stays");
                    return;
                }
                let table = Arc::new(*table);
                match self.deployments.get_mut(&table.deployment) {
                    Some(known) if *known.wanted == *table => return,
                    Some(known) => known.wanted = table,
                    None => {
                        self.deployments.insert(table.deployment.clone(), Deployment::new(table));
                    }
                }
            }
            Update::Deleted(name) => {
                if self.deployments.remove(&name).is_none() {
                    return;
                }
                self.stats.retain(|(deployment, _), _| *deployment != name);
            }
            Update::Current => {
                self.tables_known = true;
                self.show_readiness();
                return self.readiness.ready(TABLES_PART);
            }
        }
        self.settle();
        self.keep_tables().await;
    }

    fn finish(&mut self, outcome: Outcome) {
        let Some(slot) = self.slots.get_mut(&outcome.digest).filter(|slot| slot.load == outcome.load) else {
            return;
        };
        match outcome.result {
            Ok(served) => {
                tracing::info!(
                    digest = outcome.digest,
                    device = served.model.device().name(),
                    batchable = served.model.is_batchable(),
                    "a version is ready"
                );
                (slot.state, slot.reason, slot.served) = (VersionState::Ready, None, Some(Arc::new(served)));
            }
            Err(failure) if failure.transient => {
                tracing::warn!(
                    digest = outcome.digest,
                    reason = failure.reason,
                    "a version does not load yet; trying again"
                );
                slot.reason = Some(failure.reason);
            }
            Err(failure) => {
                tracing::error!(digest = outcome.digest, reason = failure.reason, "a version does not load");
                (slot.state, slot.reason) = (VersionState::Failed, Some(failure.reason));
            }
        }
    }

    /// Activates what can be, loads what is missing, lets go of what nobody names, and shows the result to requests.
    fn settle(&mut self) {
        for deployment in self.deployments.values_mut() {
            let able = serves(&deployment.wanted, &self.slots) || hopeless(&deployment.active, &self.slots);
            if deployment.active != deployment.wanted && able {
                tracing::info!(
                    deployment = deployment.wanted.deployment,
                    revision = deployment.wanted.revision,
                    "routing follows a new traffic table"
                );
                deployment.activate();
            }
        }
        let mut needed: BTreeMap<Target, String> = BTreeMap::new();
        for deployment in self.deployments.values() {
            for table in [&deployment.active, &deployment.wanted] {
                needed.extend(table.targets().map(|target| (target.clone(), table.model.clone())));
            }
        }
        let digests: BTreeSet<&str> = needed.keys().map(|target| target.digest.as_str()).collect();
        self.slots.retain(|digest, _| digests.contains(digest.as_str()));
        for (target, model) in needed {
            if !self.slots.contains_key(&target.digest) {
                self.begin(target, model);
            }
        }
        self.publish();
    }

    fn begin(&mut self, target: Target, model: String) {
        self.loads_begun += 1;
        let load = self.loads_begun;
        let digest = target.digest.clone();
        let task =
            tokio::spawn(load_until_settled(self.loader.clone(), target, model, load, self.outcomes.clone()));
        let slot = Slot {
            state: VersionState::Loading,
            reason: None,
            served: None,
            load,
            task: task.abort_handle(),
        };
        self.slots.insert(digest, slot);
    }

    fn publish(&mut self) {
        let mut routes = Routes::new();
        for (name, deployment) in &self.deployments {
            let mut versions = BTreeMap::new();
            for target in deployment.active.targets().chain(deployment.wanted.targets()) {
                let counted = self.stats.entry((name.clone(), target.version.clone()));
                let (stats, meters) = counted.or_insert_with(|| {
                    let meters = VersionMeters::new(name, &target.version, self.metrics.clone());
                    (Arc::default(), Arc::new(meters))
                });
                if let Some(slot) = self.slots.get(&target.digest) {
                    let policy = slot.served.as_ref().map(|served| served.policy.clone());
                    let source = || Source {
                        deployment: name.clone(),
                        model: deployment.active.model.clone(),
                        version: target.version.clone(),
                        prediction_output: deployment.active.prediction_output.clone(),
                        policy: policy.unwrap_or_default(),
                    };
                    versions.entry(target.version.clone()).or_insert_with(|| Version {
                        target: target.clone(),
                        state: slot.state,
                        reason: slot.reason.clone(),
                        served: slot.served.clone(),
                        stats: Arc::clone(stats),
                        meters: Arc::clone(meters),
                        source: Arc::new(source()),
                    });
                }
            }
            let route = Route {
                table: Arc::clone(&deployment.active),
                versions,
                first: Arc::clone(&deployment.first),
            };
            routes.insert(name.clone(), Arc::new(route));
        }
        self.routing.replace(routes);
        self.show_readiness();
    }

    fn show_readiness(&mut self) {
        if self.started {
            return;
        }
        let loading = |target: &&Target| {
            self.slots.get(&target.digest).is_some_and(|slot| slot.state == VersionState::Loading)
        };
        // All that requests may be drawn for: whoever sends traffic here counts on its split.
        let drawn = |table: &TrafficTable| -> Vec<Target> {
            let candidates = table.candidates.iter().filter(|entry| entry.weight_percent > 0);
            table.stable.iter().chain(candidates.map(|entry| &entry.target)).cloned().collect()
        };
        let mut waiting = Vec::new();
        for (name, deployment) in &self.deployments {
            let targets = drawn(&deployment.active);
            waiting.extend(targets.iter().filter(loading).map(|target| format!("{name}/{}", target.version)));
        }
        if waiting.is_empty() {
            self.readiness.ready(MODELS_PART);
            self.started = self.tables_known;
        } else {
            self.readiness.waiting(MODELS_PART, format!("loading {}", waiting.join(", ")));
        }
    }

    /// Keeps the disk cache within its limit. What is loaded, or about to be, stays.
    async fn make_room(&self) {
        let Some((cache, limit_bytes)) = self.loader.cache().cloned().zip(self.loader.cache_limit_bytes())
        else {
            return;
        };
        let wanted: BTreeSet<String> = self.slots.keys().cloned().collect();
        match tokio::task::spawn_blocking(move || cache.evict(limit_bytes, &wanted)).await {
            Ok(Ok(held)) if held > limit_bytes => {
                tracing::warn!(
                    held,
                    limit_bytes,
                    "the versions in use take more of the disk than the cache may"
                );
            }
            Ok(Err(error)) => tracing::warn!(%error, "no room is made in the disk cache"),
            _ => {}
        }
    }

    async fn keep_tables(&self) {
        let tables: BTreeMap<String, KnownTables> = self
            .deployments
            .iter()
            .map(|(name, deployment)| {
                let wanted = (*deployment.wanted).clone();
                (name.clone(), KnownTables { wanted, active: (*deployment.active).clone() })
            })
            .collect();
        let Some(cache) = self.loader.cache().cloned() else { return };
        let kept = tokio::task::spawn_blocking(move || cache.keep_tables(&tables)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "the traffic tables are not kept for the next start");
        }
    }
}

impl Deployment {
    fn new(table: Arc<TrafficTable>) -> Self {
        Self { first: unseen(&table), active: Arc::clone(&table), wanted: table }
    }

    fn restored(tables: KnownTables) -> Self {
        let active = Arc::new(tables.active);
        // It answered before the restart: its decision's trace has ended.
        Self { first: Arc::default(), active, wanted: Arc::new(tables.wanted) }
    }

    fn activate(&mut self) {
        self.active = Arc::clone(&self.wanted);
        self.first = unseen(&self.active);
    }
}

fn unseen(table: &TrafficTable) -> Arc<HashMap<String, AtomicBool>> {
    Arc::new(table.targets().map(|target| (target.version.clone(), AtomicBool::new(false))).collect())
}

/// Whether a table can answer all its traffic: by its stable version, or by all candidates where it has none.
fn serves(table: &TrafficTable, slots: &HashMap<String, Slot>) -> bool {
    let ready = |target: &Target| slots.get(&target.digest).is_some_and(|slot| slot.served.is_some());
    match &table.stable {
        Some(stable) => ready(stable),
        None => table.candidates.iter().all(|entry| entry.weight_percent == 0 || ready(&entry.target)),
    }
}

/// Whether a table will never answer: there is nothing to keep it for.
fn hopeless(table: &TrafficTable, slots: &HashMap<String, Slot>) -> bool {
    let failed =
        |target: &Target| slots.get(&target.digest).is_some_and(|slot| slot.state == VersionState::Failed);
    table.stable.as_ref().is_some_and(failed)
}

async fn load_until_settled(
    loader: Loader,
    target: Target,
    model: String,
    load: u64,
    outcomes: mpsc::Sender<Outcome>,
) {
    let mut delay_ms = RETRY_INITIAL_MS;
    loop {
        let result = loader.load(&model, &target).await;
        let again = result.as_ref().is_err_and(|failure| failure.transient);
        let outcome = Outcome { digest: target.digest.clone(), load, result };
        // The manager is gone only at the shutdown.
        if outcomes.send(outcome).await.is_err() || !again {
            return;
        }
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        delay_ms = (delay_ms * 2).min(RETRY_MAX_MS);
    }
}
