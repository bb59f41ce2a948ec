//! See the module above.

use slipway_api::traffic::{DeploymentStatus, TablesPosition, TrafficTable, VersionStatus};

use super::*;

const BUCKET: u64 = 1;

fn target() -> Target {
    Target { version: "2".into(), digest: "x".into() }
}

/// Where revision 3 of the table of `d`, which names version 2, is entry 30 of the bucket, and revision 2
/// was entry 20.
fn replicas() -> Replicas {
    let copies = Copies::default();
    copies.read_for_tests(BUCKET);
    for revision in [2, 3] {
        let table = TrafficTable { revision, warm: vec![target()], ..TrafficTable::empty("d", "m") };
        copies.wrote("d", 10 * revision, Some(&table));
    }
    Replicas::of(copies)
}

/// A replica that has read the bucket up to an entry.
fn at(replica: &str, revision: u64) -> ReplicaStatus {
    ReplicaStatus {
        replica_id: replica.into(),
        position: Some(TablesPosition { bucket_created_unix_ms: BUCKET, revision }),
        tables: TablesState::Current,
        ..ReplicaStatus::default()
    }
}

/// One that loads version 2, and routes by revision 2.
fn loading(replica: &str, reason: Option<&str>) -> ReplicaStatus {
    let version = VersionStatus {
        version: "2".into(),
        digest: "x".into(),
        state: VersionState::Loading,
        reason: reason.map(str::to_owned),
    };
    let unsettled = UnsettledDeployment {
        deployment: "d".into(),
        table_revision: 2,
        versions: vec![version],
        refused: None,
    };
    ReplicaStatus { unsettled: vec![unsettled], ..at(replica, 30) }
}

fn hear(replicas: &Replicas, status: ReplicaStatus) -> bool {
    replicas.hear(&status.replica_id.clone(), Some(status), Duration::ZERO)
}

fn waiting(reason: &str) -> Readiness {
    Readiness::Waiting { reason: reason.to_owned() }
}

#[test]
fn all_replicas_have_to_be_ready_and_follow() {
    let replicas = replicas();
    assert_eq!(replicas.readiness("d", &target()), Readiness::Unknown);
    assert!(!replicas.follow("d", 1));
    hear(&replicas, at("a", 30));
    assert_eq!(replicas.readiness("d", &target()), Readiness::Ready);
    hear(&replicas, loading("b", None));
    assert_eq!(replicas.readiness("d", &target()), waiting("replica `b` is loading it"));
    assert!(!replicas.follow("d", 3) && replicas.follow("d", 2));
    hear(&replicas, loading("b", Some("there is no model 'points'")));
    let named = waiting("replica `b` is loading it: there is no model 'points'");
    assert_eq!(replicas.readiness("d", &target()), named);
    let awaited = replicas.not_ready("d", &target());
    assert_eq!((awaited.len(), awaited[0].replica_id.as_str()), (1, "b"));
    replicas.hear("b", None, Duration::ZERO);
    assert!(replicas.follow("d", 3));
    // One that has not read the table, or that of another bucket, knows nothing of the version.
    let behind = waiting("replica `c` has not taken the traffic table that names it");
    hear(&replicas, at("c", 29));
    assert_eq!(replicas.readiness("d", &target()), behind);
    assert_eq!(replicas.followed("d", 3).not_followed[0].table_revision, Some(2));
    let mut other = at("c", 99);
    other.position = Some(TablesPosition { bucket_created_unix_ms: BUCKET + 1, revision: 99 });
    hear(&replicas, other);
    assert_eq!(replicas.readiness("d", &target()), behind);
    assert_eq!(replicas.followed("d", 3).not_followed[0].table_revision, None);
}

