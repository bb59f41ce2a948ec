//! What was harmed when, as it happened, and which failures of requests that excuses.

use super::faults::{Fault, Harm, Part, Replica, Server};

/// After it is ready again, a replica may still answer with errors for this long.
const REPLICA_GRACE_MS: u64 = 1_500;
/// After it is started again: pools of connections find out, and connect again after a backoff.
const SERVER_GRACE_MS: u64 = 6_000;
/// The same for NATS: streams and consumers elect leaders again. No request needs NATS, but new traffic
/// tables do.
const NATS_GRACE_MS: u64 = 12_000;
/// A fault that has not ended.
const OPEN: u64 = u64::MAX;

/// What a window is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harmed {
    /// A process was killed or stopped.
    Part(Part),
    /// A replica's connections to a server were cut.
    Link(Replica, Server),
    /// The whole machine stood still, also the harness.
    Machine,
    /// Other programs left so little of the processors that everything timed out.
    Overload,
}

/// A time in which something was harmed or recovered from it, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Number of the fault. A later one of the same part may begin while the part still starts again.
    fault: usize,
    pub(super) harmed: Harmed,
    pub(super) from_ms: u64,
    /// When the harm ended; the replica may not be ready yet.
    healed_ms: u64,
    pub(super) to_ms: u64,
}

/// All windows so far.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    windows: Vec<Window>,
}

/// A request to a replica that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) replica: Replica,
    /// Servers without which the replica cannot answer it.
    pub(super) needs: &'static [Server],
    /// When it was sent, Unix milliseconds.
    pub(super) from_ms: u64,
    /// When it failed, Unix milliseconds.
    pub(super) to_ms: u64,
    /// The request and the error.
    pub(super) what: String,
}

impl History {
    /// A fault begins now.
    pub(super) fn begin(&mut self, fault: &Fault, now_ms: u64) {
        if matches!(fault.harm, Harm::Clock { .. }) {
            // It excuses nothing.
            return;
        }
        let (fault, harmed) = (fault.number, harmed(fault));
        self.windows.push(Window { fault, harmed, from_ms: now_ms, healed_ms: OPEN, to_ms: OPEN });
    }

    /// A fault was undone. A replica recovers until [`Self::ready`].
    pub(super) fn heal(&mut self, fault: &Fault, now_ms: u64) {
        let wanted = harmed(fault);
        for window in self.windows.iter_mut().filter(|window| window.healed_ms == OPEN) {
            if window.fault == fault.number && window.harmed == wanted {
                window.healed_ms = now_ms;
                window.to_ms = match wanted {
                    Harmed::Part(Part::Replica(_)) => OPEN,
                    Harmed::Part(Part::Agent) | Harmed::Machine | Harmed::Overload => now_ms,
                    Harmed::Part(Part::Node(_) | Part::Server(Server::Nats)) => now_ms + NATS_GRACE_MS,
                    Harmed::Part(Part::Server(_)) | Harmed::Link(..) => now_ms + SERVER_GRACE_MS,
                };
            }
        }
    }

    /// A replica answered at `now_ms` that it is ready, to a question that was asked at `asked_ms`.
    pub(super) fn ready(&mut self, replica: Replica, asked_ms: u64, now_ms: u64) {
        let of = Harmed::Part(Part::Replica(replica));
        for window in self.windows.iter_mut().filter(|window| window.to_ms == OPEN) {
            if window.harmed == of && window.healed_ms <= asked_ms {
                window.to_ms = now_ms + REPLICA_GRACE_MS;
            }
        }
    }

    /// The machine stood still.
    pub(super) fn pause(&mut self, from_ms: u64, to_ms: u64) {
        let to_ms = to_ms + SERVER_GRACE_MS;
        self.windows.push(Window { fault: 0, harmed: Harmed::Machine, from_ms, healed_ms: to_ms, to_ms });
    }

    /// The machine was overloaded.
    pub(super) fn overload(&mut self, from_ms: u64, to_ms: u64) {
        let to_ms = to_ms + SERVER_GRACE_MS;
        self.windows.push(Window { fault: 0, harmed: Harmed::Overload, from_ms, healed_ms: to_ms, to_ms });
    }

