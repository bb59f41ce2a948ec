//! What requests, metrics and the readiness see of the versions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use slipway_api::traffic::{Target, TrafficTable};

use super::super::meters::VersionLabels;
use super::super::readiness::{Progress, Unready};
use super::super::served::Memory;
use super::{FAILED_PART, MODELS_PART, Manager};
use crate::metrics::VersionMeters;
use crate::models::routing::{Route, Routes, Version};
use crate::source::Feed;
use crate::source::Source;

impl Manager {
    pub(super) fn publish(&mut self) {
        let mut routes = Routes::new();
        self.feeds.retain(|name, _| self.deployments.contains_key(name));
        for (name, deployment) in &self.deployments {
            let feed = feed_of(&mut self.feeds, &deployment.active);
            let mut versions = BTreeMap::new();
            for target in deployment.active.targets().chain(deployment.wanted.targets()) {
                let counted = self.stats.entry((name.clone(), target.version.clone()));
                let (stats, meters) = counted.or_insert_with(|| {
                    let meters = VersionMeters::new(name, &target.version, self.metrics.clone());
                    (Arc::default(), Arc::new(meters))
                });
                if let Some(slot) = self.slots.get(&target.digest) {
                    let described = slot.resident.described();
                    let policy = described.as_ref().map(|described| described.beside.policy.clone());
                    let source = || Source {
                        deployment: name.clone(),
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
                            known.reason =
                                Some(format!("the loaded version answers; its new files: {reason}"));
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
            }
            let route = Route {
                table: Arc::clone(&deployment.active),
                versions,
                first: Arc::clone(&deployment.first),
            };
            routes.insert(name.clone(), Arc::new(route));
        }
        self.routing.replace(routes);
        self.show_memory();
        self.show_readiness();
    }

    pub(super) fn show_memory(&mut self) {
        let mut taken: BTreeMap<VersionLabels, Memory> = BTreeMap::new();
        for (name, deployment) in &self.deployments {
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
        self.load_meters.show(taken.into_iter(), &mut self.shown_memory);
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

/// The feed of a table's deployment: the one there is, unless another deployment has its name now.
fn feed_of(feeds: &mut HashMap<String, Arc<Feed>>, table: &TrafficTable) -> Arc<Feed> {
    let new = || Arc::new(Feed::new(&table.deployment, table.deployment_id.as_deref()));
    let feed = feeds.entry(table.deployment.clone()).or_insert_with(new);
    if feed.deployment_id != table.deployment_id {
        *feed = new();
    }
    Arc::clone(feed)
}
