//! Replicas of earlier releases: they write one status for each deployment, under `<replica>.<deployment>`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::{Entry, Operation};
use slipway_api::traffic::{DeploymentStatus, ReplicaStatus, TablesState, UnsettledDeployment};
use slipway_runtime::clock::now_unix_ms;

use super::{Heard, Replicas, milliseconds};

/// The status in an entry; `None`: the replica says nothing of the deployment any more.
pub(super) fn read(entry: &Entry) -> Option<DeploymentStatus> {
    if entry.operation != Operation::Put {
        return None;
    }
    serde_json::from_slice(&entry.value)
        .inspect_err(|error| tracing::warn!(%error, key = %entry.key, "replica status does not parse"))
        .ok()
}

impl Replicas {
    /// Takes what a replica said of one deployment `age` ago. Returns whether it says something new.
    pub(super) fn hear_of(
        &self,
        replica: &str,
        deployment: &str,
        status: Option<DeploymentStatus>,
        age: Duration,
    ) -> bool {
        let mut known = self.lock();
        let now = Instant::now();
        let at = now.checked_sub(age).unwrap_or(now);
        let is_news = match (known.get_mut(replica), status) {
            // A later release writes this format, too, while it cannot know who reads it.
            (Some(heard), _) if !heard.by_deployment && heard.is_live() => false,
            (Some(heard), Some(status)) if heard.by_deployment => {
                let was_live = heard.is_live();
                if at > heard.at {
                    (heard.at, heard.at_unix_ms) = (at, now_unix_ms().saturating_sub(milliseconds(age)));
                }
                put(&mut Arc::make_mut(&mut heard.status).unsettled, unsettled(status)) || !was_live
            }
            (_, Some(status)) => {
                let at_unix_ms = now_unix_ms().saturating_sub(milliseconds(age));
                let status = Arc::new(first(replica, unsettled(status)));
                known.insert(replica.to_owned(), Heard { at, at_unix_ms, status, by_deployment: true });
                true
            }
            (Some(heard), None) if heard.by_deployment => {
                let all = &mut Arc::make_mut(&mut heard.status).unsettled;
                all.retain(|known| known.deployment != deployment);
                if all.is_empty() {
                    known.remove(replica);
                }
                true
            }
            (_, None) => false,
        };
        drop(known);
        if is_news {
            self.reports.send_replace(());
        }
        is_news
    }
}

/// What a later release would say: each deployment is one of which everything is told.
fn unsettled(status: DeploymentStatus) -> UnsettledDeployment {
    let DeploymentStatus { deployment, table_revision, versions, .. } = status;
    UnsettledDeployment { deployment, table_revision, versions, refused: None }
}

fn first(replica: &str, unsettled: UnsettledDeployment) -> ReplicaStatus {
    ReplicaStatus {
        replica_id: replica.to_owned(),
        tables: TablesState::Current,
        unsettled: vec![unsettled],
        ..ReplicaStatus::default()
    }
}

/// Whether it was another one before.
fn put(all: &mut Vec<UnsettledDeployment>, now: UnsettledDeployment) -> bool {
    match all.iter_mut().find(|known| known.deployment == now.deployment) {
        Some(known) if *known == now => false,
        Some(known) => {
            *known = now;
            true
        }
        None => {
            all.push(now);
            true
        }
    }
}
