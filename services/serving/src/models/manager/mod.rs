//! The one task that decides what is loaded and what is routed.
//!
//! A new table is routed by as soon as its stable version is ready; until then the table before stays, so
//! that no request fails because of a change. A version goes when no table names it any more, and it is not
//! among the last ones that are kept for a rollback; requests that run on it keep it until they end. Where
//! versions take more memory than they may, those that were used longest ago are unloaded, and loaded again
//! when a request asks for them.

mod room;
mod show;
mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use slipway_api::traffic::{Target, VersionState};
use slipway_service_kit::health::Readiness;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::binding::bind_all;
use super::cache::Cache;
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
/// Outcomes that are taken together.
const OUTCOMES_AT_ONCE: usize = 64;
/// Parts of the readiness that this task answers for.
pub(crate) const TABLES_PART: &str = "traffic-tables";
const MODELS_PART: &str = "models";
const FAILED_PART: &str = "failed-models";

/// Names of deployments that something happened to.
struct Touched(BTreeSet<String>);

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
    /// Whether the bucket was read, and may lack deployments.
    partly_known: bool,
    /// By digest: the deployments that need the version.
    owners: HashMap<String, BTreeSet<String>>,
    /// Digests that may have lost their last owner, or their place in a table.
    doubtful: BTreeSet<String>,
    /// Deployments that are to be removed.
    gone: BTreeSet<String>,
    /// Deployments whose tables on disk are to be removed.
    lost: Vec<String>,
    /// Deployments whose tables on disk may be older.
    changed: BTreeSet<String>,
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
        load_meters.limit(loader.limits().memory_bytes.unwrap_or(0));
        // Others may share the cache.
        let known = known.into_iter().filter(|(_, tables)| routing.selection.takes(&tables.wanted));
        let deployments = known.map(|(name, tables)| (name, Deployment::restored(tables))).collect();
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
            partly_known: false,
            owners: HashMap::new(),
            doubtful: BTreeSet::new(),
            gone: BTreeSet::new(),
            lost: Vec::new(),
            changed: BTreeSet::new(),
            strict,
            started: false,
        };
        manager.wait_for_tables("NATS has not sent the current ones");
        // Before the first request: a deployment of the cache is loading then, not unknown.
        manager.settle(Touched(manager.deployments.keys().cloned().collect()));
        manager
    }

    /// Follows updates until the shutdown.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>, shutdown: CancellationToken) {
        let mut check = tokio::time::interval(Duration::from_millis(MEMORY_CHECK_MS));
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (currency, mut outcomes) = (Arc::clone(&self.routing.currency), Vec::new());
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
                _ = self.arrivals.recv_many(&mut outcomes, OUTCOMES_AT_ONCE) => {
                    self.finish_all(std::mem::take(&mut outcomes)).await;
                }
                digest = self.demanded.recv() => if let Some(digest) = digest {
                    self.demand(&digest);
                },
                () = currency.waited() => self.give_up_on_tables(),
                _ = check.tick(), if self.loader.limits().memory_bytes.is_some() => {
                    self.relieve(0, None);
                }
            }
        }
    }

    async fn finish_all(&mut self, outcomes: Vec<Outcome>) {
        let mut touched = BTreeSet::new();
        for outcome in outcomes {
            let digest = outcome.digest.clone();
            // A version that was loaded again is what it was before.
            if self.finish(outcome) {
                touched.extend(self.owners.get(&digest).into_iter().flatten().cloned());
            }
        }
        if !touched.is_empty() {
            self.settle(Touched(touched));
            self.keep_tables().await;
            self.make_room().await;
        }
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
                self.show_memory_of(&self.owners.get(&digest).cloned().unwrap_or_default());
            }
            _ => tracing::warn!(model, version, digest, reason, "version not loaded yet; retrying"),
        }
        is_news || self.slots.get(&digest).is_some_and(|slot| slot.ensemble.is_some())
    }

    /// Activates what can be, loads what is missing, unloads what no table names, and shows the result to
    /// requests, for the deployments that something happened to. An ensemble depends on others, so where
    /// there are any, all deployments are looked at.
    fn settle(&mut self, touched: Touched) {
        let Touched(mut touched) = touched;
        let has_ensembles = self.slots.values().any(|slot| slot.ensemble.is_some());
        if has_ensembles {
            touched.extend(self.deployments.keys().cloned());
            bind_all(&self.deployments, self.tables_known, &mut self.slots);
        }
        for name in std::mem::take(&mut self.gone) {
            if let Some(gone) = self.deployments.remove(&name) {
                self.lost.push(name.clone());
                self.disown(&name, gone.owned);
            }
            self.stats.retain(|(deployment, _), _| *deployment != name);
        }
        for name in &touched {
            self.activate(name);
        }
        for name in &touched {
            self.own(name);
        }
        let unwanted = self.take_unwanted();
        self.load_missing(&touched);
        if has_ensembles {
            // Other versions may answer now.
            bind_all(&self.deployments, self.tables_known, &mut self.slots);
        }
        self.publish(&touched);
        self.changed.extend(touched);
        if !unwanted.is_empty() {
            // After the routes, which held them, too.
            tokio::task::spawn_blocking(move || drop(unwanted));
        }
    }

    /// Lets requests follow the newest table of a deployment if its versions are ready.
    fn activate(&mut self, name: &str) {
        let keep = self.loader.limits().keep_versions;
        let Some(deployment) = self.deployments.get_mut(name) else { return };
        let failed = |target: &Target| has_failed(target, &self.slots);
        let ready = |target: &Target| is_ready(target, &self.slots);
        if let Some(table) = folder::without_failed(&deployment.wanted, &deployment.active, failed, ready) {
            tracing::warn!(
                deployment = table.deployment,
                version = table.stable.as_ref().map(|stable| &stable.version),
                "highest version of a folder failed to load; a lower one answers"
            );
            deployment.wanted = Arc::new(table);
        }
        if deployment.overdue {
            let serves = serves(&deployment.wanted, &self.slots);
            let hopeless = hopeless(&deployment.wanted, &self.slots);
            deployment.catch_up(serves, hopeless);
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
        if !deployment.overdue {
            deployment.caught_up(|target| is_ready(target, &self.slots), keep);
        }
        // The switch waits for no version.
        if deployment.active.kill_switch != deployment.wanted.kill_switch {
            let switch = deployment.wanted.kill_switch.clone();
            Arc::make_mut(&mut deployment.active).kill_switch = switch;
        }
        // What a table names again is no spare any more.
        deployment.keep(Vec::new(), keep);
    }

    /// Notes which versions a deployment needs now.
    fn own(&mut self, name: &str) {
        let Some(deployment) = self.deployments.get_mut(name) else { return };
        let needed = deployment.needed();
        let before = std::mem::replace(&mut deployment.owned, needed.clone());
        for digest in &needed {
            self.owners.entry(digest.clone()).or_default().insert(name.to_owned());
        }
        // Whether a version is named or only kept may have changed, too.
        self.doubtful.extend(needed.iter().cloned());
        self.disown(name, before.difference(&needed).cloned().collect());
    }

    fn disown(&mut self, name: &str, digests: BTreeSet<String>) {
        for digest in digests {
            if let Some(owners) = self.owners.get_mut(&digest) {
                owners.remove(name);
                if owners.is_empty() {
                    self.owners.remove(&digest);
                }
            }
            self.doubtful.insert(digest);
        }
    }

    /// Whether a table names a version; otherwise it is kept for a rollback at most.
    fn is_named(&self, digest: &str) -> bool {
        let owners = self.owners.get(digest).into_iter().flatten();
        let mut deployments = owners.filter_map(|name| self.deployments.get(name));
        deployments.any(|owner| owner.targets().any(|(target, _)| target.digest == digest))
    }

    /// Takes out the slots of versions that no table names and that are not kept for a rollback.
    fn take_unwanted(&mut self) -> Vec<Slot> {
        let mut unwanted = Vec::new();
        for digest in std::mem::take(&mut self.doubtful) {
            let is_named = self.is_named(&digest);
            if let Some(slot) = self.slots.get_mut(&digest) {
                slot.spare = !is_named;
            }
            if !self.owners.contains_key(&digest) {
                unwanted.extend(self.slots.remove(&digest));
            }
        }
        for slot in unwanted.iter().filter(|slot: &&Slot| slot.resident.served().is_some()) {
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
    fn load_missing(&mut self, touched: &BTreeSet<String>) {
        let mut needed: BTreeMap<Target, String> = BTreeMap::new();
        for deployment in touched.iter().filter_map(|name| self.deployments.get(name)) {
            needed.extend(deployment.targets().map(|(target, model)| (target.clone(), model.to_owned())));
        }
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
}
