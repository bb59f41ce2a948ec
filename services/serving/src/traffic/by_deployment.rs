//! The status as rollout controllers of earlier releases read it: an entry for each deployment. It is written
//! in addition, and only while the bucket of traffic tables has no head, which every later release writes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::Store;
use slipway_api::traffic::{DEPLOYMENT_STATUS_INTERVAL_S, DeploymentStatus, VersionStatus};
use slipway_runtime::clock::now_unix_ms;

use crate::models::routing::{Route, Routing};

/// What was written.
#[derive(Debug, Default)]
pub(super) struct ByDeployment {
    told: BTreeMap<String, DeploymentStatus>,
    /// When all of it was.
    at: Option<Instant>,
}

impl ByDeployment {
    /// Writes what changed, and everything every few seconds, if somebody may read it.
    pub(super) async fn write(
        &mut self,
        store: &Store,
        replica_id: &str,
        routing: &Routing,
    ) -> anyhow::Result<()> {
        if !routing.report.is_headless() {
            // What was written expires by itself.
            *self = Self::default();
            return Ok(());
        }
        let interval = Duration::from_secs(DEPLOYMENT_STATUS_INTERVAL_S);
        let all = self.at.is_none_or(|at| at.elapsed() >= interval);
        if all {
            self.at = Some(Instant::now());
        }
        let routes = routing.all();
        for (deployment, route) in routes.iter() {
            let now = status_of(replica_id, deployment, route);
            if all || self.told.get(deployment) != Some(&now) {
                let json =
                    serde_json::to_vec(&DeploymentStatus { at_unix_ms: now_unix_ms(), ..now.clone() })?;
                store.put(key(replica_id, deployment), json.into()).await?;
                self.told.insert(deployment.clone(), now);
            }
        }
        let gone: Vec<String> =
            self.told.keys().filter(|name| !routes.contains_key(*name)).cloned().collect();
        for deployment in gone {
            store.delete(key(replica_id, &deployment)).await?;
            self.told.remove(&deployment);
        }
        Ok(())
    }

    /// Takes everything back.
    pub(super) async fn leave(self, store: &Store, replica_id: &str) {
        for deployment in self.told.keys() {
            let _ = store.delete(key(replica_id, deployment)).await;
        }
    }
}

fn key(replica_id: &str, deployment: &str) -> String {
    format!("{replica_id}.{deployment}")
}

/// Without the time, so that two can be compared.
fn status_of(replica_id: &str, deployment: &str, route: &Route) -> DeploymentStatus {
    let versions = route.versions.values().map(|version| VersionStatus {
        version: version.target.version.clone(),
        digest: version.target.digest.clone(),
        state: version.state,
        reason: version.reason.clone(),
    });
    DeploymentStatus {
        replica_id: replica_id.to_owned(),
        deployment: deployment.to_owned(),
        table_revision: route.table.revision,
        versions: versions.collect(),
        at_unix_ms: 0,
    }
}
