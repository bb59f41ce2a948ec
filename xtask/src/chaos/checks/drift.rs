//! Windows of the monitor, and what it does about drift.

use std::collections::BTreeMap;

use crate::chaos::facts::{Event, Facts};
use crate::chaos::journal::Journal;

/// So many predictions with drifting inputs fill several windows in a row.
const DRIFTED_PREDICTIONS: usize = 1_000;

/// Windows of the monitor are numbered without gaps, each closed once, and count no prediction twice.
pub(super) fn windows(journal: &Journal, facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let expected = 1..;
    for (window, number) in facts.windows.iter().zip(expected) {
        if window.sequence != number {
            found.push(format!("window {} of the monitor follows {}", window.sequence, number - 1));
            break;
        }
    }
    let mut events = BTreeMap::<i64, usize>::new();
    let closed = facts.events.iter().filter(|event| event.kind == "slipway.drift-monitor.window.closed");
    for number in closed.filter_map(|event| event.data["window"].as_i64()) {
        *events.entry(number).or_default() += 1;
    }
    let twice = events.iter().filter(|(_, count)| **count > 1).map(|(number, count)| (*number, *count));
    // Windows are closed all the time, and their events are read after them.
    let missing = facts.windows.iter().filter(|window| !events.contains_key(&window.sequence));
    let told = twice.chain(missing.map(|window| (window.sequence, 0)));
    found.extend(told.map(|(number, count)| format!("window {number} of the monitor has {count} events")));
    let rows: i64 = facts.windows.iter().map(|window| window.rows).sum();
    let most = journal.predictions.len() as u64 + journal.failed_predictions;
    if rows.cast_unsigned() > most {
        found.push(format!("doubled: windows have {rows} rows, of at most {most} predictions"));
    }
    found
}

/// Detections and their ends alternate; each detection has submitted one job, which succeeded. Jobs begin
/// with `job`: they get more time.
pub(super) fn drift(journal: &Journal, facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let detected = verdicts(&facts.events, "detected");
    let mut all: Vec<(i64, &str)> = detected.iter().map(|event| (last_window(event), "detected")).collect();
    all.extend(verdicts(&facts.events, "cleared").iter().map(|event| (last_window(event), "cleared")));
    all.sort_unstable();
    for (place, (window, what)) in all.iter().enumerate() {
        let expected = if place % 2 == 0 { "detected" } else { "cleared" };
        if *what != expected {
            found.push(format!("drift was {what} in window {window}, and had to be {expected} first"));
            break;
        }
    }
    let shifted = journal.predictions.iter().filter(|one| one.shift > 0.0).count();
    if detected.is_empty() && shifted >= DRIFTED_PREDICTIONS {
        found.push(format!("no drift was detected in {shifted} predictions"));
    }
    let mut jobs = BTreeMap::<&str, Vec<&str>>::new();
    for job in &facts.drift_jobs {
        jobs.entry(&job.event_id).or_default().push(&job.status);
    }
    for event in detected {
        let own = jobs.get(event.id.as_str()).map_or(&[][..], Vec::as_slice);
        if own.len() > 1 {
            found.push(format!("doubled: drift event {} submitted {} jobs", event.id, own.len()));
        } else if own != ["succeeded"] {
            found.push(format!("job of drift event {}: {own:?}, expected one that succeeded", event.id));
        }
    }
    found
}

/// Drift events of one kind, apart from those about further columns.
fn verdicts<'events>(events: &'events [Event], what: &str) -> Vec<&'events Event> {
    let kind = format!("slipway.drift-monitor.drift.{what}");
    events.iter().filter(|event| event.kind == kind && event.data["further"] != true).collect()
}

fn last_window(event: &Event) -> i64 {
    let windows = event.data["windows"].as_array().into_iter().flatten();
    windows.filter_map(serde_json::Value::as_i64).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{answer, event};
    use super::*;
    use crate::chaos::facts::{DriftJob, Window};
    use crate::chaos::journal::Prediction;

    fn verdict(what: &str, window: i64) -> Event {
        let kind = format!("slipway.drift-monitor.drift.{what}");
        event(
            &format!("{what}-{window}"),
            &kind,
            0,
            json!({"windows": [window - 1, window], "further": false}),
        )
    }

    fn job(event: &str, status: &str) -> DriftJob {
        DriftJob { event_id: event.to_owned(), status: status.to_owned() }
    }

    #[test]
    fn each_detection_submits_one_job_and_ends_before_the_next_one() {
        let found = |events: &[Event], drift_jobs: &[DriftJob]| {
            let (events, drift_jobs) = (events.to_vec(), drift_jobs.to_vec());
            drift(&Journal::default(), &Facts { events, drift_jobs, ..Facts::default() }).len()
        };
        let done = job("detected-2", "succeeded");
        assert_eq!(found(&[verdict("detected", 2), verdict("cleared", 4)], std::slice::from_ref(&done)), 0);
        assert_eq!(found(&[verdict("detected", 2)], &[]), 1);
        assert_eq!(found(&[verdict("detected", 2)], &[job("detected-2", "queued")]), 1);
        assert_eq!(found(&[verdict("detected", 2)], &[done.clone(), done.clone()]), 1);
        assert_eq!(found(&[verdict("cleared", 2)], &[]), 1);
        let twice = [verdict("detected", 2), verdict("detected", 3)];
        assert_eq!(found(&twice, &[done, job("detected-3", "succeeded")]), 1);
    }

    #[test]
    fn drift_of_many_predictions_is_detected() {
        let shifted = Prediction { shift: 1.0, ..answer(1, 0) };
        let journal = |count| Journal { predictions: vec![shifted; count], ..Journal::default() };
        assert!(drift(&journal(10), &Facts::default()).is_empty());
        assert_eq!(drift(&journal(DRIFTED_PREDICTIONS), &Facts::default()).len(), 1);
    }

    #[test]
    fn windows_are_closed_once_and_count_each_prediction_once() {
        let closed = event("w", "slipway.drift-monitor.window.closed", 0, json!({"window": 1}));
        let facts = |sequence, rows| Facts {
            windows: vec![Window { sequence, rows }],
            events: vec![closed.clone()],
            ..Facts::default()
        };
        let journal =
            Journal { predictions: vec![answer(1, 0)], failed_predictions: 1, ..Journal::default() };
        assert!(windows(&journal, &facts(1, 2)).is_empty());
        assert_eq!(windows(&journal, &facts(1, 3)).len(), 1);
        assert_eq!(windows(&journal, &facts(2, 2)).len(), 2);
        assert_eq!(windows(&journal, &Facts { events: vec![], ..facts(1, 2) }).len(), 1);
        let twice = vec![closed.clone(), closed.clone()];
        assert_eq!(windows(&journal, &Facts { events: twice, ..facts(1, 2) }).len(), 1);
    }
}