    /// For how long it was.
    pub(super) fn overloaded_ms(&self) -> u64 {
        let overloads = self.windows.iter().filter(|window| window.harmed == Harmed::Overload);
        overloads.map(|window| window.to_ms - SERVER_GRACE_MS - window.from_ms).sum()
    }

    /// Milliseconds since a time in which the machine neither stood still nor was overloaded.
    pub(super) fn running_ms(&self, from_ms: u64, now_ms: u64) -> u64 {
        self.quiet_ms(from_ms, now_ms, |harmed| matches!(harmed, Harmed::Machine | Harmed::Overload))
    }

    /// Longest time for which the machine stood still.
    pub(super) fn longest_pause_ms(&self) -> u64 {
        let pauses = self.windows.iter().filter(|window| window.harmed == Harmed::Machine);
        pauses.map(|window| window.to_ms - SERVER_GRACE_MS - window.from_ms).max().unwrap_or_default()
    }

    /// Whether a window that `counts` overlaps the time.
    fn any(&self, from_ms: u64, to_ms: u64, counts: impl Fn(Harmed) -> bool) -> bool {
        self.windows
            .iter()
            .any(|window| window.from_ms <= to_ms && from_ms <= window.to_ms && counts(window.harmed))
    }

    /// Whether a failure is the consequence of a fault: of the replica, of a server that the request needs,
    /// or of the connection between them.
    pub(super) fn excuses(&self, failure: &Failure) -> bool {
        self.any(failure.from_ms, failure.to_ms, |harmed| match harmed {
            Harmed::Machine | Harmed::Overload => true,
            Harmed::Part(Part::Replica(replica)) => replica == failure.replica,
            Harmed::Part(Part::Server(server)) => failure.needs.contains(&server),
            Harmed::Link(replica, server) => replica == failure.replica && failure.needs.contains(&server),
            // A majority remains.
            Harmed::Part(Part::Agent | Part::Node(_)) => false,
        })
    }

    /// Milliseconds between two times in which nothing that `counts` was harmed.
    pub(super) fn quiet_ms(&self, from_ms: u64, to_ms: u64, counts: impl Fn(Harmed) -> bool) -> u64 {
        let mut windows: Vec<&Window> = self.windows.iter().filter(|window| counts(window.harmed)).collect();
        windows.sort_by_key(|window| window.from_ms);
        let (mut quiet, mut at) = (0, from_ms);
        for window in windows {
            let begin = window.from_ms.min(to_ms);
            quiet += begin.saturating_sub(at);
            at = at.max(window.to_ms);
        }
        quiet + to_ms.saturating_sub(at)
    }
}

