//! What keeps a new replica from being ready: versions that are to answer and do not. Pure.
//!
//! A replica that has been ready stays ready until it ends: a deployment that comes later, or that loses its
//! version, is not ready itself, and must not take the others of the replica out of the load balancer.

use slipway_api::traffic::{Target, TrafficTable, VersionState};

/// How far a version is, as the readiness sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress<'slot> {
    /// Its state.
    pub(super) state: VersionState,
    /// Why it failed, or what its loading waits for.
    pub(super) reason: Option<&'slot str>,
    /// Whether it is an ensemble that waits for a model which no deployment has.
    pub(super) misses_model: bool,
}

/// Versions that keep a replica from being ready, each as `deployment/version`, with the reason where there
/// is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unready {
    /// They are being loaded.
    pub(super) loading: Vec<String>,
    /// They cannot be served until something else changes: registry, artifact store, files, or another
    /// deployment.
    pub(super) failed: Vec<String>,
}

impl Unready {
    /// What the newest tables ask for and is not there.
    pub(super) fn of<'slots>(
        tables: impl Iterator<Item = &'slots TrafficTable>,
        progress: impl Fn(&Target) -> Option<Progress<'slots>>,
    ) -> Self {
        let mut unready = Self::default();
        // Requests of a deployment that is switched off are refused, whatever is loaded.
        for table in tables.filter(|table| table.refusal().is_none()) {
            let candidates = table.candidates.iter().filter(|entry| entry.weight_percent > 0);
            if let Some(target) = &table.stable {
                unready.add(table, target, progress(target), true);
            }
            for entry in candidates {
                // The stable version replaces a candidate that does not load.
                unready.add(table, &entry.target, progress(&entry.target), table.stable.is_none());
            }
        }
        unready
    }

    fn add(&mut self, table: &TrafficTable, target: &Target, progress: Option<Progress<'_>>, needed: bool) {
        let name = format!("{}/{}", table.deployment, target.version);
        match progress {
            Some(Progress { state: VersionState::Ready, .. }) => {}
            Some(Progress { state: VersionState::Failed, reason, .. }) if needed => {
                let reason = reason.unwrap_or("the log has the cause");
                self.failed.push(format!("{name} does not load: {reason}"));
            }
            Some(Progress { misses_model: true, reason, .. }) if needed => {
                self.failed.push(format!("{name}: {}", reason.unwrap_or("it waits for another model")));
            }
            Some(Progress { state: VersionState::Loading, misses_model: false, reason }) => {
                let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                self.loading.push(format!("{name}{reason}"));
            }
            Some(_) => {}
            None => self.loading.push(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use slipway_api::traffic::{KillMode, KillSwitch, Weighted};

    use super::*;

    fn target(version: &str) -> Target {
        Target { version: version.into(), digest: format!("sha256:{version}") }
    }

    fn table(stable: Option<&str>, candidates: &[(&str, u8)]) -> TrafficTable {
        let candidates = candidates
            .iter()
            .map(|(version, weight_percent)| Weighted {
                target: target(version),
                weight_percent: *weight_percent,
            })
            .collect();
        TrafficTable { stable: stable.map(target), candidates, ..TrafficTable::empty("points", "points") }
    }

    /// Versions 1 to 4: ready, loading, failed, an ensemble that waits for a model.
    fn unready(table: &TrafficTable) -> Unready {
        Unready::of([table].into_iter(), |target| {
            let (state, reason, misses_model) = match target.version.as_str() {
                "1" => (VersionState::Ready, None, false),
                "2" => (VersionState::Loading, Some("NATS is unreachable"), false),
                "3" => (VersionState::Failed, Some("it was deleted"), false),
                "4" => (VersionState::Loading, Some("there is no model 'late'"), true),
                _ => return None,
            };
            Some(Progress { state, reason, misses_model })
        })
    }

    #[test]
    fn every_stable_version_has_to_answer() {
        let failed = |failed: &str| Unready { failed: vec![failed.to_owned()], ..Unready::default() };
        let loading = |loading: &str| Unready { loading: vec![loading.to_owned()], ..Unready::default() };
        assert_eq!(unready(&table(Some("1"), &[])), Unready::default());
        assert_eq!(unready(&table(Some("2"), &[])), loading("points/2 (NATS is unreachable)"));
        assert_eq!(unready(&table(Some("3"), &[])), failed("points/3 does not load: it was deleted"));
        assert_eq!(unready(&table(Some("4"), &[])), failed("points/4: there is no model 'late'"));
        assert_eq!(unready(&table(Some("5"), &[])), loading("points/5"));
    }

    #[test]
    fn a_candidate_is_waited_for_while_it_loads_and_only_needed_where_nothing_stands_in() {
        assert_eq!(unready(&table(Some("1"), &[("2", 10)])).loading.len(), 1);
        assert_eq!(unready(&table(Some("1"), &[("3", 10), ("4", 10), ("2", 0)])), Unready::default());
        assert_eq!(unready(&table(None, &[("3", 100)])).failed.len(), 1);
        assert_eq!(unready(&table(None, &[])), Unready::default());
    }

    #[test]
    fn a_deployment_that_is_switched_off_is_not_waited_for() {
        let switched = |mode| {
            let kill_switch = Some(KillSwitch { mode, reason: "wrong prices".into() });
            unready(&TrafficTable { kill_switch, ..table(Some("3"), &[]) })
        };
        assert_eq!(switched(KillMode::Refuse), Unready::default());
        assert_eq!(switched(KillMode::StableOnly).failed.len(), 1);
    }
}
