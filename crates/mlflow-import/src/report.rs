//! Counts of what was found, copied, skipped and failed.

use std::cell::{Cell, RefCell};

/// Kind of objects, in the order in which they are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Experiments.
    Experiments,
    /// Runs with their parameters, metrics, tags and inputs.
    Runs,
    /// Logged models of MLflow 3.
    LoggedModels,
    /// Files of runs and logged models.
    Artifacts,
    /// Registered models.
    Models,
    /// Versions of registered models.
    Versions,
    /// Aliases of registered models.
    Aliases,
}

impl Kind {
    /// All kinds, in the order in which they are copied.
    pub const ALL: [Self; 7] = [
        Self::Experiments,
        Self::Runs,
        Self::LoggedModels,
        Self::Artifacts,
        Self::Models,
        Self::Versions,
        Self::Aliases,
    ];

    /// Name of the kind in the plural, e.g. `logged models`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Experiments => "experiments",
            Self::Runs => "runs",
            Self::LoggedModels => "logged models",
            Self::Artifacts => "artifacts",
            Self::Models => "registered models",
            Self::Versions => "versions",
            Self::Aliases => "aliases",
        }
    }
}

/// Numbers of objects of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects at the source that the import considered so far.
    pub found: u64,
    /// Objects that were created or updated, or would be in a dry run.
    pub copied: u64,
    /// Objects that were complete already, or left out by the options.
    pub skipped: u64,
    /// Objects that could not be copied.
    pub failed: u64,
}

impl Counts {
    /// Objects that are done, whatever the outcome.
    pub const fn done(self) -> u64 {
        self.copied + self.skipped + self.failed
    }
}

/// An object that could not be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedObject {
    /// Its kind.
    pub kind: Kind,
    /// Its name or ID.
    pub object: String,
    /// The reason, on one line.
    pub reason: String,
}

/// Counts of an import up to now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Counts by kind, in the order of [`Kind::ALL`].
    pub counts: [(Kind, Counts); Kind::ALL.len()],
    /// Bytes of artifacts that were copied, or would be in a dry run.
    pub bytes_copied: u64,
}

/// Result of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Counts at the end.
    pub progress: Progress,
    /// Every object that could not be copied.
    pub failures: Vec<FailedObject>,
    /// Remarks for the user that are no failures, without duplicates.
    pub notes: Vec<String>,
    /// The reason if the import stopped early; running it again continues it.
    pub stopped: Option<String>,
}

impl Summary {
    /// Number of objects that were copied, of all kinds.
    pub fn copied(&self) -> u64 {
        self.progress.counts.iter().map(|(_, counts)| counts.copied).sum()
    }

    /// Whether everything selected is in the registry now.
    pub fn is_complete(&self) -> bool {
        self.stopped.is_none() && self.failures.is_empty()
    }
}

/// Counts of one import. Everything happens on one thread.
#[derive(Debug, Default)]
pub(crate) struct Report {
    counts: [Cell<Counts>; Kind::ALL.len()],
    bytes_copied: Cell<u64>,
    failures: RefCell<Vec<FailedObject>>,
    notes: RefCell<Vec<String>>,
}

impl Report {
    fn change(&self, kind: Kind, change: impl FnOnce(&mut Counts)) {
        let cell = &self.counts[kind as usize];
        let mut counts = cell.get();
        change(&mut counts);
        cell.set(counts);
    }

    pub(crate) fn found(&self, kind: Kind, count: usize) {
        self.change(kind, |counts| counts.found += count as u64);
    }

    pub(crate) fn copied(&self, kind: Kind) {
        self.change(kind, |counts| counts.copied += 1);
    }

    pub(crate) fn copied_bytes(&self, bytes: u64) {
        self.bytes_copied.set(self.bytes_copied.get() + bytes);
    }

    pub(crate) fn skipped(&self, kind: Kind) {
        self.change(kind, |counts| counts.skipped += 1);
    }

    pub(crate) fn failed(&self, kind: Kind, object: impl Into<String>, reason: impl std::fmt::Display) {
        self.change(kind, |counts| counts.failed += 1);
        // Messages of servers may have several lines.
        let reason = reason.to_string().split_whitespace().collect::<Vec<&str>>().join(" ");
        self.failures.borrow_mut().push(FailedObject { kind, object: object.into(), reason });
    }

    /// Something that a person should know and that is no failure; said once.
    pub(crate) fn note(&self, note: impl Into<String>) {
        let (mut notes, note) = (self.notes.borrow_mut(), note.into());
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        let counts = Kind::ALL.map(|kind| (kind, self.counts[kind as usize].get()));
        Progress { counts, bytes_copied: self.bytes_copied.get() }
    }

    pub(crate) fn summary(&self, stopped: Option<String>) -> Summary {
        Summary {
            progress: self.progress(),
            failures: self.failures.borrow().clone(),
            notes: self.notes.borrow().clone(),
            stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_found_is_counted_once_with_its_outcome() {
        let report = Report::default();
        report.found(Kind::Runs, 3);
        report.copied(Kind::Runs);
        report.skipped(Kind::Runs);
        report.copied_bytes(1_234_567);
        report.note("a note");
        report.note("a note");
        assert!(report.summary(None).is_complete());
        report.failed(Kind::Runs, "abc", "line 1\n  line 2");
        let summary = report.summary(None);
        assert!(!summary.is_complete());
        assert_eq!(
            summary.progress.counts[1],
            (Kind::Runs, Counts { found: 3, copied: 1, skipped: 1, failed: 1 })
        );
        assert_eq!((summary.progress.counts[1].1.done(), summary.progress.bytes_copied), (3, 1_234_567));
        assert_eq!(summary.failures[0].reason, "line 1 line 2");
        assert_eq!((summary.copied(), summary.notes.len()), (1, 1));
        assert!(!Report::default().summary(Some("unreachable".to_owned())).is_complete());
    }
}
