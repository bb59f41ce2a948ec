//! Who decides that an attempt is over, and when.
//!
//! An attempt has a lease, which its agent renews with each heartbeat, through whichever launcher it reaches.
//! Three clocks run from the last renewal, all of them monotonic:
//!
//! | after | who | what |
//! |---|---|---|
//! | 2/3 of the lease | the agent | SIGTERM to the command: nobody would hear its result |
//! | 5/6 of the lease | the guard, a process of its own | SIGKILL to all of the attempt, the agent too |
//! | the lease | any launcher | the attempt is over; another one may start anywhere |
//!
//! The agent counts from the moment at which it *sent* the renewal, a launcher from the moment at which it
//! first *saw* it, so that neither the network nor a difference between their clocks shortens the distance
//! between the last two lines.
//!
//! Before the lease is over, only the launcher that started the attempt may end it, by what its backend
//! reports. What a backend knows holds within one node: a launcher of another node, or of another process
//! namespace, never asks its own.

/// How long an attempt lives without a renewal, milliseconds, where nothing else is configured.
pub const DEFAULT_LEASE_MS: u64 = 90_000;
/// Shorter leases leave no room for a lost heartbeat, milliseconds.
pub const MIN_LEASE_MS: u64 = 9_000;
/// Longest lease, milliseconds.
pub const MAX_LEASE_MS: u64 = 3_600_000;
/// The launcher that started an attempt ends it once its agent was silent for longer, milliseconds; for a
/// short lease, half of it.
pub const SILENCE_MS: u64 = 15_000;
/// An attempt whose agent has not said anything by then never started, milliseconds.
pub const START_TIMEOUT_MS: u64 = 60_000;

/// The lease of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    ms: u64,
}

impl Lease {
    /// A lease of this length, milliseconds.
    pub const fn of_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// Its length, milliseconds: without a renewal the attempt is over then.
    pub const fn ms(self) -> u64 {
        self.ms
    }

    /// Without a renewal for so long, milliseconds, the agent asks its command to end.
    pub const fn stop_after_ms(self) -> u64 {
        self.ms / 3 * 2
    }

    /// Without a renewal for so long, milliseconds, nothing of the attempt is left running.
    pub const fn kill_after_ms(self) -> u64 {
        self.ms / 6 * 5
    }

    /// After so much silence, milliseconds, the launcher that started the attempt ends it.
    const fn silence_ms(self) -> u64 {
        if SILENCE_MS < self.ms / 2 { SILENCE_MS } else { self.ms / 2 }
    }
}

/// Who started an attempt, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Name of the backend, e.g. `local`.
    pub backend: String,
    /// Within which the backend's reports hold, e.g. one process namespace of one machine since its start.
    pub node: String,
    /// The launcher, by its id.
    pub launcher: String,
}

/// What the one who decides is to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It started the attempt, or has adopted it.
    Own,
    /// The attempt's launcher is gone, and the own backend can say what became of the attempt.
    Orphan,
    /// A release that did not note owners started the attempt: it is adopted where it is seen alive.
    Unowned,
    /// The attempt belongs to another launcher, or runs where the own backend cannot look.
    Foreign,
}

impl Relation {
    /// What `own` is to an attempt of `owner`, whose launcher is registered or not.
    pub fn of(own: &Owner, owner: Option<&Owner>, is_registered: bool) -> Self {
        match owner {
            None => Self::Unowned,
            Some(owner) if owner.backend != own.backend || owner.node != own.node => Self::Foreign,
            Some(owner) if owner.launcher == own.launcher => Self::Own,
            Some(_) if !is_registered => Self::Orphan,
            Some(_) => Self::Foreign,
        }
    }

    /// Whether the own backend is asked about the attempt's agent.
    pub const fn asks_backend(self) -> bool {
        matches!(self, Self::Own | Self::Unowned)
    }
}

/// What a backend says about an attempt's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It lives.
    Alive,
    /// It will be started: it waits for a node, an image or a queue.
    Pending,
    /// It is not there, and nothing can bring it back.
    Gone,
    /// The backend was not asked, or cannot tell.
    Unknown,
}

