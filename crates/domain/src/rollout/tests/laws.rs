//! Laws that hold on every path, crashes included.

use proptest::{
    prelude::{Just, ProptestConfig, any, prop_assert, prop_assert_eq, prop_assert_ne, prop_oneof, proptest},
    strategy::Strategy as _,
};

use super::*;

/// The controller, the stored table and the replicas, as far as the laws need them.
struct World {
    rollout: Rollout,
    stored: TrafficTable,
    confirmed: bool,
    target: Readiness,
    previous: Readiness,
    facts: WindowFacts,
    killed: bool,
    now_unix_ms: u64,
    traffic_writes: usize,
}

#[derive(Debug, Clone)]
enum Happening {
    Pass(u64),
    Target(Readiness),
    Previous(Readiness),
    Facts(Box<WindowFacts>),
    Confirm,
    /// The kill switch is turned on or off.
    Kill(bool),
    Tell(Command),
    /// The controller dies after storing its state and before writing the table.
    CrashBeforeWrite,
    /// The controller dies after writing the table and before storing its state.
    CrashBeforeStore,
    TableLost,
}

fn happening() -> impl proptest::strategy::Strategy<Value = Happening> {
    let reason = || "because".to_owned();
    prop_oneof![
        6 => (0_u64..40_000).prop_map(Happening::Pass),
        3 => Just(Happening::Target(Readiness::Ready)),
        1 => Just(Happening::Target(Readiness::Loading)),
        1 => Just(Happening::Target(Readiness::Failed { reason: "broken".into() })),
        1 => Just(Happening::Target(Readiness::Unknown)),
        1 => Just(Happening::Previous(Readiness::Loading)),
        1 => Just(Happening::Previous(Readiness::Ready)),
        3 => Just(Happening::Facts(Box::new(good_facts()))),
        1 => Just(Happening::Facts(Box::new(bad_facts()))),
        1 => Just(Happening::Facts(Box::default())),
        4 => Just(Happening::Confirm),
        1 => any::<bool>().prop_map(Happening::Kill),
        1 => Just(Happening::Tell(Command::Promote)),
        1 => Just(Happening::Tell(Command::Pause { reason: reason() })),
        1 => Just(Happening::Tell(Command::Resume)),
        1 => Just(Happening::Tell(Command::Abort { reason: reason() })),
        1 => Just(Happening::Tell(Command::Rollback { reason: reason() })),
        1 => Just(Happening::Tell(Command::Refuse { reason: reason() })),
        1 => Just(Happening::Tell(Command::Supersede { by_version: "3".into() })),
        1 => Just(Happening::Tell(Command::Delete)),
        1 => Just(Happening::CrashBeforeWrite),
        1 => Just(Happening::CrashBeforeStore),
        1 => Just(Happening::TableLost),
    ]
}

fn any_strategy() -> impl proptest::strategy::Strategy<Value = Strategy> {
    (proptest::collection::vec((0_u8..=100, 0.0_f64..30.0), 0..4), 0_u8..=100).prop_map(
        |(mut steps, shadow_percent)| {
            steps.sort_by_key(|(weight, _)| *weight);
            Strategy { shadow_percent, ..strategy(&steps) }
        },
    )
}

fn world(first: bool, strategy: Strategy) -> World {
    let stored = if first { TrafficTable::empty("cancer", "cancer") } else { old_table() };
    World {
        rollout: new_rollout((!first).then_some(1), strategy),
        stored,
        confirmed: false,
        target: Readiness::Unknown,
        previous: Readiness::Ready,
        facts: good_facts(),
        killed: false,
        now_unix_ms: 0,
        traffic_writes: 0,
    }
}

impl World {
    fn table_state(&self) -> TableState {
        let wanted = plan_table(&self.rollout, &self.stored, 0);
        if !wanted.routes_like(&self.stored) {
            TableState::Differs
        } else if self.confirmed {
            TableState::Applied
        } else {
            TableState::Written
        }
    }

    fn observe(&self, command: Option<Command>) -> Observation {
        Observation {
            now_unix_ms: self.now_unix_ms,
            target: self.target.clone(),
            previous: self.previous.clone(),
            table: self.table_state(),
            kill_switch_on: self.killed,
            facts: self.facts.clone(),
            command,
        }
    }

    fn tick(&mut self, command: Option<Command>, stores: bool, writes: bool) {
        let seen = self.observe(command);
        let (next, actions) = step(&self.rollout, &seen);
        assert_eq!(
            (&next, &actions),
            (&step(&self.rollout, &seen).0, &step(&self.rollout, &seen).1),
            "not pure"
        );
        assert!(
            !self.killed || next.weight_percent() <= self.rollout.weight_percent(),
            "a version gained traffic while the kill switch was on"
        );
        if writes {
            for _ in super::writes(&actions) {
                self.write(&next);
            }
        }
        if stores {
            self.rollout = next;
        }
    }

