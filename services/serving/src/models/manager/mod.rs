//! The one task that decides what is loaded and what is routed.
//!
//! A new table is routed by as soon as its stable version is ready; until then the table before stays, so
//! that no request fails because of a change. A version goes when no table names it any more, and it is not
//! among the last ones that are kept for a rollback; requests that run on it keep it until they end. Where
//! versions take more memory than they may, those that were used longest ago are unloaded, and loaded again
//! when a request asks for them.

mod room;
mod show;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use slipway_api::traffic::{Target, VersionState};
use slipway_service_kit::health::Readiness;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::binding::bind_all;
use super::cache::{Cache, KnownTables};
use super::deployment::Deployment;
use super::failure::Retry;
use super::folder;
use super::loader::Loader;
use super::meters::{LoadMeters, ShownMemory, Unload};
use super::resident::DEMANDS_LIMIT;
use super::slots::{Outcome, Slot, has_failed, hopeless, is_ready, serves};
use super::update::Update;
use crate::metrics::{ServingMetrics, VersionMeters};
use crate::models::routing::Routing;
use crate::source::Feed;
use crate::stats::VersionStats;

/// How often it is looked whether versions that were busy can make room now.
const MEMORY_CHECK_MS: u64 = 1_000;
/// Outcomes that may wait for the manager.
const OUTCOMES_LIMIT: usize = 64;
/// How long a replica that kept tables of its last start waits for the current ones before it is ready by
/// those that it has.
const TABLES_WAIT_MS: u64 = 5_000;
/// Parts of the readiness that this task answers for.
const TABLES_PART: &str = "traffic-tables";
const MODELS_PART: &str = "models";
const FAILED_PART: &str = "failed-models";

/// See the module.
pub(crate) struct Manager {
    loader: Loader,
    routing: Arc<Routing>,
    readiness: Readiness,
    deployments: BTreeMap<String, Deployment>,
    slots: HashMap<String, Slot>,
    stats: HashMap<(String, String), (Arc<VersionStats>, Arc<VersionMeters>)>,
    /// By deployment.
    feeds: HashMap<String, Arc<Feed>>,
    metrics: ServingMetrics,
    load_meters: LoadMeters,
    shown_memory: ShownMemory,
    outcomes: mpsc::Sender<Outcome>,
    arrivals: mpsc::Receiver<Outcome>,
    /// Digests of versions that a request asked for and that are not in memory.
    demanded: mpsc::Receiver<String>,
    demands: mpsc::Sender<String>,
    loads_begun: u64,
    /// Whether it is known which deployments there are: from NATS or a folder, or from the cache where NATS
    /// did not answer in time.
    tables_known: bool,
    /// Whether a version that does not load keeps the replica from being ready.
    strict: bool,
    /// Whether the replica has been ready. A deployment that comes later does not take it away from the
    /// others.
    started: bool,
}

impl Manager {
    /// A manager that begins with the tables of the disk cache.
    pub(crate) fn new(
        loader: Loader,
        routing: Arc<Routing>,
        readiness: Readiness,
        metrics: ServingMetrics,
        load_meters: LoadMeters,
        strict: bool,
    ) -> Self {
        let (outcomes, arrivals) = mpsc::channel(OUTCOMES_LIMIT);
        let (demands, demanded) = mpsc::channel(DEMANDS_LIMIT);
        let known = loader.cache().map(Cache::tables).unwrap_or_default();
        readiness.waiting(
            TABLES_PART,
            if known.is_empty() {
                "it is not known yet which deployments there are".to_owned()
            } else {
                format!("the current ones; those of the last start are used after {TABLES_WAIT_MS} ms")
            },
        );
        load_meters.limit(loader.limits().memory_bytes.unwrap_or(0));
        let deployments =
            known.into_iter().map(|(name, tables)| (name, Deployment::restored(tables))).collect();
        let mut manager = Self {
            loader,
            routing,
            readiness,
            deployments,
            slots: HashMap::new(),
            stats: HashMap::new(),
            feeds: HashMap::new(),
            metrics,
            load_meters,
            shown_memory: ShownMemory::default(),
            outcomes,
            arrivals,
            demanded,
            demands,
            loads_begun: 0,
            tables_known: false,
            strict,
            started: false,
        };
        // Before the first request: a deployment of the cache is loading then, not unknown.
        manager.settle();
        manager
    }