/// What is known about an attempt that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// What the one who decides is to it.
    pub relation: Relation,
    /// What the own backend says; not asked about an attempt of another launcher.
    pub report: Report,
    /// Whether its agent has ever held the lease. A command is not started before.
    pub held: bool,
    /// Whether its owner has stored that it waits for its node, image or queue: others cannot see that.
    pub pending: bool,
    /// How long the lease has not been renewed while the one who decides could have seen it, by its monotonic
    /// clock, milliseconds.
    pub unrenewed_ms: u64,
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Keep,
    /// It goes on, and its owner is the one who decides.
    Adopt,
    /// Its agent is gone: end what it left, then the attempt. If something does not end, the attempt goes on.
    EndGone,
    /// Its agent is silent: as [`Self::EndGone`], unless the lease is renewed meanwhile.
    EndSilent,
    /// Its lease is over, and with it everything that belonged to it: end the attempt, unless the lease is
    /// renewed meanwhile.
    EndLease,
}

/// Decides about an attempt that has not ended.
pub fn decide(lease: Lease, seen: &Watched) -> Verdict {
    // An agent that never held the lease is refused it from the end of the attempt on, and starts nothing.
    let limit_ms = |held_ms: u64| if seen.held { held_ms } else { held_ms.max(START_TIMEOUT_MS) };
    match (seen.relation, seen.report) {
        (Relation::Orphan, _) | (Relation::Unowned, Report::Alive) => Verdict::Adopt,
        (Relation::Own, Report::Gone) => Verdict::EndGone,
        (Relation::Own, Report::Pending) if !seen.held => Verdict::Keep,
        (Relation::Own, Report::Unknown) | (Relation::Foreign | Relation::Unowned, _) if seen.pending => {
            Verdict::Keep
        }
        // What cannot be reached has ended by itself.
        (Relation::Own, _) if seen.held && seen.unrenewed_ms >= lease.ms() => Verdict::EndLease,
        (Relation::Own, _) if seen.unrenewed_ms >= limit_ms(lease.silence_ms()) => Verdict::EndSilent,
        (Relation::Foreign | Relation::Unowned, _) if seen.unrenewed_ms >= limit_ms(lease.ms()) => {
            Verdict::EndLease
        }
        (Relation::Own | Relation::Foreign | Relation::Unowned, _) => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Lease = Lease::of_ms(DEFAULT_LEASE_MS);

    fn owner(node: &str, launcher: &str) -> Owner {
        Owner { backend: "local".into(), node: node.into(), launcher: launcher.into() }
    }

    fn watched(relation: Relation, report: Report, unrenewed_ms: u64) -> Watched {
        Watched { relation, report, held: true, pending: false, unrenewed_ms }
    }

    #[test]
    fn only_the_launcher_that_started_an_attempt_goes_by_what_its_backend_says() {
        let gone = |relation| decide(LEASE, &watched(relation, Report::Gone, 1_000));
        assert_eq!(gone(Relation::Own), Verdict::EndGone);
        assert_eq!(gone(Relation::Foreign), Verdict::Keep);
        assert_eq!(gone(Relation::Orphan), Verdict::Adopt, "it is asked again as the owner");
        let own = owner("host.1", "a");
        let of = |other: &Owner, registered| Relation::of(&own, Some(other), registered);
        assert_eq!(of(&own, true), Relation::Own);
        assert_eq!(of(&owner("host.1", "b"), true), Relation::Foreign, "it is there and decides itself");
        assert_eq!(of(&owner("host.1", "b"), false), Relation::Orphan);
        assert_eq!(of(&owner("host.2", "a"), false), Relation::Foreign, "another process namespace");
        let elsewhere = Owner { backend: "kubernetes".into(), ..own.clone() };
        assert_eq!(of(&elsewhere, false), Relation::Foreign);
        assert_eq!(Relation::of(&own, None, false), Relation::Unowned);
        let unowned = |report| decide(LEASE, &watched(Relation::Unowned, report, 1_000));
        assert_eq!((unowned(Report::Alive), unowned(Report::Gone)), (Verdict::Adopt, Verdict::Keep));
    }

    #[test]
    fn an_attempt_of_another_launcher_ends_with_its_lease_and_an_own_one_with_its_silence() {
        for (relation, limit_ms, verdict) in [
            (Relation::Own, SILENCE_MS, Verdict::EndSilent),
            (Relation::Foreign, DEFAULT_LEASE_MS, Verdict::EndLease),
        ] {
            let after = |ms| decide(LEASE, &watched(relation, Report::Alive, ms));
            assert_eq!((after(limit_ms - 1), after(limit_ms)), (Verdict::Keep, verdict));
        }
    }

    #[test]
    fn an_own_attempt_that_cannot_be_ended_is_over_with_its_lease() {
        let after = |ms| decide(LEASE, &watched(Relation::Own, Report::Alive, ms));
        assert_eq!(after(DEFAULT_LEASE_MS - 1), Verdict::EndSilent);
        assert_eq!(after(DEFAULT_LEASE_MS), Verdict::EndLease);
    }

    #[test]
    fn an_agent_that_waits_for_its_node_has_any_time() {
        let long_ms = 10 * START_TIMEOUT_MS;
        let waits =
            |relation, report| Watched { held: false, pending: true, ..watched(relation, report, long_ms) };
        for seen in [
            Watched { pending: false, ..waits(Relation::Own, Report::Pending) },
            waits(Relation::Own, Report::Pending),
            waits(Relation::Own, Report::Unknown),
            waits(Relation::Foreign, Report::Unknown),
        ] {
            assert_eq!(decide(LEASE, &seen), Verdict::Keep, "{seen:?}");
        }
        let mute = waits(Relation::Own, Report::Alive);
        assert_eq!(decide(LEASE, &mute), Verdict::EndSilent, "it runs, and does not reach a launcher");
        assert_eq!(decide(LEASE, &waits(Relation::Own, Report::Gone)), Verdict::EndGone);
    }

    #[test]
    fn an_agent_that_was_never_heard_has_the_time_to_start() {
        for relation in [Relation::Own, Relation::Foreign] {
            let seen = Watched { held: false, ..watched(relation, Report::Alive, START_TIMEOUT_MS - 1) };
            assert_eq!(decide(LEASE, &seen), Verdict::Keep);
        }
        let short = Lease::of_ms(MIN_LEASE_MS);
        let late = Watched { held: false, ..watched(Relation::Foreign, Report::Unknown, START_TIMEOUT_MS) };
        assert_eq!(decide(short, &late), Verdict::EndLease);
    }

    #[test]
    fn the_default_lease_is_as_documented() {
        assert_eq!((LEASE.stop_after_ms(), LEASE.kill_after_ms(), LEASE.ms()), (60_000, 75_000, 90_000));
    }

    proptest! {
        /// A renewal is sent, seen later, and counted by both sides with clocks whose rates differ by up to
        /// 1 %: when a launcher calls the lease over, the agent's guard has killed before.
        #[test]
        fn everything_is_killed_before_the_lease_is_over(
            lease_ms in MIN_LEASE_MS..=MAX_LEASE_MS,
            seen_after_ms in 0_u64..1_000_000,
            agent_rate in 0.99_f64..1.01,
            launcher_rate in 0.99_f64..1.01,
        ) {
            let lease = Lease::of_ms(lease_ms);
            prop_assert!(lease.stop_after_ms() < lease.kill_after_ms());
            let killed_at_ms = lease.kill_after_ms() as f64 / agent_rate;
            let over_at_ms = seen_after_ms as f64 + lease.ms() as f64 / launcher_rate;
            prop_assert!(killed_at_ms + lease.ms() as f64 / 10.0 < over_at_ms);
            let seen = watched(Relation::Foreign, Report::Unknown, lease.kill_after_ms());
            prop_assert_eq!(decide(lease, &seen), Verdict::Keep);
        }

        /// Nobody but the owner ends an attempt before its lease is over.
        #[test]
        fn others_wait_for_the_lease(unrenewed_ms in 0..DEFAULT_LEASE_MS, held: bool, asked in 0..3) {
            let report = [Report::Alive, Report::Gone, Report::Unknown][usize::try_from(asked).expect("few")];
            let seen = Watched { relation: Relation::Foreign, report, held, pending: false, unrenewed_ms };
            prop_assert_eq!(decide(LEASE, &seen), Verdict::Keep);
        }
    }
}