#[test]
fn a_replica_that_cannot_list_all_exceptions_is_not_taken_at_its_silence() {
    let replicas = replicas();
    hear(&replicas, ReplicaStatus { silent_below_revision: 31, ..at("a", 40) });
    assert!(!replicas.follow("d", 3));
    let told = replicas.readiness("d", &target());
    assert!(matches!(&told, Readiness::Waiting { reason } if reason.contains("too many")), "{told:?}");
    hear(&replicas, ReplicaStatus { silent_below_revision: 30, ..at("a", 40) });
    assert!(replicas.follow("d", 3));
}

#[test]
fn a_table_that_a_replica_cannot_use_fails_with_the_reason() {
    let replicas = replicas();
    let mut status = loading("a", None);
    status.unsettled[0].refused = Some("it does not parse".into());
    hear(&replicas, status);
    let told = replicas.readiness("d", &target());
    let reason = "the traffic table cannot be used: it does not parse (replica `a`)";
    assert_eq!(told, Readiness::Failed { reason: reason.into() });
    assert!(!replicas.follow("d", 3));
}

#[test]
fn a_status_that_says_nothing_new_is_no_news() {
    let replicas = replicas();
    assert!(hear(&replicas, at("a", 30)));
    assert!(!hear(&replicas, ReplicaStatus { at_unix_ms: 5, ..at("a", 30) }));
    assert!(hear(&replicas, at("a", 31)));
    age(&replicas, "a", Duration::from_secs(REPLICA_LEASE_S));
    assert!(hear(&replicas, at("a", 31)), "it is waited for again");
}

/// Makes the last report of a replica older than it is.
fn age(replicas: &Replicas, replica: &str, by: Duration) {
    let mut known = replicas.known.lock().unwrap();
    let heard = known.get_mut(replica).unwrap();
    heard.at = heard.at.checked_sub(by).unwrap();
}

#[test]
fn a_silent_replica_is_named_then_dropped_and_still_listed_as_not_following() {
    let replicas = replicas();
    hear(&replicas, at("a", 30));
    hear(&replicas, loading("b", None));
    age(&replicas, "b", Duration::from_secs(3));
    let Readiness::Waiting { reason } = replicas.readiness("d", &target()) else { panic!("waits for b") };
    assert!(reason.contains("replica `b`") && reason.contains("has not reported since"), "{reason}");
    age(&replicas, "b", Duration::from_secs(2));
    assert_eq!(replicas.readiness("d", &target()), Readiness::Ready);
    assert!(replicas.follow("d", 3));
    // It may still answer by its old table, wherever it hangs.
    let Followed { followed, not_followed } = replicas.followed("d", 3);
    assert_eq!(followed, ["a"]);
    assert_eq!((not_followed[0].replica_id.as_str(), not_followed[0].table_revision), ("b", Some(2)));
    assert!(not_followed[0].heard_ms_ago >= 5_000);
    age(&replicas, "b", Duration::from_secs(26));
    assert_eq!(replicas.followed("d", 3).not_followed, []);
}

