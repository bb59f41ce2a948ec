//! What serving replicas say they hold, watched in NATS KV.
//!
//! A replica says up to which place in the bucket of traffic tables it routes by all of them, and which
//! deployments are exceptions. Together with the places of the tables ([`Copies`]), that tells of every
//! deployment which table each replica follows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::{Entry, Operation};
use slipway_api::traffic::{
    DEPLOYMENT_STATUS_INTERVAL_S, REPLICA_LEASE_S, REPLICA_STATUS_INTERVAL_S, REPLICA_STATUS_MAX_AGE_S,
    REPLICAS_BUCKET, ReplicaStatus, TablesState, Target, UnsettledDeployment, VersionState,
};
use slipway_domain::rollout::Readiness;
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::load::Loads;
pub(crate) use self::shown::{Shown, Standing};
use crate::copies::{Copies, Placed};

mod by_deployment;
mod drills;
pub(crate) mod load;
mod shown;

/// What was heard is forgotten after this.
const KNOWN_FOR: Duration = Duration::from_secs(REPLICA_STATUS_MAX_AGE_S);
/// Pause before a lost watch is restarted.
const REWATCH_DELAY_MS: u64 = 250;

/// The last report of each replica. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replicas {
    /// By replica.
    known: Arc<Mutex<BTreeMap<String, Heard>>>,
    /// Where the tables are.
    copies: Copies,
    /// What they have done.
    pub(crate) loads: Loads,
    /// Sent with each report that says something new.
    reports: watch::Sender<()>,
}

#[derive(Debug, Clone)]
struct Heard {
    at: Instant,
    at_unix_ms: u64,
    status: Arc<ReplicaStatus>,
    /// Whether it reports on each deployment for itself, as earlier releases do: those are all `unsettled`.
    by_deployment: bool,
}

impl Heard {
    /// A replica that is silent for this long is no longer waited for.
    const fn lease(&self) -> Duration {
        if self.by_deployment {
            Duration::from_secs(3 * DEPLOYMENT_STATUS_INTERVAL_S)
        } else {
            Duration::from_secs(REPLICA_LEASE_S)
        }
    }

    /// A replica that is silent for longer than this is named as such: it missed a report.
    const fn silent_after(&self) -> Duration {
        if self.by_deployment {
            Duration::from_millis(1_500 * DEPLOYMENT_STATUS_INTERVAL_S)
        } else {
            Duration::from_millis(2_000 * REPLICA_STATUS_INTERVAL_S)
        }
    }

    fn is_live(&self) -> bool {
        self.silent_for() < self.lease()
    }

    /// Since when it is silent, where it missed a report: `HH:MM:SS`, UTC.
    fn silent_since(&self) -> Option<String> {
        (self.silent_for() > self.silent_after()).then(|| time_of_day(self.at_unix_ms))
    }

    fn silent_for(&self) -> Duration {
        Instant::now().saturating_duration_since(self.at)
    }

    /// What the replica has of a deployment.
    fn about(&self, deployment: &str, placed: Option<&Placed>) -> About<'_> {
        let status = &self.status;
        let Some(placed) = placed else { return About::NotTaken };
        let taken = status.position.is_some_and(|position| {
            position.bucket_created_unix_ms == placed.bucket_created_unix_ms
                && position.revision >= placed.entry
        });
        let exception = status.unsettled.iter().find(|unsettled| unsettled.deployment == deployment);
        match exception {
            Some(exception) => About::Unsettled(exception),
            None if !taken => About::NotTaken,
            None if placed.entry < status.silent_below_revision => About::NotTold,
            None => About::Settled,
        }
    }
}

/// See [`Heard::about`].
enum About<'status> {
    /// It has not read the deployment's table.
    NotTaken,
    /// It has, and has too many exceptions to say whether this is one of them.
    NotTold,
    /// It is an exception.
    Unsettled(&'status UnsettledDeployment),
    /// It routes by the table, and all versions are ready.
    Settled,
}

