//! Nothing happens twice: events, rows of the audit trail, steps of rollouts, and rollouts.

use std::collections::{BTreeMap, BTreeSet};

use super::some::some;
use crate::chaos::facts::{Event, Facts, Rollout};
use crate::chaos::journal::Journal;

pub(super) fn doubled_events(events: &[Event]) -> Vec<String> {
    let mut ids = BTreeSet::new();
    let doubled = events.iter().filter(|event| !ids.insert(&event.id));
    some(
        doubled
            .map(|event| format!("doubled: event {} {} is in the stream twice", event.kind, event.id))
            .collect(),
    )
}

/// Each acknowledged change has one event and one row of the audit trail.
pub(super) fn told_once(journal: &Journal, facts: &Facts) -> Vec<String> {
    let mut created = BTreeMap::<&str, usize>::new();
    let (mut moved, mut phases) = (BTreeMap::<&str, usize>::new(), BTreeMap::<String, usize>::new());
    for event in &facts.events {
        let text = |field: &str| event.data[field].as_str().unwrap_or_default();
        match event.kind.as_str() {
            "slipway.registry.run.created" => *created.entry(text("id")).or_default() += 1,
            "slipway.registry.alias.set" if event.data["unchanged"] != true => {
                *moved.entry(text("version")).or_default() += 1;
            }
            kind if kind.starts_with("slipway.rollout-controller.rollout.") => {
                let what =
                    format!("{} {} {}", text("rollout_id"), text("what"), event.data["weight_percent"]);
                *phases.entry(what).or_default() += 1;
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for run in journal.runs.keys() {
        let events = created.get(run.as_str()).copied().unwrap_or_default();
        let audited = facts.audited_runs.get(run).copied().unwrap_or_default();
        if events != 1 || audited != 1 {
            found.push(format!(
                "run {run} has {events} events of its creation and {audited} rows in the audit trail"
            ));
        }
    }
    let mut found = some(found);
    for version in journal.moves.iter().map(|moved| moved.version.to_string()) {
        let events = moved.get(version.as_str()).copied().unwrap_or_default();
        if events != 1 {
            found.push(format!("the move of the alias to {version} has {events} events"));
        }
    }
    let twice = phases.iter().filter(|(what, count)| **count > 1 && is_once(what));
    found.extend(
        twice.map(|(what, count)| format!("doubled: the rollout event `{what}` occurred {count} times")),
    );
    found.extend(
        facts.audited_twice.iter().map(|id| format!("doubled: event {id} is in the audit trail twice")),
    );
    found
}

/// Whether a rollout event can occur only once: a rollout may pause and resume any number of times.
fn is_once(what: &str) -> bool {
    !what.contains(" paused ") && !what.contains(" resumed ")
}

/// One rollout for each move of the alias, unless another move superseded it before; that of the last move is
/// promoted.
pub(super) fn rollouts(journal: &Journal, rollouts: &[Rollout]) -> Vec<String> {
    let mut found = Vec::new();
    let to = |version: u32| rollouts.iter().filter(move |rollout| rollout.to_version == version.to_string());
    for moved in &journal.moves {
        let count = to(moved.version).count();
        if count > 1 {
            found.push(format!(
                "doubled: the move of the alias to {} started {count} rollouts",
                moved.version
            ));
        }
    }
    if let Some(last) = journal.moves.last() {
        let phase = to(last.version).next_back().map_or("not started", |rollout| rollout.phase.as_str());
        if phase != "promoted" {
            found.push(format!("the alias points at {}, and its rollout is {phase}", last.version));
        }
    }
    let bad = rollouts
        .iter()
        .filter(|rollout| matches!(rollout.phase.as_str(), "rolled_back" | "failed" | "paused"));
    found.extend(bad.map(|rollout| format!("the rollout of {} is {}", rollout.to_version, rollout.phase)));
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{event, rollout};
    use super::*;
    use crate::chaos::journal::{Move, Run};

    #[test]
    fn events_and_rollouts_occur_once() {
        let one = event("1", "slipway.registry.run.created", 0, json!({"id": "a"}));
        assert_eq!(doubled_events(&[one.clone(), one.clone()]).len(), 1);
        let mut journal = Journal::default();
        journal.runs.insert("a".to_owned(), Run::default());
        let audited_runs = BTreeMap::from([("a".to_owned(), 1)]);
        let facts = |events| Facts { events, audited_runs: audited_runs.clone(), ..Facts::default() };
        assert!(told_once(&journal, &facts(vec![one.clone()])).is_empty());
        assert_eq!(told_once(&journal, &facts(vec![])).len(), 1);
        let again = Event { id: "2".to_owned(), ..one.clone() };
        assert_eq!(told_once(&journal, &facts(vec![one, again])).len(), 1);
        let twice = vec![rollout("promoted", "2", 100, 1), rollout("promoted", "2", 100, 2)];
        assert_eq!(told_once(&Journal::default(), &facts(twice)).len(), 1);

        journal.moves = vec![Move { version: 2, at_ms: 0 }];
        let to = |phase: &str| Rollout { id: "r".into(), to_version: "2".into(), phase: phase.into() };
        assert!(rollouts(&journal, &[to("promoted")]).is_empty());
        assert_eq!(rollouts(&journal, &[]).len(), 1);
        assert_eq!(rollouts(&journal, &[to("aborted"), to("promoted")]).len(), 1);
    }
}
