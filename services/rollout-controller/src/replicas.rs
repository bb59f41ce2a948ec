//! What serving replicas say they hold, watched in NATS KV.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::Operation;
use futures::StreamExt as _;
use slipway_api::traffic::{
    REPLICA_STATUS_INTERVAL_S, REPLICA_STATUS_MAX_AGE_S, REPLICAS_BUCKET, ReplicaStatus, Target, VersionState,
};
use slipway_domain::rollout::Readiness;
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// A replica that was silent for three intervals is no longer waited for.
const LIVE_FOR: Duration = Duration::from_secs(3 * REPLICA_STATUS_INTERVAL_S);
/// A replica that is silent for longer than this is named as such: it missed a report.
const SILENT_AFTER: Duration = Duration::from_millis(1_500 * REPLICA_STATUS_INTERVAL_S);
/// What was heard is forgotten after this.
const KNOWN_FOR: Duration = Duration::from_secs(REPLICA_STATUS_MAX_AGE_S);
/// Pause before a lost watch is restarted.
const REWATCH_DELAY_MS: u64 = 250;
/// How often it is checked whether the connection was lost meanwhile.
const CONNECTION_CHECK_MS: u64 = 250;

/// The last report of each replica about each deployment. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replicas {
    known: Arc<Mutex<BTreeMap<String, Heard>>>,
    /// Sent with each report.
    reports: watch::Sender<()>,
}

#[derive(Debug, Clone)]
struct Heard {
    at: Instant,
    at_unix_ms: u64,
    status: ReplicaStatus,
}

impl Heard {
    fn silent_for(&self) -> Duration {
        Instant::now().saturating_duration_since(self.at)
    }
}

/// A replica that a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Awaited {
    pub(crate) replica_id: String,
    /// Time since its last report, milliseconds.
    pub(crate) heard_ms_ago: u64,
    /// What it has not done yet. A replica that stays silent is dropped 15 s after its last report.
    pub(crate) waits_for: String,
}

/// A replica that does not route by a table yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lagging {
    pub(crate) replica_id: String,
    /// Revision that it routes by; `None` where it has not reported on the deployment.
    pub(crate) table_revision: Option<u64>,
    /// Time since its last report, milliseconds.
    pub(crate) heard_ms_ago: u64,
}

impl Lagging {
    /// In words.
    pub(crate) fn describe(&self) -> String {
        let revision = self.table_revision.map_or_else(
            || "without a table of the deployment".to_owned(),
            |revision| format!("at revision {revision}"),
        );
        let seconds = std::time::Duration::from_millis(self.heard_ms_ago).as_secs_f64();
        format!("`{}` {revision}, heard {seconds:.1} s ago", self.replica_id)
    }
}

/// Which replicas route by a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Followed {
    pub(crate) followed: Vec<String>,
    pub(crate) not_followed: Vec<Lagging>,
}

/// How far one replica is with one version.
enum Progress {
    Ready,
    Failed(String),
    /// What it does, and since when it is silent where it is.
    Waits {
        what: String,
        silent_since: Option<String>,
    },
}

impl Replicas {
    /// How far the live replicas are with a version of a deployment. Those that are not ready are named.
    pub(crate) fn readiness(&self, deployment: &str, target: &Target) -> Readiness {
        let live = self.progress(deployment, target);
        if live.is_empty() {
            return Readiness::Unknown;
        }
        let mut waits = Vec::new();
        for (replica, _, progress) in live {
            match progress {
                Progress::Ready => {}
                Progress::Failed(reason) => {
                    return Readiness::Failed { reason: format!("{reason} (replica `{replica}`)") };
                }
                Progress::Waits { what, silent_since: None } => waits.push(format!("replica `{replica}` {what}")),
                Progress::Waits { what, silent_since: Some(since) } => waits.push(format!(
                    "replica `{replica}` {what}, but has not reported since {since} UTC; it is left out {} s after that",
                    LIVE_FOR.as_secs()
                )),
            }
        }
        if waits.is_empty() { Readiness::Ready } else { Readiness::Waiting { reason: waits.join("; ") } }
    }

    /// The live replicas that are not ready with a version.
    pub(crate) fn not_ready(&self, deployment: &str, target: &Target) -> Vec<Awaited> {
        let waits =
            self.progress(deployment, target).into_iter().filter_map(|(replica_id, silent, progress)| {
                let waits_for = match progress {
                    Progress::Ready => return None,
                    Progress::Failed(reason) => {
                        format!("version {} cannot be loaded: {reason}", target.version)
                    }
                    Progress::Waits { what, .. } => format!("{what} (version {})", target.version),
                };
                Some(Awaited { replica_id, heard_ms_ago: milliseconds(silent), waits_for })
            });
        waits.collect()
    }