/// A replica that a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Awaited {
    pub(crate) replica_id: String,
    /// Time since its last report, milliseconds.
    pub(crate) heard_ms_ago: u64,
    /// What it has not done yet. A replica that stays silent is dropped 5 s after its last report.
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

/// How far one live replica is.
struct ReplicaProgress {
    replica_id: String,
    silent: Duration,
    lease: Duration,
    progress: Progress,
}

impl Replicas {
    /// Replicas that follow these tables.
    pub(crate) fn of(copies: Copies) -> Self {
        Self { copies, ..Self::default() }
    }

    /// How far the live replicas are with a version of a deployment. Those that are not ready are named.
    pub(crate) fn readiness(&self, deployment: &str, target: &Target) -> Readiness {
        let live = self.progress(deployment, target);
        if live.is_empty() {
            return Readiness::Unknown;
        }
        let mut waits = Vec::new();
        for ReplicaProgress { replica_id: replica, lease, progress, .. } in live {
            match progress {
                Progress::Ready => {}
                Progress::Failed(reason) => {
                    return Readiness::Failed { reason: format!("{reason} (replica `{replica}`)") };
                }
                Progress::Waits { what, silent_since: None } => {
                    waits.push(format!("replica `{replica}` {what}"));
                }
                Progress::Waits { what, silent_since: Some(since) } => {
                    waits.push(format!("replica `{replica}` {what}, but {}", left_out(&since, lease)));
                }
            }
        }
        if waits.is_empty() { Readiness::Ready } else { Readiness::Waiting { reason: waits.join("; ") } }
    }

