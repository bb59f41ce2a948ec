//! What requests, metrics and the readiness see of the versions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use slipway_api::traffic::{Target, TrafficTable, UnsettledDeployment, VersionState, VersionStatus};

use super::super::meters::VersionLabels;
use super::super::readiness::{Progress, Unready};
use super::super::report;
use super::super::served::Memory;
use super::{FAILED_PART, MODELS_PART, Manager};
use crate::metrics::VersionMeters;
use crate::models::routing::{Rerouted, Route, Version};
use crate::source::Feed;
use crate::source::Source;

impl Manager {
    /// Shows what became of some deployments.
    pub(super) fn publish(&mut self, touched: &BTreeSet<String>) {
        let (mut rerouted, mut reported) = (Vec::new(), Vec::new());
        for name in touched {
            let route = self.route(name).map(Arc::new);
            let exception = self.deployments.get(name).zip(route.as_ref()).and_then(|(deployment, route)| {
                let follows = deployment.active == deployment.wanted;
                let exception = exception(route, follows, deployment.refused.as_deref())?;
                Some((deployment.entry_revision, exception))
            });
            reported.push((name, exception));
            rerouted.push(Rerouted { deployment: name.clone(), route });
        }
        self.routing.replace(rerouted);
        // What is told is true already.
        for (name, exception) in reported {
            match exception {
                Some((entry_revision, exception)) => {
                    self.routing.report.unsettled(entry_revision, exception);
                }
                None => self.routing.report.settled(name),
            }
        }
        self.show_memory_of(touched);
        self.show_readiness();
    }

    /// The route of a deployment; `None` where it is gone.
    fn route(&mut self, name: &str) -> Option<Route> {
        let Some(deployment) = self.deployments.get(name) else {
            self.feeds.remove(name);
            return None;
        };
        let feed = feed_of(&mut self.feeds, &deployment.active);
        let mut versions = BTreeMap::new();
        for target in deployment.active.targets().chain(deployment.wanted.targets()) {
            let counted = self.stats.entry((name.to_owned(), target.version.clone()));
            let (stats, meters) = counted.or_insert_with(|| {
                let meters = VersionMeters::new(name, &target.version, self.metrics.clone());
                (Arc::default(), Arc::new(meters))
            });
            let Some(slot) = self.slots.get(&target.digest) else { continue };
            let described = slot.resident.described();
            let policy = described.as_ref().map(|described| described.beside.policy.clone());
            let source = || Source {
                deployment: name.to_owned(),
                model: deployment.active.model.clone(),
                version: target.version.clone(),
                prediction_output: deployment.active.prediction_output.clone(),
                policy: policy.unwrap_or_default(),
                feed: Arc::clone(&feed),
            };
            let known = versions.entry(target.version.clone());
            let known = known.and_modify(|known: &mut Version| {
                // Files that were changed in their place, and do not load: those before go on.
                if let Some(reason) = slot.reason.as_ref().filter(|_| known.target != *target) {
                    known.reason = Some(format!("the loaded version answers; its new files: {reason}"));
                }
            });
            known.or_insert_with(|| Version {
                target: target.clone(),
                state: slot.state,
                reason: slot.reason.clone(),
                resident: Arc::clone(&slot.resident),
                described: described.clone(),
                stats: Arc::clone(stats),
                meters: Arc::clone(meters),
                source: Arc::new(source()),
            });
        }
        let (table, first) = (Arc::clone(&deployment.active), Arc::clone(&deployment.first));
        Some(Route { table, versions, first })
    }

    /// Shows the memory of all versions.
    pub(super) fn show_memory(&mut self) {
        self.show_memory_of(&self.deployments.keys().cloned().collect());
    }

    /// Shows the memory of the versions of some deployments.
    pub(super) fn show_memory_of(&mut self, deployments: &BTreeSet<String>) {
        let mut taken: BTreeMap<VersionLabels, Memory> = BTreeMap::new();
        let known = deployments.iter().filter_map(|name| Some((name, self.deployments.get(name)?)));
        for (name, deployment) in known {
            let spares = deployment.spares.iter();
            for target in deployment.targets().map(|(target, _)| target).chain(spares) {
                let Some(slot) = self.slots.get(&target.digest) else { continue };
                let memory = match (slot.resident.served(), slot.resident.described()) {
                    (Some(served), _) => served.described.memory,
                    (None, Some(described)) => described.memory.freed(),
                    (None, None) => Memory::default(),
                };
                let labels = VersionLabels { deployment: name.clone(), version: target.version.clone() };
                taken.insert(labels, memory);
            }
        }
        self.load_meters.show(deployments, taken.into_iter(), &mut self.shown_memory);
    }

    pub(super) fn show_readiness(&mut self) {
        if self.started {
            return;
        }
        let progress = |target: &Target| {
            let slot = self.slots.get(&target.digest)?;
            Some(Progress {
                state: slot.state,
                reason: slot.reason.as_deref(),
                misses_model: slot.misses_model,
            })
        };
        let tables = self.deployments.values().map(|deployment| &*deployment.wanted);
        let Unready { loading, mut failed } = Unready::of(tables, progress);
        if !self.strict {
            failed.clear();
        }
        self.show_part(MODELS_PART, "loading ", &loading, ", ");
        self.show_part(FAILED_PART, "", &failed, "; ");
        self.started = self.tables_known && loading.is_empty() && failed.is_empty();
    }

    pub(super) fn show_part(&self, part: &str, what: &str, missing: &[String], between: &str) {
        if missing.is_empty() {
            self.readiness.ready(part);
        } else {
            self.readiness.waiting(part, format!("{what}{}", missing.join(between)));
        }
    }
}

/// What the rollout controller is told of a route; `None` where it `follows` the newest table and every
/// version is ready.
fn exception(route: &Route, follows: bool, refused: Option<&str>) -> Option<UnsettledDeployment> {
    let ready = route.versions.values().all(|version| version.state == VersionState::Ready);
    if follows && ready && refused.is_none() {
        return None;
    }
    let versions = route.versions.values().map(|version| VersionStatus {
        version: version.target.version.clone(),
        digest: version.target.digest.clone(),
        state: version.state,
        reason: version.reason.as_deref().map(report::shortened),
    });
    Some(UnsettledDeployment {
        deployment: route.table.deployment.clone(),
        table_revision: route.table.revision,
        versions: versions.collect(),
        refused: refused.map(report::shortened),
    })
}

/// The feed of a table's deployment: the one there is, unless another deployment has its name now.
fn feed_of(feeds: &mut HashMap<String, Arc<Feed>>, table: &TrafficTable) -> Arc<Feed> {
    let new = || Arc::new(Feed::new(&table.deployment, table.deployment_id.as_deref()));
    let feed = feeds.entry(table.deployment.clone()).or_insert_with(new);
    if feed.deployment_id != table.deployment_id {
        *feed = new();
    }
    Arc::clone(feed)
}