    fn progress(&self, deployment: &str, target: &Target) -> Vec<(String, Duration, Progress)> {
        let live = self.known(LIVE_FOR);
        let ids: BTreeSet<&str> = live.iter().map(|heard| heard.status.replica_id.as_str()).collect();
        let of_one = |id: &str| {
            let of_replica = || live.iter().filter(|heard| heard.status.replica_id == id);
            let about = of_replica().find(|heard| heard.status.deployment == deployment);
            let last = about.or_else(|| of_replica().max_by_key(|heard| heard.at));
            let silent = last.map(Heard::silent_for).unwrap_or_default();
            let silent_since =
                last.filter(|_| silent > SILENT_AFTER).map(|heard| time_of_day(heard.at_unix_ms));
            let version = about.and_then(|heard| {
                let mut versions = heard.status.versions.iter();
                versions.find(|found| found.version == target.version && found.digest == target.digest)
            });
            let waits = |what: String| Progress::Waits { what, silent_since: silent_since.clone() };
            let progress = match version.map(|version| (version.state, version.reason.clone())) {
                Some((VersionState::Ready, _)) => Progress::Ready,
                Some((VersionState::Failed, reason)) => {
                    Progress::Failed(reason.unwrap_or_else(|| "no reason was given".to_owned()))
                }
                Some((VersionState::Loading, Some(reason))) => waits(format!("is loading it: {reason}")),
                Some((VersionState::Loading, None)) => waits("is loading it".to_owned()),
                None => waits("has not taken the traffic table that names it".to_owned()),
            };
            (id.to_owned(), silent, progress)
        };
        ids.into_iter().map(of_one).collect()
    }

    /// Whether there are live replicas of a deployment and all of them route by this revision or a later one.
    pub(crate) fn follow(&self, deployment: &str, revision: u64) -> bool {
        let live = self.known(LIVE_FOR);
        let mut of_deployment = live.iter().filter(|heard| heard.status.deployment == deployment).peekable();
        of_deployment.peek().is_some() && of_deployment.all(|heard| heard.status.table_revision >= revision)
    }

    /// Which replicas route by this revision or a later one, of all that reported in the last 30 s.
    pub(crate) fn followed(&self, deployment: &str, revision: u64) -> Followed {
        self.followed_of(&self.known(KNOWN_FOR), deployment, revision)
    }

    /// The live replicas that do not route by this revision yet.
    pub(crate) fn not_following(&self, deployment: &str, revision: u64) -> Vec<Awaited> {
        let lagging = self.followed_of(&self.known(LIVE_FOR), deployment, revision).not_followed;
        let awaited = lagging.into_iter().map(|lagging| Awaited {
            waits_for: format!("has not taken revision {revision} of the traffic table"),
            replica_id: lagging.replica_id,
            heard_ms_ago: lagging.heard_ms_ago,
        });
        awaited.collect()
    }

    fn followed_of(&self, known: &[Heard], deployment: &str, revision: u64) -> Followed {
        let mut all = Followed::default();
        let ids: BTreeSet<&str> = known.iter().map(|heard| heard.status.replica_id.as_str()).collect();
        for id in ids {
            let of_replica = || known.iter().filter(|heard| heard.status.replica_id == id);
            let about = of_replica().find(|heard| heard.status.deployment == deployment);
            let table_revision = about.map(|heard| heard.status.table_revision);
            let silent = of_replica().map(Heard::silent_for).min().unwrap_or_default();
            if table_revision.is_some_and(|followed| followed >= revision) {
                all.followed.push(id.to_owned());
            } else {
                let heard_ms_ago = milliseconds(silent);
                all.not_followed.push(Lagging { replica_id: id.to_owned(), table_revision, heard_ms_ago });
            }
        }
        all
    }

    /// Waits until every live replica routes by this revision or a later one; for `most` at most.
    pub(crate) async fn wait_followed(&self, deployment: &str, revision: u64, most: Duration) {
        let mut reports = self.reports.subscribe();
        let followed = async {
            loop {
                let all = self.followed_of(&self.known(LIVE_FOR), deployment, revision);
                if all.not_followed.is_empty() && !all.followed.is_empty() || reports.changed().await.is_err()
                {
                    return;
                }
            }
        };
        // Whether it was in time is seen by whoever looks afterwards.
        let _ = tokio::time::timeout(most, followed).await;
    }

