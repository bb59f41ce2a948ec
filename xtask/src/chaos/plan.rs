//! The plan of a run: which fault happens when. A pure function of the seed, so that a run can be repeated.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::faults::{Cut, Fault, Harm, NATS_NODES, Part, REPLICAS, Replica, Server, Service, Stop};

/// Replicas of one service that may be harmed at once: one remains, so that requests can be answered.
const MAX_HARMED: usize = REPLICAS - 1;
/// Draws for one fault before it is left out: everything that it could hit is being harmed already.
const MAX_DRAWS: usize = 50;
/// A part is left alone for this long after it was harmed, so that it recovers now and then.
const REST_MS: u64 = 2_000;
/// Longer for NATS: a node that returns catches up with the others first. Only one node is harmed at a time,
/// so that a majority remains; or all are.
const NATS_REST_MS: u64 = 6_000;

/// The faults of a seed, in order of time: `count` of them, evenly distributed over `span_ms` with jitter.
pub(super) fn plan(seed: u64, count: usize, span_ms: u64) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults: Vec<Fault> = Vec::new();
    let slot_ms = span_ms / count.max(1) as u64;
    for slot in 0..count as u64 {
        let at_ms = slot * slot_ms + random.random_range(0..slot_ms.max(1));
        let drawn =
            (0..MAX_DRAWS).map(|_| draw(&mut random, at_ms)).find(|fault| is_possible(fault, &faults));
        if let Some(fault) = drawn {
            faults.push(Fault { number: faults.len() + 1, ..fault });
        }
    }
    faults
}

/// Whether a fault can be added to earlier ones.
fn is_possible(fault: &Fault, earlier: &[Fault]) -> bool {
    let ongoing = || earlier.iter().filter(|other| other.ends_ms() + rest_ms(other.part) > fault.at_ms);
    if ongoing().any(|other| other.part == fault.part || is_nats(other.part) && is_nats(fault.part)) {
        return false;
    }
    let Part::Replica(replica) = fault.part else { return true };
    let of_service =
        |other: &&Fault| matches!(other.part, Part::Replica(of) if of.service == replica.service);
    ongoing().filter(of_service).count() < MAX_HARMED
}

const fn is_nats(part: Part) -> bool {
    matches!(part, Part::Node(_) | Part::Server(Server::Nats))
}

const fn rest_ms(part: Part) -> u64 {
    if is_nats(part) { NATS_REST_MS } else { REST_MS }
}

fn draw(random: &mut StdRng, at_ms: u64) -> Fault {
    let replica = Replica {
        service: Service::ALL[random.random_range(0..Service::ALL.len())],
        number: random.random_range(0..REPLICAS),
    };
    let fault = |part, harm, for_ms| Fault { number: 0, at_ms, part, harm, for_ms };
    let hang_ms = random.random_range(200..8_000);
    let down_ms = random.random_range(0..3_000);
    match random.random_range(0..100) {
        0..22 => fault(Part::Replica(replica), Harm::Kill, down_ms),
        22..42 => fault(Part::Replica(replica), Harm::Hang, hang_ms),
        42..62 => fault(Part::Replica(replica), cut(random, replica.service), hang_ms),
        62..68 => {
            let by_ms = random.random_range(500..5_000) * if random.random_bool(0.5) { 1 } else { -1 };
            fault(Part::Replica(replica), Harm::Clock { by_ms }, hang_ms)
        }
        68..74 => fault(Part::Agent, Harm::Kill, 0),
        74..78 => fault(Part::Agent, Harm::Hang, hang_ms),
        78..84 => {
            let stop = [Stop::Orderly, Stop::Immediate, Stop::Kill][random.random_range(0..3usize)];
            fault(Part::Server(Server::Postgres), Harm::Restart(stop), down_ms / 2)
        }
        84..94 => {
            let node = Part::Node(random.random_range(0..NATS_NODES));
            let harm = [server(random), Harm::Full, Harm::CutOff][random.random_range(0..3usize)];
            fault(node, harm, if is_short(harm) { down_ms } else { hang_ms })
        }
        94..96 => {
            let harm = server(random);
            fault(Part::Server(Server::Nats), harm, if is_short(harm) { down_ms } else { hang_ms })
        }
        _ => {
            let harm = if random.random_range(0..4u8) == 0 { Harm::Full } else { server(random) };
            fault(Part::Server(Server::S3), harm, if is_short(harm) { down_ms } else { hang_ms })
        }
    }
}

/// A cut between a replica and one of its servers; of NATS, it may still reach one node.
fn cut(random: &mut StdRng, service: Service) -> Harm {
    let servers = service.servers();
    let from = servers[random.random_range(0..servers.len())];
    let node = random.random_range(0..NATS_NODES);
    let except = (from == Server::Nats && random.random_bool(0.5)).then_some(node);
    Harm::Cut { from, except, how: if random.random_bool(0.5) { Cut::Silent } else { Cut::Reset } }
}

fn server(random: &mut StdRng) -> Harm {
    [Harm::Hang, Harm::Restart(Stop::Kill), Harm::Restart(Stop::Orderly)][random.random_range(0..3usize)]
}

const fn is_short(harm: Harm) -> bool {
    matches!(harm, Harm::Restart(_))
}

/// One thing to do at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action {
    /// Since the start of the faults.
    pub(super) at_ms: u64,
    pub(super) fault: Fault,
    /// Whether the fault begins or ends.
    pub(super) begins: bool,
}

