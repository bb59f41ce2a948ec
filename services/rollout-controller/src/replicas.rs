//! What serving replicas say they hold, watched in NATS KV.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::Operation;
use futures::StreamExt as _;
use slipway_api::traffic::{REPLICA_STATUS_INTERVAL_S, REPLICAS_BUCKET, ReplicaStatus, Target, VersionState};
use slipway_domain::rollout::Readiness;
use slipway_event_bus::EventBus;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A replica that missed three words is gone; nobody waits for it.
const LIVE_FOR: Duration = Duration::from_secs(3 * REPLICA_STATUS_INTERVAL_S);
/// Pause before a lost watch is begun again.
const REWATCH_DELAY_MS: u64 = 250;
/// How often it is checked whether the connection was lost meanwhile.
const CONNECTION_CHECK_MS: u64 = 250;

/// The last word of each replica about each deployment. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replicas {
    known: Arc<Mutex<BTreeMap<String, (Instant, ReplicaStatus)>>>,
}

impl Replicas {
    /// How far the live replicas are with a version of a deployment.
    pub(crate) fn readiness(&self, deployment: &str, target: &Target) -> Readiness {
        let live = self.live();
        let ids: BTreeSet<&str> = live.iter().map(|status| status.replica_id.as_str()).collect();
        let of_one = |id: &str| {
            let status =
                live.iter().find(|status| status.replica_id == id && status.deployment == deployment);
            let version = status.and_then(|status| {
                status
                    .versions
                    .iter()
                    .find(|found| found.version == target.version && found.digest == target.digest)
            });
            match version.map(|version| (version.state, version.reason.clone())) {
                Some((VersionState::Ready, _)) => Readiness::Ready,
                Some((VersionState::Failed, reason)) => {
                    Readiness::Failed { reason: reason.unwrap_or_else(|| "no reason was given".to_owned()) }
                }
                Some((VersionState::Loading, Some(reason))) => Readiness::Waiting { reason },
                // A replica that has not seen the table yet will load it.
                Some((VersionState::Loading, None)) | None => Readiness::Loading,
            }
        };
        Readiness::of_all(ids.into_iter().map(of_one))
    }

    /// Whether there are live replicas of a deployment and all of them route by this revision or a later one.
    pub(crate) fn follow(&self, deployment: &str, revision: u64) -> bool {
        let live = self.live();
        let mut of_deployment = live.iter().filter(|status| status.deployment == deployment).peekable();
        of_deployment.peek().is_some() && of_deployment.all(|status| status.table_revision >= revision)
    }

    fn live(&self) -> Vec<ReplicaStatus> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known
            .values()
            .filter(|(heard, _)| now.saturating_duration_since(*heard) < LIVE_FOR)
            .map(|(_, status)| status.clone())
            .collect()
    }

    fn hear(&self, key: String, status: Option<ReplicaStatus>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.retain(|_, (heard, _)| now.saturating_duration_since(*heard) < LIVE_FOR);
        match status {
            Some(status) => known.insert(key, (now, status)),
            None => known.remove(&key),
        };
    }
}

/// Listens until `shutdown`; each word wakes the control loop.
pub(crate) async fn watch(bus: EventBus, replicas: Replicas, wake: Arc<Notify>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = listen(&bus, &replicas, &wake) => {
                if let Err(error) = ended {
                    tracing::debug!(error = format!("{error:#}"), "the watch of the replicas begins again");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(REWATCH_DELAY_MS)) => {}
        }
    }
}

async fn listen(bus: &EventBus, replicas: &Replicas, wake: &Notify) -> anyhow::Result<()> {
    anyhow::ensure!(bus.is_connected(), "NATS is away");
    let connections = || bus.client().statistics().connects.load(Ordering::Relaxed);
    let connected = connections();
    let store = bus.bucket(REPLICAS_BUCKET).await?;
    let mut entries = store.watch_with_history(">").await?;
    let mut check = tokio::time::interval(Duration::from_millis(CONNECTION_CHECK_MS));
    loop {
        let entry = tokio::select! {
            entry = entries.next() => entry,
            // A watch may outlive its server without saying so; a new connection gets a new watch.
            _ = check.tick() => if connections() == connected { continue } else { return Ok(()) },
        };
        let Some(entry) = entry.transpose()? else { return Ok(()) };
        let status = match entry.operation {
            Operation::Put => serde_json::from_slice(&entry.value)
                .inspect_err(
                    |error| tracing::warn!(%error, key = %entry.key, "a replica's status does not parse"),
                )
                .ok(),
            Operation::Delete | Operation::Purge => None,
        };
        replicas.hear(entry.key, status);
        wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use slipway_api::traffic::VersionStatus;

    use super::*;

    fn status(replica: &str, revision: u64, state: VersionState) -> ReplicaStatus {
        ReplicaStatus {
            replica_id: replica.into(),
            deployment: "d".into(),
            table_revision: revision,
            versions: vec![VersionStatus { version: "2".into(), digest: "x".into(), state, reason: None }],
            at_unix_ms: 0,
        }
    }

    #[test]
    fn all_replicas_have_to_be_ready_and_follow() {
        let target = Target { version: "2".into(), digest: "x".into() };
        let replicas = Replicas::default();
        assert_eq!(replicas.readiness("d", &target), Readiness::Unknown);
        assert!(!replicas.follow("d", 1));
        replicas.hear("a.d".into(), Some(status("a", 3, VersionState::Ready)));
        assert_eq!(replicas.readiness("d", &target), Readiness::Ready);
        replicas.hear("b.d".into(), Some(status("b", 2, VersionState::Loading)));
        assert_eq!(replicas.readiness("d", &target), Readiness::Loading);
        assert!(!replicas.follow("d", 3));
        let mut waits = status("b", 2, VersionState::Loading);
        waits.versions[0].reason = Some("there is no model 'points'".into());
        replicas.hear("b.d".into(), Some(waits));
        let reason = "there is no model 'points'".to_owned();
        assert_eq!(replicas.readiness("d", &target), Readiness::Waiting { reason });
        replicas.hear("b.d".into(), None);
        assert!(replicas.follow("d", 3));
        replicas.hear(
            "c.e".into(),
            Some(ReplicaStatus { deployment: "e".into(), ..status("c", 1, VersionState::Ready) }),
        );
        assert_eq!(
            replicas.readiness("d", &target),
            Readiness::Loading,
            "a replica that has not seen the table yet"
        );
    }
}
