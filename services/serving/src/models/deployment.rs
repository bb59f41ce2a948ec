//! One deployment: the table that requests follow, the one to follow next, and what is kept of those before.

use std::collections::{BTreeSet, HashMap};
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
    /// Whether the table that requests follow was found to be old before anything was answered by it: the
    /// newest one counts although its versions are still to be loaded.
    pub(super) overdue: bool,
    /// The table that an overdue one replaced, until its versions are ready. It is taken again where they
    /// do not load.
    pub(super) before: Option<Arc<TrafficTable>>,
    /// Where the newest table is in the bucket; 0 for one that comes from elsewhere.
    pub(super) entry_revision: u64,
    /// Why the newest entry of the bucket cannot be used, where that is so.
    pub(super) refused: Option<String>,
    /// What the disk has of it.
    pub(super) kept: Option<Kept>,
    /// Digests for which it is noted as an owner.
    pub(super) owned: BTreeSet<String>,
}

/// Tables on disk.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    wanted: Arc<TrafficTable>,
    active: Arc<TrafficTable>,
}

impl Deployment {
    /// A deployment that has no traffic yet.
    pub(super) fn new(table: Arc<TrafficTable>) -> Self {
        Self {
            first: unseen(&table),
            active: Arc::clone(&table),
            wanted: table,
            spares: Vec::new(),
            overdue: false,
            before: None,
            entry_revision: 0,
            refused: None,
            kept: None,
            owned: BTreeSet::new(),
        }
    }

    /// A deployment that answered before the restart: its decision's trace has ended.
    pub(super) fn restored(tables: KnownTables) -> Self {
        let (active, wanted) = (Arc::new(tables.active), Arc::new(tables.wanted));
        let kept = Some(Kept { wanted: Arc::clone(&wanted), active: Arc::clone(&active) });
        Self { first: Arc::default(), active, kept, ..Self::new(wanted) }
    }

    /// The tables, where the disk does not have them; from now on it does.
    pub(super) fn unkept(&mut self) -> Option<KnownTables> {
        let is_kept = self.kept.as_ref().is_some_and(|kept| {
            Arc::ptr_eq(&kept.wanted, &self.wanted) && Arc::ptr_eq(&kept.active, &self.active)
        });
        if is_kept {
            return None;
        }
        self.kept = Some(Kept { wanted: Arc::clone(&self.wanted), active: Arc::clone(&self.active) });
        let active = self.before.as_ref().unwrap_or(&self.active);
        Some(KnownTables { wanted: (*self.wanted).clone(), active: (**active).clone() })
    }

    /// Digests that it needs: of its tables, and of what is kept for a rollback.
    pub(super) fn needed(&self) -> BTreeSet<String> {
        let named = self.targets().map(|(target, _)| target);
        named.chain(&self.spares).map(|target| target.digest.clone()).collect()
    }

    /// Follows the newest table. Of the versions that leave the traffic and are `ready`, the last `keep`
    /// stay.
    pub(super) fn activate(&mut self, ready: impl Fn(&Target) -> bool, keep: usize) {
        let left: Vec<Target> = self.active.targets().filter(|target| ready(target)).cloned().collect();
        self.active = Arc::clone(&self.wanted);
        self.first = unseen(&self.active);
        self.keep(left, keep);
    }

    /// Takes an overdue table: follows it although it does not `serve` yet, unless it is `hopeless`.
    pub(super) fn catch_up(&mut self, serves: bool, hopeless: bool) {
        if serves {
            self.overdue = false;
        } else if hopeless {
            if let Some(before) = self.before.take() {
                self.active = before;
                self.first = Arc::default();
            }
        } else if self.active != self.wanted {
            self.before = Some(std::mem::replace(&mut self.active, Arc::clone(&self.wanted)));
            self.first = unseen(&self.active);
        }
    }

    /// The versions of the overdue table are ready: what it replaced is no longer needed. Its versions that
    /// are `ready` are kept as if they left the traffic now.
    pub(super) fn caught_up(&mut self, ready: impl Fn(&Target) -> bool, keep: usize) {
        if let Some(before) = self.before.take() {
            let left = before.targets().filter(|target| ready(target)).cloned().collect();
            self.keep(left, keep);
        }
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
            .chain(&self.before)
            .flat_map(|table| table.targets().map(|target| (target, table.model.as_str())))
    }
}

fn unseen(table: &TrafficTable) -> Arc<HashMap<String, AtomicBool>> {
    Arc::new(table.targets().map(|target| (target.version.clone(), AtomicBool::new(false))).collect())
}