    /// What was heard within this time.
    fn known(&self, within: Duration) -> Vec<Heard> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|heard| heard.silent_for() < within).cloned().collect()
    }

    fn hear(&self, key: String, status: Option<ReplicaStatus>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, heard| heard.silent_for() < KNOWN_FOR);
        match status {
            Some(status) => {
                known.insert(key, Heard { at: Instant::now(), at_unix_ms: now_unix_ms(), status });
            }
            None => {
                known.remove(&key);
            }
        }
        drop(known);
        self.reports.send_replace(());
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `HH:MM:SS` of a Unix time, UTC.
fn time_of_day(unix_ms: u64) -> String {
    let second = unix_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// Listens until `shutdown`; each word wakes the control loop.
pub(crate) async fn listen_for_reports(
    bus: EventBus,
    replicas: Replicas,
    wake: Arc<Notify>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = listen(&bus, &replicas, &wake) => {
                if let Err(error) = ended {
                    tracing::debug!(error = format!("{error:#}"), "watch of the replicas restarts");
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
    anyhow::ensure!(bus.is_connected(), "NATS is unreachable");
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
                    |error| tracing::warn!(%error, key = %entry.key, "replica status does not parse"),
                )
                .ok(),
            Operation::Delete | Operation::Purge => None,
        };
        replicas.hear(entry.key, status);
        wake.notify_one();
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
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
        let waiting = |reason: &str| Readiness::Waiting { reason: reason.to_owned() };
        assert_eq!(replicas.readiness("d", &target), waiting("replica `b` is loading it"));
        assert!(!replicas.follow("d", 3));
        let mut waits = status("b", 2, VersionState::Loading);
        waits.versions[0].reason = Some("there is no model 'points'".into());
        replicas.hear("b.d".into(), Some(waits));
        let named = waiting("replica `b` is loading it: there is no model 'points'");
        assert_eq!(replicas.readiness("d", &target), named);
        let awaited = replicas.not_ready("d", &target);
        assert_eq!((awaited.len(), awaited[0].replica_id.as_str()), (1, "b"));
        replicas.hear("b.d".into(), None);
        assert!(replicas.follow("d", 3));
        replicas.hear(
            "c.e".into(),
            Some(ReplicaStatus { deployment: "e".into(), ..status("c", 1, VersionState::Ready) }),
        );
        assert_eq!(
            replicas.readiness("d", &target),
            waiting("replica `c` has not taken the traffic table that names it")
        );
    }

    /// Makes the last report of a replica older than it is.
    fn age(replicas: &Replicas, key: &str, by: Duration) {
        let mut known = replicas.known.lock().unwrap();
        let heard = known.get_mut(key).unwrap();
        heard.at = heard.at.checked_sub(by).unwrap();
    }

    #[test]
    fn a_silent_replica_is_named_then_dropped_and_still_listed_as_not_following() {
        let target = Target { version: "2".into(), digest: "x".into() };
        let replicas = Replicas::default();
        replicas.hear("a.d".into(), Some(status("a", 3, VersionState::Ready)));
        replicas.hear("b.d".into(), Some(status("b", 2, VersionState::Loading)));
        age(&replicas, "b.d", Duration::from_secs(10));
        let Readiness::Waiting { reason } = replicas.readiness("d", &target) else { panic!("waits for b") };
        assert!(reason.contains("replica `b`") && reason.contains("has not reported since"), "{reason}");
        age(&replicas, "b.d", Duration::from_secs(6));
        assert_eq!(replicas.readiness("d", &target), Readiness::Ready);
        assert!(replicas.follow("d", 3));
        // It may still answer by its old table, wherever it hangs.
        let Followed { followed, not_followed } = replicas.followed("d", 3);
        assert_eq!(followed, ["a"]);
        assert_eq!((not_followed[0].replica_id.as_str(), not_followed[0].table_revision), ("b", Some(2)));
        assert!(not_followed[0].heard_ms_ago >= 16_000);
        age(&replicas, "b.d", Duration::from_secs(15));
        assert_eq!(replicas.followed("d", 3).not_followed, []);
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_last_replica_that_follows() {
        let replicas = Replicas::default();
        replicas.hear("a.d".into(), Some(status("a", 3, VersionState::Ready)));
        replicas.hear("b.d".into(), Some(status("b", 2, VersionState::Ready)));
        let waiting = tokio::spawn({
            let replicas = replicas.clone();
            async move { replicas.wait_followed("d", 3, Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        replicas.hear("b.d".into(), Some(status("b", 3, VersionState::Ready)));
        waiting.await.unwrap();
        // A replica that never follows is waited for no longer than was asked.
        replicas.wait_followed("d", 4, Duration::from_millis(10)).await;
        assert_eq!(replicas.followed("d", 4).not_followed.len(), 2);
    }
}