    /// Follows updates until the shutdown.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>, shutdown: CancellationToken) {
        let mut check = tokio::time::interval(Duration::from_millis(MEMORY_CHECK_MS));
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let tables_wait = tokio::time::sleep(Duration::from_millis(TABLES_WAIT_MS));
        tokio::pin!(tables_wait);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.loader.forgive();
                    return;
                }
                update = updates.recv() => match update {
                    Some(update) => self.apply(update).await,
                    // Only at the shutdown does the watcher end.
                    None => return shutdown.cancelled().await,
                },
                outcome = self.arrivals.recv() => if let Some(outcome) = outcome {
                    // A version that was loaded again is what it was before.
                    if self.finish(outcome) {
                        self.settle();
                        self.keep_tables().await;
                        self.make_room().await;
                    }
                },
                digest = self.demanded.recv() => if let Some(digest) = digest {
                    self.demand(&digest);
                },
                () = &mut tables_wait, if !self.tables_known && !self.deployments.is_empty() => {
                    tracing::warn!(
                        waited_ms = TABLES_WAIT_MS,
                        "no traffic tables received; following those of the last start"
                    );
                    self.know_tables();
                }
                _ = check.tick(), if self.loader.limits().memory_bytes.is_some() => {
                    self.relieve(0, None);
                }
            }
        }
    }

    async fn apply(&mut self, update: Update) {
        match update {
            Update::Table(table) => {
                if let Err(invalid) = table.validate() {
                    tracing::error!(deployment = table.deployment, %invalid, "traffic table invalid; the \
                        previous one stays in use");
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
            Update::Current => return self.know_tables(),
        }
        self.settle();
        self.keep_tables().await;
    }

    /// From now on a deployment that has no table does not exist.
    fn know_tables(&mut self) {
        self.tables_known = true;
        // What an ensemble misses now, no table names.
        self.settle();
        self.routing.complete();
        self.readiness.ready(TABLES_PART);
    }

    /// Takes the outcome of a load; returns whether it changes the status.
    fn finish(&mut self, outcome: Outcome) -> bool {
        let digest = outcome.digest.clone();
        let result = match &outcome.result {
            Ok(_) => "loaded",
            Err(failure) if failure.retry == Retry::Soon => "failed-for-now",
            Err(_) => "failed",
        };
        let Some(slot) = self.slots.get_mut(&digest) else { return false };
        let before = (slot.state, slot.reason.clone());
        if !slot.finish(outcome) {
            return false;
        }
        let is_news = before != (slot.state, slot.reason.clone());
        self.load_meters.loaded(result);
        let reason = slot.reason.as_deref().unwrap_or_default();
        let (model, version) = (&slot.model, &slot.target.version);
        match (slot.state, slot.resident.described()) {
            _ if slot.ensemble.is_some() => tracing::info!(model, version, digest, "ensemble loaded"),
            (VersionState::Failed, _) => {
                if is_news {
                    let retried = slot.is_loading();
                    tracing::error!(model, version, digest, reason, retried, "version failed to load");
                }
            }
            (VersionState::Ready, Some(described)) if !slot.is_loading() => {
                tracing::info!(
                    model,
                    version,
                    digest,
                    device = described.device.name(),
                    joined = described.joining.is_on(),
                    memory_bytes = described.memory.bytes,
                    "a version is ready"
                );
                self.relieve(0, Some(&digest));
                self.show_memory();
            }
            _ => tracing::warn!(model, version, digest, reason, "version not loaded yet; retrying"),
        }
        is_news || self.slots.get(&digest).is_some_and(|slot| slot.ensemble.is_some())
    }

    /// Activates what can be, loads what is missing, unloads what no table names, and shows the result to
    /// requests.
    fn settle(&mut self) {
        bind_all(&self.deployments, self.tables_known, &mut self.slots);
        self.activate_tables();
        let mut needed: BTreeMap<Target, String> = BTreeMap::new();
        for deployment in self.deployments.values() {
            needed.extend(deployment.targets().map(|(target, model)| (target.clone(), model.to_owned())));
        }
        let unwanted = self.take_unwanted(&needed);
        self.load_missing(needed);
        // Other versions may answer now.
        bind_all(&self.deployments, self.tables_known, &mut self.slots);
        self.publish();
        if !unwanted.is_empty() {
            // After the routes, which held them, too.
            tokio::task::spawn_blocking(move || drop(unwanted));
        }
    }

    /// Lets requests follow the newest tables whose versions are ready.
    fn activate_tables(&mut self) {
        let keep = self.loader.limits().keep_versions;
        for deployment in self.deployments.values_mut() {
            let failed = |target: &Target| has_failed(target, &self.slots);
            let ready = |target: &Target| is_ready(target, &self.slots);
            if let Some(table) = folder::without_failed(&deployment.wanted, &deployment.active, failed, ready)
            {
                tracing::warn!(
                    deployment = table.deployment,
                    version = table.stable.as_ref().map(|stable| &stable.version),
                    "highest version of a folder failed to load; a lower one answers"
                );
                deployment.wanted = Arc::new(table);
            }
            let able = serves(&deployment.wanted, &self.slots) || hopeless(&deployment.active, &self.slots);
            if deployment.active != deployment.wanted && able {
                tracing::info!(
                    deployment = deployment.wanted.deployment,
                    revision = deployment.wanted.revision,
                    "new traffic table in use"
                );
                deployment.activate(|target| is_ready(target, &self.slots), keep);
            }
            // The switch waits for no version.
            if deployment.active.kill_switch != deployment.wanted.kill_switch {
                let switch = deployment.wanted.kill_switch.clone();
                Arc::make_mut(&mut deployment.active).kill_switch = switch;
            }
            // What a table names again is no spare any more.
            deployment.keep(Vec::new(), keep);
        }
    }

    /// Takes out the slots of versions that no table names and that are not kept for a rollback.
    fn take_unwanted(&mut self, needed: &BTreeMap<Target, String>) -> Vec<Slot> {
        let named: BTreeSet<&str> = needed.keys().map(|target| target.digest.as_str()).collect();
        let spares = self.deployments.values().flat_map(|deployment| &deployment.spares);
        let spares: BTreeSet<&str> = spares.map(|spare| spare.digest.as_str()).collect();
        for (digest, slot) in &mut self.slots {
            slot.spare = !named.contains(digest.as_str());
        }
        let unwanted: Vec<Slot> = self
            .slots
            .extract_if(|digest, slot| slot.spare && !spares.contains(digest.as_str()))
            .map(|(_, slot)| slot)
            .collect();
        for slot in unwanted.iter().filter(|slot| slot.resident.served().is_some()) {
            let Target { version, digest } = &slot.target;
            tracing::debug!(
                model = slot.model,
                version,
                digest,
                "version unloaded: no traffic table references it"
            );
            self.load_meters.unloaded(Unload::Unwanted);
        }
        unwanted
    }

    /// Has versions loaded that have no slot yet, and again those that are asked for under another name of
    /// their model.
    fn load_missing(&mut self, needed: BTreeMap<Target, String>) {
        for (target, model) in needed {
            if let Some(slot) = self.slots.get_mut(&target.digest) {
                if slot.target == target && slot.renamed(&model) {
                    self.begin(&target.digest);
                }
            } else {
                let digest = target.digest.clone();
                self.slots.insert(digest.clone(), Slot::new(target, model, self.demands.clone()));
                self.begin(&digest);
            }
        }
    }

    fn begin(&mut self, digest: &str) {
        self.loads_begun += 1;
        if let Some(slot) = self.slots.get_mut(digest) {
            slot.begin(self.loader.clone(), self.loads_begun, self.outcomes.clone());
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
            tracing::warn!(%error, "traffic tables not saved for the next start");
        }
    }
}