    /// The live replicas that are not ready with a version.
    pub(crate) fn not_ready(&self, deployment: &str, target: &Target) -> Vec<Awaited> {
        let waits = self.progress(deployment, target).into_iter().filter_map(|of_one| {
            let ReplicaProgress { replica_id, silent, progress, .. } = of_one;
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

    fn progress(&self, deployment: &str, target: &Target) -> Vec<ReplicaProgress> {
        let placed = self.copies.placed(deployment);
        let of_one = |heard: Heard| {
            let silent_since = heard.silent_since();
            let waits = |what: String| Progress::Waits { what, silent_since: silent_since.clone() };
            let not_taken = || waits(not_taken(&heard.status.tables));
            let is_named = placed.as_ref().is_some_and(|placed| placed.targets.contains(target));
            let progress = match heard.about(deployment, placed.as_ref()) {
                About::Settled if is_named => Progress::Ready,
                About::Settled | About::NotTaken => not_taken(),
                About::NotTold => {
                    waits("has too many deployments that are not settled to report all".to_owned())
                }
                About::Unsettled(UnsettledDeployment { refused: Some(reason), .. }) => {
                    Progress::Failed(format!("the traffic table cannot be used: {reason}"))
                }
                About::Unsettled(unsettled) => {
                    let mut versions = unsettled.versions.iter();
                    let found = versions
                        .find(|found| found.version == target.version && found.digest == target.digest);
                    match found.map(|version| (version.state, version.reason.clone())) {
                        Some((VersionState::Ready, _)) => Progress::Ready,
                        Some((VersionState::Failed, reason)) => {
                            Progress::Failed(reason.unwrap_or_else(|| "no reason was given".to_owned()))
                        }
                        Some((VersionState::Loading, Some(reason))) => {
                            waits(format!("is loading it: {reason}"))
                        }
                        Some((VersionState::Loading, None)) => waits("is loading it".to_owned()),
                        None => not_taken(),
                    }
                }
            };
            let (silent, lease) = (heard.silent_for(), heard.lease());
            ReplicaProgress { replica_id: heard.status.replica_id.clone(), silent, lease, progress }
        };
        let serves =
            |heard: &Heard| heard.status.version.as_ref().is_none_or(|version| *version == target.version);
        self.live(deployment).into_iter().filter(serves).map(of_one).collect()
    }

    /// Whether there are live replicas and all of them route by this revision of a deployment or a later one.
    pub(crate) fn follow(&self, deployment: &str, revision: u64) -> bool {
        let all = self.followed_of(&self.live(deployment), deployment, revision);
        all.not_followed.is_empty() && !all.followed.is_empty()
    }

    /// Which replicas route by this revision or a later one, of all that reported in the last 30 s.
    pub(crate) fn followed(&self, deployment: &str, revision: u64) -> Followed {
        self.followed_of(&self.known(deployment), deployment, revision)
    }

    /// The live replicas that do not route by this revision yet.
    pub(crate) fn not_following(&self, deployment: &str, revision: u64) -> Vec<Awaited> {
        let lagging = self.followed_of(&self.live(deployment), deployment, revision).not_followed;
        let awaited = lagging.into_iter().map(|lagging| Awaited {
            waits_for: format!("has not taken revision {revision} of the traffic table"),
            replica_id: lagging.replica_id,
            heard_ms_ago: lagging.heard_ms_ago,
        });
        awaited.collect()
    }

    fn followed_of(&self, known: &[Heard], deployment: &str, revision: u64) -> Followed {
        let mut all = Followed::default();
        let placed = self.copies.placed(deployment);
        for heard in known {
            let table_revision = self.revision_of(heard, deployment, placed.as_ref());
            let replica_id = heard.status.replica_id.clone();
            if table_revision.is_some_and(|followed| followed >= revision) {
                all.followed.push(replica_id);
            } else {
                let heard_ms_ago = milliseconds(heard.silent_for());
                all.not_followed.push(Lagging { replica_id, table_revision, heard_ms_ago });
            }
        }
        all
    }

    /// Revision that a replica follows; `None` where it has not reported on the deployment.
    fn revision_of(&self, heard: &Heard, deployment: &str, placed: Option<&Placed>) -> Option<u64> {
        match heard.about(deployment, placed) {
            About::Settled => placed.map(|placed| placed.table),
            About::Unsettled(unsettled) => Some(unsettled.table_revision).filter(|revision| *revision > 0),
            About::NotTaken => self.earlier(heard, deployment, placed),
            About::NotTold => None,
        }
    }

    /// Revision that a replica follows which has not read the newest table.
    fn earlier(&self, heard: &Heard, deployment: &str, placed: Option<&Placed>) -> Option<u64> {
        let position = heard.status.position?;
        let bucket = placed?.bucket_created_unix_ms;
        if position.bucket_created_unix_ms != bucket {
            return None;
        }
        self.copies.table_at(deployment, position.revision)
    }

    /// Live replicas of the pool that are to answer for a deployment: how many there are, and how many of
    /// them route by its newest table and are ready with this version.
    pub(crate) fn pool(&self, deployment: &str, target: &Target) -> (usize, usize) {
        let mut replicas = self.live(deployment);
        replicas.retain(|heard| heard.status.is_pool());
        let not_ready = self.not_ready(deployment, target);
        let waits =
            |heard: &Heard| not_ready.iter().any(|awaited| awaited.replica_id == heard.status.replica_id);
        let ready = replicas.iter().filter(|heard| !waits(heard)).count();
        (replicas.len(), ready)
    }

    /// Waits until every live replica routes by this revision or a later one; for `most` at most.
    pub(crate) async fn wait_followed(&self, deployment: &str, revision: u64, most: Duration) {
        let mut reports = self.reports.subscribe();
        let followed =
            async { while !self.follow(deployment, revision) && reports.changed().await.is_ok() {} };
        // Whether it was in time is seen by whoever looks afterwards.
        let _ = tokio::time::timeout(most, followed).await;
    }

    /// What was heard of the replicas of a deployment that are waited for.
    fn live(&self, deployment: &str) -> Vec<Heard> {
        let mut known = self.known(deployment);
        known.retain(Heard::is_live);
        known
    }

    /// What was heard of the replicas of a deployment and is not forgotten yet.
    fn known(&self, deployment: &str) -> Vec<Heard> {
        let placed = self.copies.placed(deployment);
        let (is_dedicated, pool) = placed.map_or((false, None), |placed| (placed.is_dedicated, placed.pool));
        let serves = |heard: &&Heard| heard.status.serves(deployment, is_dedicated, pool);
        self.lock().values().filter(serves).cloned().collect()
    }

    /// What was heard, without what is forgotten.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Heard>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, heard| heard.silent_for() < KNOWN_FOR);
        known
    }

    /// Takes a status that is `age` old; `None`: the replica left. Returns whether it says something new.
    fn hear(&self, replica: &str, status: Option<ReplicaStatus>, age: Duration) -> bool {
        let mut known = self.lock();
        let is_news = match status {
            Some(status) => {
                let now = Instant::now();
                self.loads.hear(&status, now.checked_sub(age).unwrap_or(now));
                let heard = Heard {
                    at: now.checked_sub(age).unwrap_or(now),
                    at_unix_ms: now_unix_ms().saturating_sub(milliseconds(age)),
                    status: Arc::new(status),
                    by_deployment: false,
                };
                let status = Arc::clone(&heard.status);
                let before = known.insert(replica.to_owned(), heard);
                before.is_none_or(|before| !before.is_live() || !says_the_same(&before.status, &status))
            }
            None => {
                self.loads.forget(replica);
                known.remove(replica).is_some()
            }
        };
        drop(known);
        if is_news {
            self.reports.send_replace(());
        }
        is_news
    }
}

/// Whether two statuses of a replica differ in their time only.
fn says_the_same(one: &ReplicaStatus, other: &ReplicaStatus) -> bool {
    (one.position, &one.unsettled, one.silent_below_revision, one.tables)
        == (other.position, &other.unsettled, other.silent_below_revision, other.tables)
}

/// What a replica waits for that has not read a table.
fn not_taken(tables: &TablesState) -> String {
    let what = "has not taken the traffic table that names it";
    match tables {
        TablesState::Current => what.to_owned(),
        TablesState::Waiting => format!("{what}: it is reading the current tables"),
        TablesState::LastKnown { .. } => format!("{what}: it answers by the last known tables"),
    }
}

/// What happens to a replica that is silent.
fn left_out(since: &str, lease: Duration) -> String {
    format!("has not reported since {since} UTC; it is left out {} s after that", lease.as_secs())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `HH:MM:SS` of a Unix time, UTC.
fn time_of_day(unix_ms: u64) -> String {
    let second = unix_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// Listens until `shutdown`; what is new wakes the control loop.
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
    let (all, mut followed) = bus.follow_bucket(REPLICAS_BUCKET).await?;
    for entry in all {
        // What was written before may be as old as the bucket keeps it. A clock that differs from the
        // server's counts for no longer than until the next status.
        let created_ms = u64::try_from(entry.created.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        let age = Duration::from_millis(now_unix_ms().saturating_sub(created_ms));
        take(replicas, &entry, age);
    }
    wake.notify_one();
    while let Some(entry) = followed.next().await? {
        if take(replicas, &entry, Duration::ZERO) {
            wake.notify_one();
        }
    }
    Ok(())
}

fn take(replicas: &Replicas, entry: &Entry, age: Duration) -> bool {
    if let Some((replica, deployment)) = entry.key.split_once('.') {
        return replicas.hear_of(replica, deployment, by_deployment::read(entry), age);
    }
    if entry.operation != Operation::Put {
        return replicas.hear(&entry.key, None, age);
    }
    match serde_json::from_slice::<ReplicaStatus>(&entry.value) {
        Ok(status) => replicas.hear(&entry.key, Some(status), age),
        Err(error) => {
            tracing::warn!(%error, key = %entry.key, "replica status does not parse");
            false
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
mod tests;
