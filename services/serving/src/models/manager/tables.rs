//! What the manager is told of traffic tables, when they count as known, and what the disk keeps of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use slipway_api::traffic::TablesState;

use super::super::currency::last_known;
use super::super::deployment::Deployment;
use super::super::report;
use super::super::update::{Entry, Update};
use super::{Manager, TABLES_PART, Touched};

impl Manager {
    /// Takes an update, routes by it, keeps it on disk, and says that it is current.
    pub(super) async fn apply(&mut self, update: Update) {
        let suspensions = match &update {
            Update::All(all) => Some(all.suspensions),
            _ => None,
        };
        let (position, is_complete) = match &update {
            Update::All(all) => (Some(all.position), all.complete),
            Update::Applied(position) => (Some(*position), false),
            Update::Current => (None, true),
            _ => (None, false),
        };
        let is_overdue = suspensions.is_some() && self.routing.currency.tables() == TablesState::Waiting;
        if suspensions.is_some() {
            self.routing.report.read(is_complete);
        }
        let mut touched = self.take(update);
        if is_overdue {
            for (name, deployment) in &mut self.deployments {
                if deployment.active != deployment.wanted {
                    deployment.overdue = true;
                    touched.0.insert(name.clone());
                }
            }
        }
        if is_complete {
            self.tables_known = true;
        }
        self.settle(touched);
        self.keep_tables().await;
        if is_complete {
            self.know_tables();
            if self.routing.currency.current(suspensions.unwrap_or_default()) {
                self.readiness.ready(TABLES_PART);
            }
        } else if suspensions.is_some() && !self.tables_known {
            self.partly_known = true;
            self.wait_for_tables("the rollout controller has not written all of them");
        }
        // What is told is true already.
        if let Some(position) = position {
            self.routing.report.applied(position);
        }
    }

    /// Takes what an update says; the deployments that it is about.
    fn take(&mut self, update: Update) -> Touched {
        let mut touched = BTreeSet::new();
        match update {
            Update::Table(entry) => touched.extend(self.take_table(*entry)),
            Update::Refused { deployment, revision, reason } => {
                if let Some(known) = self.deployments.get_mut(&deployment) {
                    (known.entry_revision, known.refused) = (revision, Some(reason));
                    touched.insert(deployment);
                } else {
                    self.routing.report.unsettled(revision, report::refused(&deployment, &reason));
                }
            }
            Update::Deleted(name) => {
                self.routing.report.settled(&name);
                if self.deployments.contains_key(&name) {
                    self.gone.insert(name.clone());
                    touched.insert(name);
                }
            }
            Update::All(all) => {
                let mut absent: BTreeSet<String> = BTreeSet::new();
                if all.complete {
                    absent.extend(self.deployments.keys().cloned());
                }
                for update in all.updates {
                    match &update {
                        Update::Table(entry) => absent.remove(&entry.table.deployment),
                        Update::Refused { deployment, .. } => absent.remove(deployment),
                        _ => false,
                    };
                    touched.extend(self.take(update).0);
                }
                touched.extend(absent.iter().cloned());
                self.gone.extend(absent);
            }
            // What an ensemble misses now, no table names.
            Update::Current => touched.extend(self.deployments.keys().cloned()),
            Update::Applied(_) => {}
        }
        Touched(touched)
    }

    /// The deployment, where its newest table is another one now.
    fn take_table(&mut self, Entry { table, revision }: Entry) -> Option<String> {
        let name = table.deployment.clone();
        if let Err(invalid) = table.validate() {
            tracing::error!(
                deployment = name,
                %invalid,
                "traffic table invalid; the previous one stays in use"
            );
            return None;
        }
        match self.deployments.get_mut(&name) {
            Some(known) => {
                let was_refused = known.refused.take().is_some();
                known.entry_revision = revision;
                let table = self.routing.selection.kept(table, &known.wanted);
                if *known.wanted == table && !was_refused {
                    return None;
                }
                if *known.wanted != table {
                    known.wanted = Arc::new(table);
                }
            }
            None => {
                let new = Deployment { entry_revision: revision, ..Deployment::new(Arc::new(table)) };
                self.deployments.insert(name.clone(), new);
            }
        }
        self.gone.remove(&name);
        Some(name)
    }

    /// From now on a deployment that has no table does not exist.
    fn know_tables(&mut self) {
        if !std::mem::replace(&mut self.tables_known, true) {
            // What an ensemble misses now, no table names.
            self.settle(Touched(self.deployments.keys().cloned().collect()));
        }
        self.show_readiness();
        self.routing.complete();
    }

    /// The current tables did not come in time.
    pub(super) fn give_up_on_tables(&mut self) {
        let none = self.deployments.is_empty() && !self.partly_known && !self.tables_known;
        if !none {
            let waited_ms = u64::try_from(self.routing.currency.wait().as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(waited_ms, "current traffic tables not received; the last known ones are used");
            self.know_tables();
        }
        self.routing.currency.give_up(none);
        if let TablesState::LastKnown { since_unix_ms } = self.routing.currency.tables() {
            // Whoever sees that it is ready sees by what it answers.
            self.readiness.note(TABLES_PART, last_known(since_unix_ms));
            self.readiness.ready(TABLES_PART);
        }
    }

    pub(super) fn wait_for_tables(&self, why: &str) {
        let reason = if self.deployments.is_empty() && !self.partly_known {
            "it is not known yet which deployments there are".to_owned()
        } else {
            let wait_ms = self.routing.currency.wait().as_millis();
            format!("{why}; those that are known are used after {wait_ms} ms")
        };
        self.readiness.waiting(TABLES_PART, reason);
    }

    /// Keeps the tables that changed for the next start.
    pub(super) async fn keep_tables(&mut self) {
        let (changed, lost) = (std::mem::take(&mut self.changed), std::mem::take(&mut self.lost));
        let Some(cache) = self.loader.cache().cloned() else { return };
        let mut tables = Vec::new();
        for name in changed {
            let kept = self.deployments.get_mut(&name).and_then(Deployment::unkept);
            tables.extend(kept.map(|tables| (name, tables)));
        }
        if tables.is_empty() && lost.is_empty() {
            return;
        }
        let kept = tokio::task::spawn_blocking(move || {
            for name in lost {
                cache.forget_tables(&name);
            }
            tables.iter().try_for_each(|(name, tables)| cache.keep_tables(name, tables))
        });
        if let Ok(Err(error)) = kept.await {
            tracing::warn!(%error, "traffic tables not saved for the next start");
        }
    }
}