    fn write(&mut self, rollout: &Rollout) {
        let table = plan_table(rollout, &self.stored, self.now_unix_ms);
        table.validate().expect("every table written is legal");
        let weights = table.weights();
        let sum: u32 = weights.iter().map(|(_, weight)| u32::from(*weight)).sum();
        let nothing_deployed = rollout.from.is_none() && weights.is_empty();
        assert!(sum == 100 || nothing_deployed, "weights sum to {sum}");
        let serves_new = weights.iter().any(|(served, _)| *served == rollout.to);
        // A stable version whose table was lost is restored first and loaded by that.
        let restored = self.rollout.phase == Phase::Promoted;
        assert!(
            restored || !serves_new || self.target == Readiness::Ready,
            "traffic to a version that is not ready"
        );
        assert!(table.revision > self.stored.revision);
        self.stored = table;
        self.confirmed = false;
        self.traffic_writes += 1;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Pass(ms) => {
                self.now_unix_ms += ms;
                self.tick(None, true, true);
            }
            Happening::Target(readiness) => self.target = readiness,
            Happening::Previous(readiness) => self.previous = readiness,
            Happening::Facts(facts) => self.facts = *facts,
            Happening::Confirm => self.confirmed = true,
            Happening::Kill(on) => self.killed = on,
            Happening::Tell(command) => self.tick(Some(command), true, true),
            Happening::CrashBeforeWrite => self.tick(None, true, false),
            Happening::CrashBeforeStore => self.tick(None, false, true),
            Happening::TableLost => {
                // Replicas go on with what they have; the table comes back from the state.
                let revision = self.stored.revision;
                self.stored = TrafficTable { revision, ..TrafficTable::empty("cancer", "cancer") };
                self.confirmed = false;
            }
        }
    }

    /// Lets the world recover and the rollout run until nothing changes.
    fn settle(&mut self) {
        self.target = Readiness::Ready;
        self.previous = Readiness::Ready;
        self.killed = false;
        for _ in 0..12 {
            self.now_unix_ms += 100;
            self.tick(None, true, true);
            self.confirmed = true;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn rollback_and_abort_from_any_state_end_at_stable(
        strategy in any_strategy(),
        happenings in proptest::collection::vec(happening(), 0..40),
        abort in any::<bool>(),
    ) {
        let mut world = world(false, strategy);
        for happening in happenings {
            world.happen(happening);
        }
        let reason = "stop".to_owned();
        let command = if abort { Command::Abort { reason } } else { Command::Rollback { reason } };
        let was_promoted = world.rollout.phase == Phase::Promoted;
        world.tick(Some(command), true, true);
        // An abort means nothing after promotion; everything else is at the version before.
        let stays = abort && was_promoted && !world.rollout.is_active();
        world.settle();
        let expected = if stays { target(2) } else { target(1) };
        prop_assert!(world.rollout.phase.is_final());
        prop_assert_eq!(world.stored.weights(), vec![(expected, 100)]);
    }

    #[test]
    fn a_rollback_writes_the_table_once(
        strategy in any_strategy(),
        happenings in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut world = world(false, strategy);
        for happening in happenings {
            world.happen(happening);
        }
        let command = Command::Rollback { reason: "stop".into() };
        if world.rollout.accepts(&command, world.killed).is_err() {
            return Ok(());
        }
        world.target = Readiness::Ready;
        world.previous = Readiness::Ready;
        let before = world.traffic_writes;
        world.tick(Some(command), true, true);
        prop_assert_eq!(world.traffic_writes, before + 1);
        prop_assert_eq!(world.stored.weights(), vec![(target(1), 100)], "the one write is the rollback");
        world.settle();
        prop_assert_eq!(world.traffic_writes, before + 1);
    }

    #[test]
    fn while_the_kill_switch_is_on_no_version_gains_traffic(
        first in any::<bool>(),
        strategy in any_strategy(),
        min_requests in 0_u64..30,
        happenings in proptest::collection::vec(happening(), 0..60),
    ) {
        let mut strategy = strategy;
        // Also steps that pass without a request.
        strategy.analysis.min_requests = min_requests;
        let mut world = world(first, strategy);
        let share = |world: &World| {
            let weights = world.stored.weights();
            weights.iter().find(|(served, _)| *served == target(2)).map_or(0, |(_, weight)| *weight)
        };
        for happening in happenings {
            // State and table are one transaction; what a lost table does is another law.
            if matches!(
                happening,
                Happening::CrashBeforeWrite | Happening::CrashBeforeStore | Happening::TableLost
            ) {
                continue;
            }
            let before = share(&world);
            world.happen(happening);
            prop_assert!(!world.killed || share(&world) <= before);
        }
    }

    #[test]
    fn a_first_deployment_never_serves_what_is_not_ready(
        happenings in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut world = world(true, Strategy::default());
        for happening in happenings {
            world.happen(happening);
        }
        world.settle();
        let weights = world.stored.weights();
        prop_assert!(weights.is_empty() || weights == vec![(target(2), 100)]);
        prop_assert_eq!(world.rollout.phase == Phase::Promoted, !weights.is_empty());
    }

    #[test]
    fn a_superseded_rollout_ends_in_one_step_with_its_traffic_at_stable(
        strategy in any_strategy(),
        happenings in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut world = world(false, strategy);
        for happening in happenings {
            world.happen(happening);
        }
        let supersede = Command::Supersede { by_version: "3".into() };
        prop_assert_eq!(world.rollout.accepts(&supersede, world.killed).is_ok(), world.rollout.is_active());
        if !world.rollout.is_active() {
            return Ok(());
        }
        let was_promoted = world.rollout.phase == Phase::Promoted;
        let ends_as = world.rollout.ends_as;
        world.tick(Some(supersede), true, true);
        prop_assert!(!world.rollout.is_active());
        if was_promoted {
            // It was about to be undone; the version stays stable until its successor is.
            prop_assert_eq!(world.rollout.phase, Phase::Promoted);
        } else {
            prop_assert_eq!(world.rollout.phase, ends_as.unwrap_or(Phase::Aborted));
            prop_assert_eq!(world.stored.weights(), vec![(target(1), 100)]);
            prop_assert_ne!(world.table_state(), TableState::Differs);
        }
    }

    #[test]
    fn a_rollout_whose_deployment_is_deleted_ends_in_one_step_and_writes_no_table(
        first in any::<bool>(),
        strategy in any_strategy(),
        happenings in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut world = world(first, strategy);
        for happening in happenings {
            world.happen(happening);
        }
        prop_assert_eq!(
            world.rollout.accepts(&Command::Delete, world.killed).is_ok(),
            world.rollout.is_active()
        );
        if !world.rollout.is_active() {
            return Ok(());
        }
        let (writes, was_promoted) = (world.traffic_writes, world.rollout.phase == Phase::Promoted);
        world.tick(Some(Command::Delete), true, true);
        prop_assert!(!world.rollout.is_active());
        prop_assert_eq!(world.rollout.phase == Phase::Promoted, was_promoted);
        prop_assert_eq!(world.traffic_writes, writes);
    }

    #[test]
    fn only_a_rollout_that_has_not_started_is_refused_and_it_never_serves(
        first in any::<bool>(),
        strategy in any_strategy(),
        happenings in proptest::collection::vec(happening(), 0..20),
    ) {
        let mut world = world(first, strategy);
        for happening in happenings {
            world.happen(happening);
        }
        let refuse = Command::Refuse { reason: "not servable".into() };
        let before = world.rollout.phase;
        prop_assert_eq!(
            world.rollout.accepts(&refuse, world.killed).is_ok(),
            before == Phase::Preparing
        );
        if before != Phase::Preparing {
            return Ok(());
        }
        world.tick(Some(refuse), true, true);
        prop_assert_eq!((world.rollout.phase, world.rollout.reason()), (Phase::Failed, "not servable"));
        world.settle();
        let expected = if first { vec![] } else { vec![(target(1), 100)] };
        prop_assert_eq!(world.stored.weights(), expected);
    }

    #[test]
    fn a_lost_write_is_made_up_for(
        strategy in any_strategy(),
        happenings in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut world = world(false, strategy);
        for happening in happenings {
            world.happen(happening);
        }
        world.target = Readiness::Ready;
        if !world.rollout.phase.is_final() {
            world.facts = good_facts();
            world.tick(None, true, true);
            let now_final = world.rollout.phase.is_final();
            prop_assert!(now_final || world.table_state() != TableState::Differs);
        }
    }

    #[test]
    fn a_rollout_survives_json(strategy in any_strategy(),
        happenings in proptest::collection::vec(happening(), 0..20)) {
        let mut world = world(false, strategy);
        for happening in happenings {
            world.happen(happening);
        }
        let json = serde_json::to_string(&world.rollout).expect("serialises");
        prop_assert_eq!(serde_json::from_str::<Rollout>(&json).expect("parses"), world.rollout);
    }
}
