//! What replicas count of drills.

use slipway_api::traffic::{DrillCounts, DrillReport};

use super::{Heard, Replicas};

impl Replicas {
    /// The live replica of a deployment whose ID is first.
    pub(crate) fn first_live(&self, deployment: &str) -> Option<String> {
        self.live(deployment).into_iter().map(|heard| heard.status.replica_id.clone()).min()
    }

    /// What replicas count of a drill, by their IDs.
    pub(crate) fn drill(&self, deployment: &str, drill_id: &str) -> Vec<(String, DrillCounts)> {
        let is_meant = |report: &&DrillReport| report.deployment == deployment && report.drill_id == drill_id;
        let of_one = |heard: &Heard| {
            let report = heard.status.drills.iter().find(is_meant)?;
            Some((heard.status.replica_id.clone(), report.counts.clone()))
        };
        self.lock().values().filter_map(of_one).collect()
    }
}
