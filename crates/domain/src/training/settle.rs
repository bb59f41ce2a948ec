//! When a checkpoint that a command writes is whole.
//!
//! Nothing tells an agent that a command has finished a checkpoint, unless it was written under another name
//! and renamed, or carries the marker that the job names. Otherwise a checkpoint counts as whole once nothing
//! of it has changed for a while. The observer looks at intervals; [`Watch::look`] decides what is stored.

use std::collections::BTreeMap;

/// While the command runs, a checkpoint that was written in place is stored once nothing of it has changed
/// for this long, milliseconds. Long, because another attempt would be restored from a half-written one if
/// the machine were lost then.
pub const QUIET_WHILE_RUNNING_MS: u64 = 5_000;
/// A checkpoint that a killed or failed command left behind is stored where nothing of it had changed for
/// this long, milliseconds.
pub const QUIET_BEFORE_END_MS: u64 = 2_000;

/// A checkpoint as it is found at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Its training step.
    pub step: u64,
    /// Stands for the names, sizes, modes and modification times of all that belongs to it.
    pub fingerprint: u64,
    /// Time since its last change by the clock of the file system, milliseconds.
    pub age_ms: u64,
    /// What is known about it without waiting.
    pub evidence: Evidence,
}

/// What shows, without waiting, whether a checkpoint is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It was renamed into place, or it carries the job's marker.
    Whole,
    /// Each of its files is whole, but others may follow.
    WholeSoFar,
    /// The job names a marker, which it does not carry.
    Unfinished,
    /// Nothing: time decides.
    None,
}

/// What the command does at the moment of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It runs.
    Running,
    /// It ended with 0, or by itself after it was asked to: what is there is what it meant to leave.
    EndedOrderly,
    /// It was killed or failed: what it wrote last may be half-written.
    EndedAbruptly,
}

/// What is to be done after a look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// The step to store now.
    pub store: Option<u64>,
    /// Steps that may be half-written and are never stored; only after the command's end.
    pub abandoned: Vec<u64>,
}

/// What the looks so far have shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watch {
    /// Fingerprint of each step and when it was first seen, milliseconds of the observer's clock.
    seen: BTreeMap<u64, (u64, u64)>,
    /// Fingerprints that need no storing: stored, restored or given up. Steps below the last of them are
    /// superseded.
    done: BTreeMap<u64, u64>,
}

impl Watch {
    /// Takes in a look at `now_ms` of a clock that never goes back, and decides. The newest whole checkpoint
    /// is stored; older ones than the last one stored are superseded.
    pub fn look(&mut self, now_ms: u64, sightings: &[Sighting], moment: Moment) -> Decision {
        self.remember(now_ms, sightings);
        let mut newest_first: Vec<&Sighting> =
            sightings.iter().filter(|sighting| self.is_new(sighting)).collect();
        newest_first.sort_by_key(|sighting| std::cmp::Reverse(sighting.step));
        let mut decision = Decision::default();
        for sighting in newest_first {
            if self.is_whole(now_ms, sighting, moment) {
                decision.store = Some(sighting.step);
                break;
            }
            if moment != Moment::Running {
                decision.abandoned.push(sighting.step);
            }
        }
        decision
    }

    /// A step as it was when it had this fingerprint needs no storing any more.
    pub fn set_done(&mut self, step: u64, fingerprint: u64) {
        self.done.insert(step, fingerprint);
    }

    /// The highest step that is done.
    pub fn last_done(&self) -> Option<u64> {
        self.done.last_key_value().map(|(step, _)| *step)
    }

    fn remember(&mut self, now_ms: u64, sightings: &[Sighting]) {
        let known = std::mem::take(&mut self.seen);
        for sighting in sightings {
            let since_ms = match known.get(&sighting.step) {
                Some((fingerprint, since_ms)) if *fingerprint == sighting.fingerprint => *since_ms,
                _ => now_ms,
            };
            self.seen.insert(sighting.step, (sighting.fingerprint, since_ms));
        }
    }

    fn is_new(&self, sighting: &Sighting) -> bool {
        self.done.get(&sighting.step) != Some(&sighting.fingerprint)
            && self.last_done().is_none_or(|last| sighting.step >= last)
    }

    fn is_whole(&self, now_ms: u64, sighting: &Sighting, moment: Moment) -> bool {
        match (sighting.evidence, moment) {
            (Evidence::Whole, _) => true,
            (Evidence::Unfinished, _) => false,
            (_, Moment::EndedOrderly) | (Evidence::WholeSoFar, Moment::EndedAbruptly) => true,
            (Evidence::None, Moment::EndedAbruptly) => sighting.age_ms >= QUIET_BEFORE_END_MS,
            // Both clocks: neither a file system with a clock of its own nor a late look makes it older than
            // it is.
            (Evidence::None | Evidence::WholeSoFar, Moment::Running) => {
                let since_ms = self.seen.get(&sighting.step).map_or(now_ms, |(_, since_ms)| *since_ms);
                sighting.age_ms.min(now_ms.saturating_sub(since_ms)) >= QUIET_WHILE_RUNNING_MS
            }
        }
    }
}

#[cfg(test)]
mod tests;
