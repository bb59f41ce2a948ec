//! What a monitor has read of each run of a serving process, and which answered rows it will never see.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slipway_api::predictions::Sender;

/// Runs that are remembered; the one that was heard of longest ago makes room.
const MAX_RUNS: usize = 256;

/// How far the runs were read. Stored with the monitor's place in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Received {
    runs: BTreeMap<String, Run>,
    /// Since the last window.
    pub(crate) missed: Missed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Run {
    /// Rows that the run published up to the last message that was read.
    rows: u64,
    dropped_rows: u64,
    sequence: u64,
}

/// Answered rows that no window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Missed {
    /// Published, and gone from the stream before they were read.
    pub(crate) lost: u64,
    /// Dropped by a serving process because its queue was full.
    pub(crate) dropped: u64,
    /// Of requests too large to record whole, and of records without inputs.
    pub(crate) not_recorded: u64,
}

impl Received {
    /// Takes in the head of a message with `rows` counted rows. A message that was read before changes
    /// nothing. Of a run that began before `read_from_unix_ms` only what follows its first message counts.
    pub(crate) fn take(&mut self, sender: &Sender, rows: u64, sequence: u64, read_from_unix_ms: u64) {
        if sender.run.is_empty() {
            return;
        }
        let known = self.runs.get(&sender.run).copied();
        if known.is_some_and(|run| sequence <= run.sequence) {
            return;
        }
        let first = || {
            let began_before = sender.run_started_at_unix_ms < read_from_unix_ms;
            let counted = |count: u64| if began_before { count } else { 0 };
            Run { rows: counted(sender.rows_before), dropped_rows: counted(sender.dropped_rows), sequence }
        };
        let before = known.unwrap_or_else(first);
        self.missed.lost += sender.rows_before.saturating_sub(before.rows);
        self.missed.dropped += sender.dropped_rows.saturating_sub(before.dropped_rows);
        let run = Run { rows: sender.rows_before + rows, dropped_rows: sender.dropped_rows, sequence };
        self.runs.insert(sender.run.clone(), run);
        if self.runs.len() > MAX_RUNS
            && let Some(oldest) =
                self.runs.iter().min_by_key(|(_, run)| run.sequence).map(|(run, _)| run.clone())
        {
            self.runs.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(run: &str, started: u64, rows_before: u64, dropped_rows: u64) -> Sender {
        Sender {
            run: run.into(),
            run_started_at_unix_ms: started,
            rows_before,
            dropped_rows,
            ..Sender::default()
        }
    }

    #[test]
    fn gaps_are_counted_once() {
        let mut received = Received::default();
        received.take(&sender("a", 5, 1_000, 7), 10, 1, 100);
        assert_eq!(
            received.missed,
            Missed::default(),
            "what a run did before the monitor began is not missed"
        );
        received.take(&sender("a", 5, 1_010, 7), 10, 2, 100);
        assert_eq!(received.missed, Missed::default());
        received.take(&sender("a", 5, 1_050, 9), 10, 5, 100);
        let gap = Missed { lost: 30, dropped: 2, not_recorded: 0 };
        assert_eq!(received.missed, gap);
        received.take(&sender("a", 5, 1_050, 9), 10, 5, 100);
        received.take(&sender("a", 5, 1_010, 7), 10, 2, 100);
        assert_eq!(received.missed, gap, "a message that is read again changes nothing");
        received.take(&sender("b", 200, 40, 1), 10, 6, 100);
        assert_eq!(
            received.missed,
            Missed { lost: 70, dropped: 3, not_recorded: 0 },
            "the beginning of a run is gone"
        );
        received.take(&Sender::default(), 10, 7, 100);
        assert_eq!(received.runs.len(), 2, "old messages name no run");
    }

    #[test]
    fn memory_is_bounded() {
        let mut received = Received::default();
        for run in 0..1_000 {
            received.take(&sender(&format!("run {run}"), 5, 0, 0), 1, run, 0);
        }
        assert_eq!(received.runs.len(), MAX_RUNS);
        assert!(received.runs.contains_key("run 999"));
    }
}
