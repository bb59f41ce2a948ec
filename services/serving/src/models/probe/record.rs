//! What is known of a version from children and from loads of this program, and what follows from it. Pure.

use serde::{Deserialize, Serialize};
use slipway_inference::EmptyDimensions;

use super::super::failure::LoadFailure;

/// Loads that ended with the process, or children that did not end, before the version is given up.
const MAX_STRIKES: u32 = 3;

/// What is kept of a version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// Whether a child loaded it.
    passed: bool,
    /// Dimensions that it may be given empty: a child survived that.
    empty: Vec<EmptyDimensions>,
    /// How it crashed a child.
    crashed: Option<String>,
    /// Loads by this program that ended with the process, since the last one that did not.
    pub(super) interrupted: u32,
    /// Children in a row that were ended because they took too much or too long.
    exhausted: u32,
}

/// What is done with a version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is loaded, and may be given inputs in which these dimensions are empty.
    Load(Vec<EmptyDimensions>),
    /// It is loaded in a child first.
    Probe,
    /// It is not loaded, for this reason.
    Refuse(String),
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Observed {
    /// The model was loaded, and survived inputs in which these dimensions were empty.
    Passed(Vec<EmptyDimensions>),
    /// The model was loaded; running it on the inputs without elements at this place ended the child.
    EndedByEmpty(usize),
    /// ONNX Runtime refuses it.
    Refused(String),
    /// A signal of this name ended the child.
    Crashed(String),
    /// The system ended the child, as it does where memory is short.
    Killed,
    /// It exceeded this limit in seconds.
    Hung(u64),
    /// It ended without an answer.
    Broken(String),
}

impl Record {
    pub(super) fn next(&self) -> Next {
        if let Some(signal) = &self.crashed {
            return Next::Refuse(crash(signal));
        }
        if self.interrupted >= MAX_STRIKES {
            return Next::Refuse(format!(
                "serving ended {} times while it loaded it; register another version, or remove its record \
                 from the directory 'probes' of the cache directory to try again",
                self.interrupted
            ));
        }
        if self.exhausted >= MAX_STRIKES {
            return Next::Refuse(format!(
                "loading it took too much memory or time in {} child processes; register another version, or \
                 remove its record from the directory 'probes' of the cache directory to try again",
                self.exhausted
            ));
        }
        if self.passed && self.interrupted == 0 { Next::Load(self.empty.clone()) } else { Next::Probe }
    }

    /// What is known after a child has ended, and whether the version may be loaded.
    pub(super) fn after(&self, observed: &Observed) -> (Self, Result<(), LoadFailure>) {
        let mut record = self.clone();
        let outcome = match observed {
            Observed::Passed(empty) => {
                (record.passed, record.exhausted) = (true, 0);
                record.empty.clone_from(empty);
                Ok(())
            }
            // Those that end a child are left out in the next one, so that none is left in the end.
            Observed::EndedByEmpty(_) => Err(LoadFailure::passing(
                "the child process that loads it first ended on inputs without elements",
            )),
            // The library answered, and does so in no time: it is asked again at the next start.
            Observed::Refused(reason) if is_short_of_memory(reason) => {
                record.exhausted += 1;
                Err(LoadFailure::withheld(reason.clone()))
            }
            Observed::Refused(reason) => Err(LoadFailure::lasting(reason.clone())),
            Observed::Crashed(signal) => {
                record.crashed = Some(signal.clone());
                Err(LoadFailure::lasting(crash(signal)))
            }
            Observed::Killed => {
                record.exhausted += 1;
                Err(LoadFailure::withheld(
                    "the system killed (SIGKILL) the child process that loads it first, as it does when \
                     memory runs out",
                ))
            }
            Observed::Hung(limit_s) => {
                record.exhausted += 1;
                Err(LoadFailure::withheld(format!(
                    "it did not load within {limit_s} s in a child process (--load-probe-timeout-s)"
                )))
            }
            Observed::Broken(how) => {
                Err(LoadFailure::withheld(format!("the child process that loads it first failed: {how}")))
            }
        };
        // Three are enough, however often it is tried.
        let outcome = match (record.next(), outcome) {
            (Next::Refuse(reason), Err(failure)) if record.crashed.is_none() => {
                Err(LoadFailure::lasting(format!("{}; {reason}", failure.reason)))
            }
            (_, outcome) => outcome,
        };
        (record, outcome)
    }