/// Beginnings and ends of faults in order of time.
pub(super) fn timeline(faults: &[Fault]) -> Vec<Action> {
    let action = |fault: &Fault, begins| Action {
        at_ms: if begins { fault.at_ms } else { fault.ends_ms() },
        fault: *fault,
        begins,
    };
    let mut actions: Vec<Action> =
        faults.iter().flat_map(|fault| [action(fault, true), action(fault, false)]).collect();
    // Stable: a fault without a duration begins before it ends.
    actions.sort_by_key(|action| action.at_ms);
    actions
}

#[cfg(test)]
mod tests {
    use super::super::{SHORT_FAULTS, SHORT_SEED};
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another_one() {
        assert_eq!(plan(7, 200, 600_000), plan(7, 200, 600_000));
        assert_ne!(plan(7, 200, 600_000), plan(8, 200, 600_000));
    }

    #[test]
    fn a_plan_has_the_faults_asked_for_and_leaves_one_replica_of_each_service_alone() {
        for seed in 0..50 {
            let faults = plan(seed, 40, 90_000);
            assert!(faults.len() >= 38, "seed {seed}: {}", faults.len());
            for fault in &faults {
                let during = |other: &&Fault| other.at_ms <= fault.at_ms && fault.at_ms < other.ends_ms();
                for service in Service::ALL {
                    let of = |other: &&Fault| matches!(other.part, Part::Replica(r) if r.service == service);
                    let harmed = faults.iter().filter(during).filter(of).count();
                    assert!(harmed < REPLICAS, "seed {seed}: all replicas of {service:?} at {}", fault.at_ms);
                }
                let same = faults.iter().filter(during).filter(|other| other.part == fault.part);
                assert!(same.count() <= 1, "seed {seed}: {fault} during another fault of it");
            }
        }
    }

    #[test]
    fn a_majority_of_nats_is_harmed_only_by_a_fault_of_all_nodes() {
        for seed in 0..50 {
            let faults = plan(seed, 200, 300_000);
            let nats: Vec<&Fault> = faults.iter().filter(|fault| is_nats(fault.part)).collect();
            assert!(nats.len() > 5, "seed {seed}");
            for pair in nats.windows(2) {
                assert!(pair[0].ends_ms() < pair[1].at_ms, "seed {seed}: {} and {}", pair[0], pair[1]);
            }
        }
    }

    #[test]
    fn every_kind_of_fault_occurs_within_some_hundred() {
        let faults = plan(1, 1_000, 3_000_000);
        let any = |wanted: fn(&Fault) -> bool| faults.iter().any(wanted);
        assert!(any(|fault| fault.harm == Harm::Kill && fault.part == Part::Agent));
        assert!(any(|fault| matches!(fault.harm, Harm::Cut { how: Cut::Silent, .. })));
        assert!(any(|fault| matches!(fault.harm, Harm::Clock { by_ms: ..0 })));
        assert!(any(|fault| matches!(fault.harm, Harm::Cut { except: Some(_), .. })));
        assert!(any(|fault| fault.harm == Harm::Full && fault.part == Part::Server(Server::S3)));
        assert!(any(
            |fault| fault.harm == Harm::Restart(Stop::Kill) && fault.part == Part::Server(Server::Nats)
        ));
        for harm in [Harm::Full, Harm::CutOff, Harm::Hang, Harm::Restart(Stop::Kill)] {
            let is = |fault: &&Fault| fault.harm == harm && matches!(fault.part, Part::Node(_));
            assert!(faults.iter().any(|fault| is(&fault)), "{harm:?}");
        }
        for stop in [Stop::Orderly, Stop::Immediate, Stop::Kill] {
            let is = |fault: &&Fault| {
                fault.harm == Harm::Restart(stop) && fault.part == Part::Server(Server::Postgres)
            };
            assert!(faults.iter().any(|fault| is(&fault)));
        }
        for replica in Replica::all() {
            assert!(faults.iter().any(|fault| fault.part == Part::Replica(replica)), "{replica}");
        }
    }

    #[test]
    fn the_run_of_the_test_suite_has_faults_of_all_kinds() {
        let faults = plan(SHORT_SEED, SHORT_FAULTS, SHORT_FAULTS as u64 * 3_000);
        let any = |wanted: fn(&Fault) -> bool| faults.iter().any(wanted);
        let replica = |fault: &Fault| matches!(fault.part, Part::Replica(_));
        assert!(faults.iter().any(|fault| replica(fault) && fault.harm == Harm::Kill));
        assert!(faults.iter().any(|fault| replica(fault) && fault.harm == Harm::Hang));
        assert!(any(|fault| fault.part == Part::Agent && fault.harm == Harm::Kill));
        assert!(any(|fault| matches!(fault.harm, Harm::Clock { .. })));
        for wanted in [Cut::Silent, Cut::Reset] {
            assert!(faults.iter().any(|fault| matches!(fault.harm, Harm::Cut { how, .. } if how == wanted)));
        }
        for server in [Server::Postgres, Server::S3] {
            let is = |fault: &Fault| fault.part == Part::Server(server) && is_short(fault.harm);
            assert!(faults.iter().any(is), "{server:?}");
        }
        for harm in [Harm::Full, Harm::CutOff, Harm::Restart(Stop::Kill)] {
            let is = |fault: &Fault| matches!(fault.part, Part::Node(_)) && fault.harm == harm;
            assert!(faults.iter().any(is), "{harm:?}");
        }
    }

    #[test]
    fn a_timeline_begins_each_fault_before_it_ends_it() {
        let faults = plan(3, 100, 300_000);
        let actions = timeline(&faults);
        assert_eq!(actions.len(), faults.len() * 2);
        assert!(actions.is_sorted_by_key(|action| action.at_ms));
        for fault in &faults {
            let place = |begins| {
                let same = |action: &Action| action.fault == *fault && action.begins == begins;
                actions.iter().position(same).unwrap()
            };
            assert!(place(true) < place(false));
        }
    }
}