#[tokio::test]
async fn a_wait_ends_with_the_last_replica_that_follows() {
    let replicas = replicas();
    hear(&replicas, at("a", 30));
    hear(&replicas, at("b", 20));
    let waiting = tokio::spawn({
        let replicas = replicas.clone();
        async move { replicas.wait_followed("d", 3, Duration::from_secs(60)).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    hear(&replicas, at("b", 30));
    waiting.await.unwrap();
    // A replica that never follows is waited for no longer than was asked.
    replicas.wait_followed("d", 4, Duration::from_millis(10)).await;
    assert_eq!(replicas.followed("d", 4).not_followed.len(), 2);
}

fn old_format(deployment: &str, table_revision: u64, state: VersionState) -> DeploymentStatus {
    let Target { version, digest } = target();
    let versions = vec![VersionStatus { version, digest, state, reason: None }];
    DeploymentStatus {
        replica_id: "old".into(),
        deployment: deployment.into(),
        table_revision,
        versions,
        at_unix_ms: 0,
    }
}

#[test]
fn a_replica_of_an_earlier_release_counts_with_its_own_interval() {
    let replicas = replicas();
    let hear = |status: DeploymentStatus| {
        replicas.hear_of("old", &status.deployment.clone(), Some(status), Duration::ZERO)
    };
    assert!(hear(old_format("other", 7, VersionState::Ready)));
    let behind = waiting("replica `old` has not taken the traffic table that names it");
    assert_eq!(replicas.readiness("d", &target()), behind);
    assert!(hear(old_format("d", 2, VersionState::Loading)));
    assert_eq!(replicas.readiness("d", &target()), waiting("replica `old` is loading it"));
    assert!(replicas.follow("d", 2) && !replicas.follow("d", 3));
    assert!(hear(old_format("d", 3, VersionState::Ready)));
    assert!(!hear(old_format("d", 3, VersionState::Ready)), "it is no news");
    assert_eq!(replicas.readiness("d", &target()), Readiness::Ready);
    assert!(replicas.follow("d", 3));
    // It reports every 5 s, and is waited for while it missed up to two reports.
    age(&replicas, "old", Duration::from_secs(7));
    assert_eq!(replicas.shown("d", 3)[0].standing, Standing::Current);
    age(&replicas, "old", Duration::from_secs(7));
    assert_eq!(replicas.shown("d", 3)[0].standing, Standing::Silent);
    assert!(replicas.follow("d", 3));
    age(&replicas, "old", Duration::from_secs(1));
    assert_eq!(replicas.readiness("d", &target()), Readiness::Unknown);
    // Without its last deployment it is gone.
    assert!(replicas.hear_of("old", "d", None, Duration::ZERO));
    assert_eq!(replicas.followed("d", 3).not_followed[0].replica_id, "old");
    assert!(replicas.hear_of("old", "other", None, Duration::ZERO));
    assert_eq!(replicas.followed("d", 3), Followed::default());
}

#[test]
fn a_replica_that_writes_both_formats_is_taken_at_the_newer_one() {
    let replicas = replicas();
    assert!(replicas.hear_of("old", "d", Some(old_format("d", 2, VersionState::Ready)), Duration::ZERO));
    assert!(hear(&replicas, at("old", 30)));
    assert!(replicas.follow("d", 3));
    assert!(!replicas.hear_of("old", "d", Some(old_format("d", 2, VersionState::Ready)), Duration::ZERO));
    assert!(!replicas.hear_of("old", "d", None, Duration::ZERO));
    assert!(replicas.follow("d", 3));
}

#[test]
fn a_deployment_shows_what_is_wrong_with_a_replica() {
    let replicas = replicas();
    let shown = |status: ReplicaStatus| {
        hear(&replicas, status);
        let shown = replicas.shown("d", 3).remove(0);
        (shown.standing, shown.table_revision, shown.problem.unwrap_or_default())
    };
    assert_eq!(shown(at("a", 30)), (Standing::Current, Some(3), String::new()));
    let (standing, revision, problem) = shown(at("a", 20));
    assert_eq!((standing, revision), (Standing::Behind, Some(2)));
    assert!(problem.contains("revision 3"), "{problem}");
    let old = TablesState::LastKnown { since_unix_ms: 0 };
    let (standing, revision, problem) = shown(ReplicaStatus { tables: old, ..at("a", 20) });
    assert_eq!((standing, revision), (Standing::LastKnown, Some(2)));
    assert!(problem.contains("never since its start"), "{problem}");
    let waits = ReplicaStatus { tables: TablesState::Waiting, position: None, ..at("a", 0) };
    assert_eq!(shown(waits).0, Standing::Waiting);
    hear(&replicas, at("a", 30));
    age(&replicas, "a", Duration::from_secs(3));
    let hung = replicas.shown("d", 3).remove(0);
    assert_eq!(hung.standing, Standing::Silent);
    let problem = hung.problem.unwrap();
    assert!(problem.contains("has not reported since") && problem.contains("5 s after"), "{problem}");
}