    /// What is known after this process has loaded it.
    pub(super) fn survived(&self) -> Self {
        Self { interrupted: 0, ..self.clone() }
    }
}

fn crash(signal: &str) -> String {
    format!("loading it crashed a child process with {signal}, so it is not loaded")
}

/// Memory may be there later.
pub(super) fn is_short_of_memory(reason: &str) -> bool {
    ["std::bad_alloc", "Failed to allocate memory"].iter().any(|sign| reason.contains(sign))
}

impl Observed {
    /// As a label of metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Passed(_) => "passed",
            Self::EndedByEmpty(_) => "ended-by-empty-inputs",
            Self::Refused(_) => "refused",
            Self::Crashed(_) => "crashed",
            Self::Killed => "killed",
            Self::Hung(_) => "timed-out",
            Self::Broken(_) => "broken",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::failure::Retry;
    use super::*;

    fn retry(outcome: Result<(), LoadFailure>) -> Option<Retry> {
        outcome.err().map(|failure| failure.retry)
    }

    #[test]
    fn a_child_decides_once() {
        let new = Record::default();
        assert_eq!(new.next(), Next::Probe);
        let (passed, outcome) = new.after(&Observed::Passed(Vec::new()));
        assert_eq!((passed.next(), outcome), (Next::Load(Vec::new()), Ok(())));
        let (crashed, outcome) = new.after(&Observed::Crashed("SIGSEGV".into()));
        let failure = outcome.unwrap_err();
        assert_eq!(failure.retry, Retry::Never);
        assert!(failure.reason.contains("crashed a child process with SIGSEGV"));
        assert_eq!(crashed.next(), Next::Refuse(failure.reason));
        let (refused, outcome) = new.after(&Observed::Refused("why".into()));
        assert_eq!((refused.next(), retry(outcome)), (Next::Probe, Some(Retry::Never)));
    }

    #[test]
    fn what_is_short_of_memory_or_time_is_tried_three_times() {
        for observed in [Observed::Killed, Observed::Hung(120), Observed::Refused("std::bad_alloc".into())] {
            let (mut record, mut retries) = (Record::default(), Vec::new());
            for _ in 0..3 {
                let (next, outcome) = record.after(&observed);
                retries.push(retry(outcome));
                record = next;
            }
            assert_eq!(retries, [Some(Retry::Later), Some(Retry::Later), Some(Retry::Never)], "{observed:?}");
            assert!(matches!(record.next(), Next::Refuse(_)));
            let (passed, _) =
                Record { exhausted: 2, ..Record::default() }.after(&Observed::Passed(Vec::new()));
            assert_eq!(passed.next(), Next::Load(Vec::new()));
        }
    }

    #[test]
    fn a_load_that_ends_the_process_is_tried_in_a_child_and_given_up_in_the_end() {
        let known = |interrupted| Record { passed: true, interrupted, ..Record::default() };
        assert_eq!(known(0).next(), Next::Load(Vec::new()));
        assert_eq!((known(1).next(), known(2).next()), (Next::Probe, Next::Probe));
        assert!(matches!(known(3).next(), Next::Refuse(reason) if reason.contains("ended 3 times")));
        // A child that loads it proves nothing against that.
        assert_eq!(known(2).after(&Observed::Passed(Vec::new())).0.interrupted, 2);
        assert_eq!(known(2).survived().next(), Next::Load(Vec::new()));
    }
}
