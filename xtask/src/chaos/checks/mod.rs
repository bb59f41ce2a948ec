//! What must hold. Pure functions: each compares what was acknowledged with what is, and returns violations
//! in words.

mod consistent;
mod drift;
#[cfg(test)]
mod fixtures;
mod lost;
mod once;
mod some;
mod turns;

use std::collections::BTreeMap;

pub(super) use turns::{out_of_turn, wrong_constants};

use super::facts::{Event, Facts, Job};
use super::history::History;
use super::journal::{Journal, Run};
use super::load::Attempt;
use consistent::{copies, tables};
use drift::{drift, windows};
use lost::{lost_files, lost_runs, lost_versions};
use once::{doubled_events, rollouts, told_once};
use some::some;

/// `/proc/uptime` has hundredths of a second.
const ROUNDING_S: f64 = 0.02;

/// Everything that must hold once the platform is left alone.
pub(super) fn settled(journal: &Journal, facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(lost_runs(journal, &facts.runs, "Postgres"));
    let read: BTreeMap<String, Run> = journal
        .runs
        .iter()
        .filter(|(id, _)| facts.runs_read_back.contains_key(*id))
        .map(|(id, run)| (id.clone(), run.clone()))
        .collect();
    found.extend(lost_runs(&Journal { runs: read, ..Journal::default() }, &facts.runs_read_back, "the API"));
    found.extend(lost_versions(journal, facts));
    found.extend(lost_files(journal, facts));
    found.extend(doubled_events(&facts.events));
    found.extend(told_once(journal, facts));
    found.extend(rollouts(journal, &facts.rollouts));
    found.extend(tables(facts));
    found.extend(copies(&facts.streams));
    found.extend(
        facts
            .outbox
            .iter()
            .filter(|(_, waiting)| **waiting > 0)
            .map(|(schema, waiting)| format!("{waiting} events of {schema} are not published")),
    );
    found.extend(facts.jobs.iter().filter_map(unfinished));
    found.extend(undelivered(journal, &facts.events));
    found.extend(windows(journal, facts));
    found.extend(drift(journal, facts));
    found
}

/// Moves of the alias that the webhook did not receive.
fn undelivered(journal: &Journal, events: &[Event]) -> Vec<String> {
    let moves = events.iter().filter(|event| event.kind.starts_with("slipway.registry.alias."));
    let missing = moves.filter(|event| !journal.deliveries.contains_key(&event.id));
    some(missing.map(|event| format!("event {} {} was not delivered", event.kind, event.id)).collect())
}

fn unfinished(job: &Job) -> Option<String> {
    let ended = job.attempts.iter().any(|attempt| attempt.ended);
    match job.status.as_str() {
        "succeeded" if ended => None,
        "succeeded" => Some(format!("job {} succeeded, and its command never ended", job.number)),
        status => Some(format!(
            "job {} is {status}; its command {}",
            job.number,
            if ended { "ended" } else { "did not end" }
        )),
    }
}

/// Attempts of a job that ran at the same time.
pub(super) fn overlaps(number: usize, attempts: &[Attempt]) -> Vec<String> {
    let mut found = Vec::new();
    for (place, one) in attempts.iter().enumerate() {
        if one.starts > 1 {
            found.push(format!(
                "job {number}: the command of attempt {} was started {} times",
                one.number, one.starts
            ));
        }
        for other in attempts.get(place + 1..).into_iter().flatten() {
            if one.from_s < other.to_s - ROUNDING_S && other.from_s < one.to_s - ROUNDING_S {
                found.push(format!(
                    "job {number}: attempts {} ({:.2}–{:.2} s) and {} ({:.2}–{:.2} s) ran at the same time",
                    one.number, one.from_s, one.to_s, other.number, other.from_s, other.to_s
                ));
            }
        }
    }
    found
}

/// Failures that no fault excuses. Younger ones than `settled_ms` are left out: a pause of the machine is
/// noticed late.
pub(super) fn unexcused(journal: &Journal, history: &History, settled_ms: u64) -> Vec<String> {
    let failures = journal.failures.iter().filter(|failure| failure.to_ms < settled_ms);
    let unexcused = failures.filter(|failure| !history.excuses(failure));
    let told = |failure: &super::history::Failure| {
        format!(
            "{} was not harmed and failed, {}–{}: {}",
            failure.replica, failure.from_ms, failure.to_ms, failure.what
        )
    };
    let mut found: Vec<String> = unexcused.map(told).collect();
    found.extend(journal.refused.iter().map(|what| format!("refused: {what}")));
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::fixtures::event;
    use super::*;

    #[test]
    fn attempts_that_run_at_the_same_time_are_found() {
        let attempt = |number, from_s, to_s| Attempt { number, starts: 1, from_s, to_s, ended: false };
        assert!(overlaps(1, &[attempt(1, 1.0, 2.0), attempt(2, 2.0, 3.0)]).is_empty());
        assert_eq!(overlaps(1, &[attempt(1, 1.0, 2.1), attempt(2, 2.0, 3.0)]).len(), 1);
        assert_eq!(overlaps(1, &[Attempt { starts: 2, ..attempt(1, 1.0, 2.0) }]).len(), 1);
    }

    #[test]
    fn a_move_that_was_not_delivered_is_found() {
        let moved = [event("1", "slipway.registry.alias.set", 0, json!({}))];
        let mut journal = Journal::default();
        assert_eq!(undelivered(&journal, &moved).len(), 1);
        journal.deliveries.insert("1".to_owned(), 2);
        assert!(undelivered(&journal, &moved).is_empty());
    }
}
