//! Requests that wait for a run: bounded, by priority, and taken in batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::request::{Inference, Origin, Priority};
use crate::{Batching, Error, Tensor, batch};

/// Requests that are looked at for one batch, so that many of other shapes do not hold the queue's lock.
const SCAN_LIMIT: usize = 256;

/// A request that waits.
pub(crate) struct Job {
    pub(crate) inputs: Arc<Vec<Tensor>>,
    /// `None`: it runs alone.
    pub(crate) rows: Option<u64>,
    pub(crate) queued_at: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) origin: Option<Origin>,
    pub(crate) answer: oneshot::Sender<Result<Inference, Error>>,
}

/// What waits for one version.
#[derive(Default)]
pub(crate) struct Waiting {
    lanes: [VecDeque<Job>; 3],
    count: usize,
}

/// Requests that were dropped before they ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Dropped {
    /// Their callers went away.
    pub(crate) cancelled: u64,
    /// Their deadline passed.
    pub(crate) expired: u64,
}

impl Waiting {
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn push(&mut self, job: Job, priority: Priority) {
        self.lanes[priority as usize].push_back(job);
        self.count += 1;
    }

    /// When the request that goes next was queued, and how many rows could run with it, at most `limit`.
    pub(crate) fn gathered(&self, limit: u64) -> Option<(Instant, u64)> {
        let first = self.lanes.iter().find_map(VecDeque::front)?;
        let Some(mut rows) = first.rows else { return Some((first.queued_at, limit)) };
        for job in self.lanes.iter().flatten().take(SCAN_LIMIT).skip(1) {
            if rows >= limit {
                break;
            }
            if job.rows.is_some() && batch::joinable(&first.inputs, &job.inputs) {
                rows += job.rows.unwrap_or(0);
            }
        }
        Some((first.queued_at, rows))
    }

    /// Takes the next run: the first request that is still wanted, and those that can run with it. What is no
    /// longer wanted is dropped and counted.
    pub(crate) fn take(
        &mut self,
        batching: Option<&Batching>,
        now: Instant,
        dropped: &mut Dropped,
    ) -> Vec<Job> {
        let mut taken = Vec::new();
        let Some(first) = self.take_first(now, dropped) else { return taken };
        let limit = batching.map_or(1, |batching| batching.max_rows as u64);
        let mut rows = first.rows.unwrap_or(limit);
        let joins = first.rows.is_some() && rows < limit;
        taken.push(first);
        if !joins {
            return taken;
        }
        let mut looked_at = 0;
        for lane in &mut self.lanes {
            let mut at = 0;
            while rows < limit && looked_at < SCAN_LIMIT {
                let Some(job) = lane.get(at) else { break };
                looked_at += 1;
                if forsaken(job, now, dropped) {
                    drop_job(lane.remove(at), now);
                    self.count -= 1;
                    continue;
                }
                let fits = job.rows.is_some_and(|more| rows + more <= limit);
                let inputs = taken.first().map(|first| &first.inputs);
                if fits && inputs.is_some_and(|inputs| batch::joinable(inputs, &job.inputs)) {
                    if let Some(job) = lane.remove(at) {
                        rows += job.rows.unwrap_or(0);
                        taken.push(job);
                        self.count -= 1;
                    }
                } else {
                    at += 1;
                }
            }
        }
        self.cut(batching, rows, &mut taken);
        taken
    }

    /// Gives back the last ones of a batch that fills one of the preferred sizes and some more.
    fn cut(&mut self, batching: Option<&Batching>, mut rows: u64, taken: &mut Vec<Job>) {
        let preferred = batching.iter().flat_map(|batching| &batching.preferred_rows);
        let filled = preferred.map(|size| *size as u64).filter(|size| *size <= rows).max();
        let Some(filled) = filled else { return };
        while rows > filled && taken.len() > 1 {
            let Some(job) = taken.pop() else { return };
            rows -= job.rows.unwrap_or(0);
            // It was first in some lane; in front of all it goes next.
            self.lanes[Priority::High as usize].push_front(job);
            self.count += 1;
        }
    }

    fn take_first(&mut self, now: Instant, dropped: &mut Dropped) -> Option<Job> {
        for lane in &mut self.lanes {
            while let Some(job) = lane.pop_front() {
                self.count -= 1;
                if !forsaken(&job, now, dropped) {
                    return Some(job);
                }
                drop_job(Some(job), now);
            }
        }
        None
    }
}

