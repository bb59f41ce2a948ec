//! One deployment: the table that requests follow, the one to follow next, and what is kept of those before.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use slipway_api::traffic::{Target, TrafficTable};

use super::cache::KnownTables;
use super::spares;

/// See the module.
pub(super) struct Deployment {
    /// The newest table.
    pub(super) wanted: Arc<TrafficTable>,
    /// The table that requests follow.
    pub(super) active: Arc<TrafficTable>,
    /// By version: whether it has answered under the active table yet.
    pub(super) first: Arc<HashMap<String, AtomicBool>>,
    /// Versions that left the traffic and stay loaded, newest first.
    pub(super) spares: Vec<Target>,
}

impl Deployment {
    /// A deployment that has no traffic yet.
    pub(super) fn new(table: Arc<TrafficTable>) -> Self {
        Self { first: unseen(&table), active: Arc::clone(&table), wanted: table, spares: Vec::new() }
    }

    /// A deployment that answered before the restart: its decision's trace has ended.
    pub(super) fn restored(tables: KnownTables) -> Self {
        let (active, wanted) = (Arc::new(tables.active), Arc::new(tables.wanted));
        Self { first: Arc::default(), active, wanted, spares: Vec::new() }
    }

    /// Follows the newest table. Of the versions that leave the traffic and are `ready`, the last `keep`
    /// stay.
    pub(super) fn activate(&mut self, ready: impl Fn(&Target) -> bool, keep: usize) {
        let left: Vec<Target> = self.active.targets().filter(|target| ready(target)).cloned().collect();
        self.active = Arc::clone(&self.wanted);
        self.first = unseen(&self.active);
        self.keep(left, keep);
    }

    /// Keeps no more than `most` versions, and none that a table names.
    pub(super) fn keep(&mut self, left: Vec<Target>, most: usize) {
        let named = |target: &Target| self.targets().any(|(named, _)| named.digest == target.digest);
        self.spares = spares::kept(&self.spares, left, named, most);
    }

    /// What its tables name, each with the model of that table.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&Target, &str)> {
        [&self.active, &self.wanted]
            .into_iter()
            .flat_map(|table| table.targets().map(|target| (target, table.model.as_str())))
    }
}

fn unseen(table: &TrafficTable) -> Arc<HashMap<String, AtomicBool>> {
    Arc::new(table.targets().map(|target| (target.version.clone(), AtomicBool::new(false))).collect())
}
