//! Laws of drills.

use super::*;
use crate::rollout::Verdict;
use crate::traffic::{DrillTarget, Fault, Target};

fn new() -> NewDrill<'static> {
    let version = Target { version: "3".into(), digest: "sha256:3".into() };
    NewDrill { id: "drill".into(), deployment: "churn", version, replica: Some("a".into()) }
}

fn drill(fault: FaultKind) -> Drill {
    let latency_ms = (fault == FaultKind::Latency).then_some(400);
    let request = DrillRequest { fault: Some(fault), latency_ms, ..DrillRequest::default() };
    Drill::begin(request, new(), 10_000).unwrap()
}

/// What a replica counted: that many answers of 2 ms and failures of this outcome, and as many requests of
/// users.
fn counts(answered: u64, failed: u64, outcome: &str, latency_us: u64) -> DrillCounts {
    let latencies = |latency_us, count| {
        let mut buckets = vec![0; BUCKETS];
        buckets[bucket_of(latency_us)] = count;
        Latencies::of(buckets)
    };
    let missing = Missing { outcome: outcome.into(), count: failed, message: "the model failed".into() };
    let failed_by = if failed > 0 { vec![missing] } else { Vec::new() };
    let all = answered + failed;
    DrillCounts {
        since_unix_ms: 1,
        rehearsed: DrillSide {
            answered,
            failed: failed_by,
            latencies: latencies(latency_us, answered),
            ..DrillSide::default()
        },
        users: DrillSide { answered: all, latencies: latencies(2_000, all), ..DrillSide::default() },
        ..DrillCounts::default()
    }
}

fn seen(now_unix_ms: u64, reports: &[(&str, DrillCounts)]) -> DrillSeen {
    let reports = reports.iter().map(|(replica, counts)| ((*replica).to_owned(), counts.clone())).collect();
    DrillSeen { now_unix_ms, reports, ..DrillSeen::default() }
}

#[test]
fn errors_are_noticed_once_they_are_proven_and_the_time_is_told() {
    let before = step(&drill(FaultKind::Errors), &seen(11_000, &[("a", counts(2, 2, "failure", 2_000))]));
    assert_eq!(before.noticed, None, "four requests prove nothing");
    let half = counts(100, 100, "failure", 2_000);
    let noticed = step(&before, &seen(24_000, &[("a", half.clone()), ("b", half.clone())]));
    assert_eq!(noticed.noticed.as_ref().unwrap().after_ms, 14_000);
    let summary = noticed.summary();
    assert!(
        summary.starts_with("the analysis fails this version after 14 s: error_rate: 50.0 %"),
        "{summary}"
    );
    // The first notice stays, and the counts are those of all replicas.
    let later = step(&noticed, &seen(30_000, &[("a", half)]));
    assert_eq!((&later.noticed, later.counts().rehearsed.answered), (&noticed.noticed, 200));
    assert_eq!(later.ended, None);
}

#[test]
fn latency_is_noticed_against_the_latency_of_users() {
    let slow = step(&drill(FaultKind::Latency), &seen(12_000, &[("a", counts(200, 0, "", 402_000))]));
    let reason = &slow.noticed.as_ref().unwrap().reason;
    assert!(reason.contains("latency: p95 is"), "{reason}");
    let same = step(&drill(FaultKind::Latency), &seen(12_000, &[("a", counts(200, 0, "", 2_000))]));
    assert_eq!((same.noticed, same.verdict.unwrap().verdict), (None, Verdict::Pass));
}

#[test]
fn overload_is_counted_and_no_analysis_sees_it() {
    let gone = step(&drill(FaultKind::StorageGone), &seen(80_000, &[("a", counts(0, 300, "overloaded", 0))]));
    assert_eq!(gone.noticed, None);
    assert_eq!(gone.verdict.as_ref().unwrap().verdict, Verdict::Inconclusive);
    assert_eq!(gone.counts().rehearsed.failures(), 300);
    assert!(
        gone.summary().starts_with("the analysis did not fail this version in 60 s"),
        "{}",
        gone.summary()
    );
}

#[test]
fn it_ends_at_its_time_or_when_it_has_to() {
    let running = drill(FaultKind::Errors);
    assert_eq!(step(&running, &seen(72_999, &[])).ended, None, "the last reports are waited for");
    let over = step(&running, &seen(73_000, &[])).ended.unwrap();
    assert_eq!((over.how, over.at_unix_ms), (DrillEnd::Completed, 70_000));
    let ends = Some((DrillEnd::Interrupted, "a rollout began".to_owned()));
    let ended = step(&running, &DrillSeen { ends, ..seen(20_000, &[]) });
    assert!(ended.summary().ends_with("it ended early: a rollout began"), "{}", ended.summary());
    // What comes afterwards changes nothing.
    assert_eq!(step(&ended, &seen(30_000, &[("a", counts(0, 500, "failure", 0))])), ended);
}

#[test]
fn a_restarted_replica_adds_to_what_it_counted_before() {
    let first = step(&drill(FaultKind::Errors), &seen(11_000, &[("a", counts(40, 0, "", 2_000))]));
    let restarted = DrillCounts { since_unix_ms: 2, ..counts(5, 0, "", 2_000) };
    let second = step(&first, &seen(12_000, &[("a", restarted)]));
    assert_eq!(second.counts().rehearsed.answered, 45);
}

#[test]
fn recorded_requests_are_replayed_by_one_replica_and_end_with_the_last() {
    let records = Some(RecordedRequests::default());
    let request = DrillRequest { records, ..DrillRequest::default() };
    let invalid = Drill::begin(request.clone(), NewDrill { replica: None, ..new() }, 0).unwrap_err();
    assert_eq!(invalid.field, "records");
    let replay = Drill::begin(request, new(), 0).unwrap();
    let in_table = replay.in_table();
    assert_eq!((in_table.fault, in_table.replay.unwrap().replica_id.as_str()), (None, "a"));
    let done = Some(Replayed { found: 30, done: true, ..Replayed::default() });
    let counts = DrillCounts { replayed: done, compared_rows: 30, ..counts(30, 0, "", 2_000) };
    let ended = step(&replay, &seen(4_000, &[("a", counts)]));
    assert_eq!(ended.ended.unwrap().how, DrillEnd::Completed);
}

#[test]
fn the_table_has_the_fault_and_its_end() {
    let table = drill(FaultKind::Latency).in_table();
    assert_eq!(table.fault, Some(Fault::Latency { added_ms: 400 }));
    assert_eq!((table.target, table.percent, table.ends_at_unix_ms), (DrillTarget::Copies, 100, 70_000));
}
