//! What was found, copied, skipped and failed: counted as it happens, shown on the way and at the end.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::output::{self, errln, outln};

/// Time between two lines of progress; a terminal's line is rewritten more often.
const PROGRESS_INTERVAL_MS: u64 = 5_000;
const TERMINAL_INTERVAL_MS: u64 = 500;
const CLEAR_LINE: &[u8] = b"\r\x1b[K";
/// Failures shown one by one; JSON has all of them.
const MAX_SHOWN_FAILURES: usize = 50;

/// What is copied, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Experiments,
    Runs,
    LoggedModels,
    Artifacts,
    Models,
    Versions,
    Aliases,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Experiments,
        Self::Runs,
        Self::LoggedModels,
        Self::Artifacts,
        Self::Models,
        Self::Versions,
        Self::Aliases,
    ];

    const fn name(self) -> &'static str {
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    found: u64,
    copied: u64,
    skipped: u64,
    failed: u64,
}

#[derive(Debug)]
struct FailureLine {
    kind: Kind,
    what: String,
    why: String,
}

/// Counts of one import. Everything happens on one thread.
#[derive(Debug, Default)]
pub(super) struct Report {
    counts: [Cell<Counts>; Kind::ALL.len()],
    bytes_copied: Cell<u64>,
    failures: RefCell<Vec<FailureLine>>,
    notes: RefCell<Vec<String>>,
    shown: RefCell<String>,
}

impl Report {
    fn change(&self, kind: Kind, change: impl FnOnce(&mut Counts)) {
        let cell = &self.counts[kind as usize];
        let mut counts = cell.get();
        change(&mut counts);
        cell.set(counts);
    }

    pub(super) fn found(&self, kind: Kind, count: usize) {
        self.change(kind, |counts| counts.found += count as u64);
    }

    pub(super) fn copied(&self, kind: Kind) {
        self.change(kind, |counts| counts.copied += 1);
    }

    pub(super) fn copied_bytes(&self, bytes: u64) {
        self.bytes_copied.set(self.bytes_copied.get() + bytes);
    }

    pub(super) fn skipped(&self, kind: Kind) {
        self.change(kind, |counts| counts.skipped += 1);
    }

    pub(super) fn failed(&self, kind: Kind, what: impl Into<String>, why: impl std::fmt::Display) {
        self.change(kind, |counts| counts.failed += 1);
        // One line each, whatever a server words in several.
        let why = why.to_string().split_whitespace().collect::<Vec<&str>>().join(" ");
        self.failures.borrow_mut().push(FailureLine { kind, what: what.into(), why });
    }

    /// Something that a person should know and that is no failure; said once.
    pub(super) fn note(&self, note: impl Into<String>) {
        let (mut notes, note) = (self.notes.borrow_mut(), note.into());
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.failures.borrow().is_empty()
    }

    /// Does the work, and says on standard error how far it is.
    pub(super) async fn with_progress<T>(&self, work: impl Future<Output = T>) -> T {
        let terminal = std::io::stderr().is_terminal();
        let interval_ms = if terminal { TERMINAL_INTERVAL_MS } else { PROGRESS_INTERVAL_MS };
        let mut ticks = tokio::time::interval(Duration::from_millis(interval_ms));
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => {
                    if terminal {
                        output::raw_error(CLEAR_LINE);
                    }
                    return outcome;
                }
                _ = ticks.tick() => self.show(terminal),
            }
        }
    }

    fn show(&self, terminal: bool) {
        let line = self.line();
        if line.is_empty() || *self.shown.borrow() == line {
            return;
        }
        if terminal {
            output::raw_error(&[CLEAR_LINE, line.as_bytes()].concat());
        } else {
            errln!("{line}");
        }
        self.shown.replace(line);
    }

    fn line(&self) -> String {
        let mut parts = Vec::new();
        for kind in Kind::ALL {
            let counts = self.counts[kind as usize].get();
            let done = counts.copied + counts.skipped + counts.failed;
            if counts.found > 0 {
                parts.push(format!("{} {done}/{}", kind.name(), counts.found));
            }
        }
        if self.bytes_copied.get() > 0 {
            parts.push(output::size(self.bytes_copied.get()));
        }
        parts.join(" · ")
    }

    /// The end of it, for a person.
    pub(super) fn print(&self, dry_run: bool, stopped: Option<&str>) {
        let copied = if dry_run { "TO COPY" } else { "COPIED" };
        let rows: Vec<Vec<String>> = Kind::ALL
            .iter()
            .map(|kind| {
                let counts = self.counts[*kind as usize].get();
                let numbers = [counts.found, counts.copied, counts.skipped, counts.failed];
                [kind.name().to_owned()].into_iter().chain(numbers.map(|number| number.to_string())).collect()
            })
            .collect();
        output::table(&["KIND", "FOUND", copied, "SKIPPED", "FAILED"], &rows);
        for note in self.notes.borrow().iter() {
            outln!("note: {note}");
        }
        let failures = self.failures.borrow();
        for failure in failures.iter().take(MAX_SHOWN_FAILURES) {
            outln!("failed: {} {}: {}", failure.kind.name(), failure.what, failure.why);
        }
        if failures.len() > MAX_SHOWN_FAILURES {
            let more = failures.len() - MAX_SHOWN_FAILURES;
            outln!("failed: … and {more} more; --json lists all of them");
        }
        let files = output::size(self.bytes_copied.get());
        let end = match (stopped, self.total_copied()) {
            (Some(why), _) => {
                format!("stopped early: {why}; run the same command again to continue from here")
            }
            (None, 0) if failures.is_empty() => "nothing to copy: the registry has it all".to_owned(),
            (None, _) if dry_run => format!("nothing was written; to copy: {files} of files"),
            (None, _) => format!("copied {files} of files"),
        };
        outln!("{end}");
    }

    fn total_copied(&self) -> u64 {
        self.counts.iter().map(|cell| cell.get().copied).sum()
    }

    /// The end of it, for a script.
    pub(super) fn json(&self, dry_run: bool, stopped: Option<&str>) -> Value {
        let counts: serde_json::Map<String, Value> = Kind::ALL
            .iter()
            .map(|kind| {
                let counts = self.counts[*kind as usize].get();
                let body = json!({
                    "found": counts.found, "copied": counts.copied, "skipped": counts.skipped,
                    "failed": counts.failed,
                });
                (kind.name().replace(' ', "_"), body)
            })
            .collect();
        let failures: Vec<Value> = self
            .failures
            .borrow()
            .iter()
            .map(|failure| json!({"kind": failure.kind.name(), "what": failure.what, "why": failure.why}))
            .collect();
        json!({
            "dry_run": dry_run, "counts": counts, "bytes_copied": self.bytes_copied.get(), "failures": failures,
            "notes": *self.notes.borrow(), "stopped": stopped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_what_is_done_of_what_was_found() {
        let report = Report::default();
        assert_eq!(report.line(), "");
        report.found(Kind::Runs, 3);
        report.copied(Kind::Runs);
        report.skipped(Kind::Runs);
        report.copied_bytes(1_234_567);
        assert_eq!(report.line(), "runs 2/3 · 1.2 MB");
        report.failed(Kind::Runs, "abc", "why");
        assert!(report.has_failures());
        assert_eq!(report.json(false, None)["counts"]["runs"]["failed"], 1);
        assert_eq!((output::size(999), output::size(2_000_000_000)), ("999 bytes".into(), "2.0 GB".into()));
    }
}
