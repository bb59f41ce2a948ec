//! Nothing that was acknowledged is lost.

use std::collections::BTreeMap;

use super::some::some;
use crate::chaos::facts::Facts;
use crate::chaos::journal::{Journal, Run};

/// Acknowledged runs and points that are not there.
pub(super) fn lost_runs(journal: &Journal, runs: &BTreeMap<String, Run>, place: &str) -> Vec<String> {
    let mut lost = Vec::new();
    for (id, written) in &journal.runs {
        let Some(run) = runs.get(id) else {
            lost.push(format!("lost: run {id} was acknowledged and is not in {place}"));
            continue;
        };
        let missing = written.points.iter().filter(|point| !run.points.contains(point)).count();
        if missing > 0 {
            let all = written.points.len();
            lost.push(format!("lost: {missing} of {all} points of run {id} are not in {place}"));
        }
        if written.finished && !run.finished {
            lost.push(format!("lost: run {id} was finished, and in {place} it is not"));
        }
    }
    some(lost)
}

pub(super) fn lost_versions(journal: &Journal, facts: &Facts) -> Vec<String> {
    let lost = journal.versions.iter().filter(|version| !facts.versions.contains(version));
    let mut found: Vec<String> =
        lost.map(|version| format!("lost: version {version} was acknowledged and does not exist")).collect();
    let last = journal.moves.last().map(|moved| moved.version);
    // A move that was sent and not acknowledged may have happened.
    if facts.alias < last {
        found.push(format!("lost: the alias was moved to {last:?} and points at {:?}", facts.alias));
    }
    some(found)
}

pub(super) fn lost_files(journal: &Journal, facts: &Facts) -> Vec<String> {
    let lost = facts.files.iter().filter(|(path, bytes)| journal.files.get(*path) != bytes.as_ref());
    let told = lost.map(|(path, bytes)| {
        let how = if bytes.is_some() { "has other bytes" } else { "cannot be read" };
        format!("lost: the file {path} was acknowledged and {how}")
    });
    some(told.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::journal::{Move, Point};

    #[test]
    fn a_run_or_point_that_was_acknowledged_and_is_missing_is_lost() {
        let point = Point { step: 1, at_ms: 2, value: 0.5 };
        let run = |points: Vec<Point>, finished| Run { points, finished };
        let mut journal = Journal::default();
        journal.runs.insert("a".to_owned(), run(vec![point], true));
        let there = |run: Run| BTreeMap::from([("a".to_owned(), run)]);
        assert!(lost_runs(&journal, &there(run(vec![point], true)), "x").is_empty());
        assert_eq!(lost_runs(&journal, &there(run(vec![], true)), "x").len(), 1);
        assert_eq!(lost_runs(&journal, &there(run(vec![point], false)), "x").len(), 1);
        assert_eq!(lost_runs(&journal, &BTreeMap::new(), "x").len(), 1);
    }

    #[test]
    fn an_alias_that_points_at_an_earlier_version_lost_a_move() {
        let journal = Journal { moves: vec![Move { version: 3, at_ms: 0 }], ..Journal::default() };
        let with = |alias| lost_versions(&journal, &Facts { alias, ..Facts::default() }).len();
        assert_eq!([with(None), with(Some(2)), with(Some(3)), with(Some(4))], [1, 1, 0, 0]);
    }

    #[test]
    fn a_file_that_cannot_be_read_or_has_other_bytes_is_lost() {
        let mut journal = Journal::default();
        journal.files.insert("a".to_owned(), vec![1]);
        let found = |bytes| {
            let files = BTreeMap::from([("a".to_owned(), bytes)]);
            lost_files(&journal, &Facts { files, ..Facts::default() }).len()
        };
        assert_eq!([found(Some(vec![1])), found(Some(vec![2])), found(None)], [0, 1, 1]);
    }
}