/// Whether the client has disconnected.
fn forsaken(job: &Job, now: Instant, dropped: &mut Dropped) -> bool {
    if job.answer.is_closed() {
        dropped.cancelled += 1;
        return true;
    }
    let expired = job.deadline.is_some_and(|deadline| deadline <= now);
    dropped.expired += u64::from(expired);
    expired
}

/// Sends the result, if the receiver still exists.
fn drop_job(job: Option<Job>, now: Instant) {
    if let Some(job) = job {
        let waited_us = u64::try_from((now - job.queued_at).as_micros()).unwrap_or(u64::MAX);
        // The receiver may be gone.
        let _ = job.answer.send(Err(Error::Expired { timeout_us: waited_us }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Answer = oneshot::Receiver<Result<Inference, Error>>;

    fn job(width: i64, rows: usize, deadline: Option<Instant>) -> (Job, Answer) {
        let count = rows * usize::try_from(width).unwrap();
        let inputs = vec![Tensor::fp32("x", [i64::try_from(rows).unwrap(), width], &vec![0.0; count])];
        let (answer, answered) = oneshot::channel();
        let rows = batch::rows(&inputs);
        (
            Job { inputs: Arc::new(inputs), rows, queued_at: Instant::now(), deadline, origin: None, answer },
            answered,
        )
    }

    fn rows(batch: &[Job]) -> Vec<u64> {
        batch.iter().map(|job| job.rows.unwrap()).collect()
    }

    #[test]
    fn a_batch_has_rows_of_one_shape_up_to_the_limit_and_the_rest_keeps_its_place() {
        let (mut waiting, mut answers, mut dropped) = (Waiting::default(), Vec::new(), Dropped::default());
        for (width, rows, priority) in [
            (2, 1, Priority::Low),
            (2, 2, Priority::Normal),
            (3, 1, Priority::Normal),
            (2, 9, Priority::Normal),
            (2, 1, Priority::High),
        ] {
            let (job, answer) = job(width, rows, None);
            waiting.push(job, priority);
            answers.push(answer);
        }
        let batching = Batching { max_rows: 8, ..Batching::default() };
        let now = Instant::now();
        assert_eq!(rows(&waiting.take(Some(&batching), now, &mut dropped)), [1, 2, 1]);
        assert_eq!(waiting.take(Some(&batching), now, &mut dropped)[0].inputs[0].shape, [1, 3]);
        assert_eq!(rows(&waiting.take(Some(&batching), now, &mut dropped)), [9]);
        assert!(waiting.take(Some(&batching), now, &mut dropped).is_empty() && waiting.len() == 0);
    }

    #[test]
    fn what_nobody_waits_for_is_dropped_and_counted() {
        let (mut waiting, mut dropped) = (Waiting::default(), Dropped::default());
        let now = Instant::now();
        let (gone, _) = job(2, 1, None);
        let (late, mut told) = job(2, 1, Some(now));
        let (wanted, _answer) = job(2, 1, Some(now + Duration::from_secs(60)));
        for job in [gone, late, wanted] {
            waiting.push(job, Priority::Normal);
        }
        assert_eq!(waiting.take(None, now, &mut dropped).len(), 1);
        assert_eq!((dropped, waiting.len()), (Dropped { cancelled: 1, expired: 1 }, 0));
        assert!(matches!(told.try_recv().unwrap(), Err(Error::Expired { .. })));
    }

    #[test]
    fn a_batch_is_cut_to_a_preferred_size_that_it_fills() {
        let (mut waiting, mut answers, mut dropped) = (Waiting::default(), Vec::new(), Dropped::default());
        for _ in 0..7 {
            let (job, answer) = job(2, 1, None);
            waiting.push(job, Priority::Normal);
            answers.push(answer);
        }
        let batching = Batching { max_rows: 8, preferred_rows: vec![2, 4], ..Batching::default() };
        let mut sizes = Vec::new();
        while waiting.len() > 0 {
            sizes.push(waiting.take(Some(&batching), Instant::now(), &mut dropped).len());
        }
        assert_eq!(sizes, [4, 2, 1]);
        assert_eq!(waiting.gathered(8), None);
    }
}