fn harmed(fault: &Fault) -> Harmed {
    match (fault.part, fault.harm) {
        (Part::Replica(replica), Harm::Cut { from, .. }) => Harmed::Link(replica, from),
        (part, _) => Harmed::Part(part),
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::{Cut, Service, Stop};
    use super::*;

    const SERVING: Replica = Replica { service: Service::Serving, number: 1 };

    fn fault(part: Part, harm: Harm) -> Fault {
        Fault { number: 1, at_ms: 0, part, harm, for_ms: 0 }
    }

    fn failure(replica: Replica, needs: &'static [Server], from_ms: u64) -> Failure {
        Failure { replica, needs, from_ms, to_ms: from_ms + 10, what: String::new() }
    }

    #[test]
    fn a_killed_replica_excuses_its_own_failures_until_it_is_ready_again() {
        let mut history = History::default();
        let kill = fault(Part::Replica(SERVING), Harm::Kill);
        history.begin(&kill, 1_000);
        history.heal(&kill, 2_000);
        let other = Replica { number: 2, ..SERVING };
        assert!(!history.excuses(&failure(SERVING, &[], 900)));
        assert!(history.excuses(&failure(SERVING, &[], 1_000)));
        assert!(!history.excuses(&failure(other, &[], 1_000)));
        // An answer to a question from before it was started again says nothing.
        history.ready(SERVING, 1_900, 2_100);
        assert!(history.excuses(&failure(SERVING, &[], 100_000)));
        history.ready(SERVING, 2_500, 2_600);
        assert!(history.excuses(&failure(SERVING, &[], 2_600 + REPLICA_GRACE_MS)));
        assert!(!history.excuses(&failure(SERVING, &[], 2_601 + REPLICA_GRACE_MS)));
    }

    #[test]
    fn a_server_that_is_down_excuses_the_requests_that_need_it() {
        let mut history = History::default();
        history.begin(&fault(Part::Server(Server::Nats), Harm::Hang), 0);
        assert!(!history.excuses(&failure(SERVING, &[], 10)), "predictions need no server");
        assert!(!history.excuses(&failure(SERVING, &[Server::Postgres], 10)));
        assert!(history.excuses(&failure(SERVING, &[Server::Nats], 10)));
    }

    #[test]
    fn a_server_that_is_stopped_again_before_it_was_started_is_down_until_the_last_start() {
        let mut history = History::default();
        let stop = |number| Fault { number, ..fault(Part::Server(Server::S3), Harm::Restart(Stop::Kill)) };
        history.begin(&stop(1), 0);
        history.begin(&stop(2), 1_000);
        history.heal(&stop(1), 2_000);
        assert!(history.excuses(&failure(SERVING, &[Server::S3], 60_000)));
        history.heal(&stop(2), 3_000);
        assert!(!history.excuses(&failure(SERVING, &[Server::S3], 60_000)));
    }

    #[test]
    fn a_cut_excuses_what_its_replica_needs_from_that_server() {
        let mut history = History::default();
        let cut = Harm::Cut { from: Server::S3, except: None, how: Cut::Silent };
        history.begin(&fault(Part::Replica(SERVING), cut), 0);
        assert!(!history.excuses(&failure(SERVING, &[], 10)));
        assert!(history.excuses(&failure(SERVING, &[Server::S3], 10)));
        assert!(!history.excuses(&failure(Replica { number: 0, ..SERVING }, &[Server::S3], 10)));
    }

    #[test]
    fn a_clock_that_is_stepped_excuses_nothing() {
        let mut history = History::default();
        let step = fault(Part::Replica(SERVING), Harm::Clock { by_ms: 5 });
        history.begin(&step, 0);
        history.heal(&step, 20);
        assert!(!history.excuses(&failure(SERVING, &[], 5)));
    }

    #[test]
    fn a_machine_that_stood_still_excuses_everything_of_that_time() {
        let mut history = History::default();
        history.pause(1_000, 2_000);
        assert_eq!(history.longest_pause_ms(), 1_000);
        assert!(history.excuses(&failure(SERVING, &[], 1_500)));
        assert!(!history.excuses(&failure(SERVING, &[], 2_001 + SERVER_GRACE_MS)));
    }

    #[test]
    fn an_overload_excuses_failures_and_is_no_pause() {
        let mut history = History::default();
        history.overload(1_000, 2_000);
        assert!(history.excuses(&failure(SERVING, &[], 1_500)));
        assert_eq!((history.longest_pause_ms(), history.overloaded_ms()), (0, 1_000));
        assert_eq!(history.running_ms(500, 3_000 + SERVER_GRACE_MS), 1_500);
    }

    #[test]
    fn quiet_time_leaves_out_what_was_harmed_and_counts_overlaps_once() {
        let mut history = History::default();
        history.pause(1_000, 2_000);
        history.pause(1_500, 2_500);
        let until = 2_500 + SERVER_GRACE_MS;
        assert_eq!(history.quiet_ms(0, until + 300, |_| true), 1_300);
        assert_eq!(history.quiet_ms(0, until + 300, |_| false), until + 300);
        assert_eq!(history.quiet_ms(1_200, 1_400, |_| true), 0);
        assert_eq!(history.quiet_ms(400, 700, |_| true), 300);
    }
}
