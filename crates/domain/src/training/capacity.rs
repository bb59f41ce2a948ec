//! Which jobs start and on which node, which wait and for what, and which can never start.
//!
//! Jobs start in the order of their submission. A job that does not fit yet reserves what it asks for on the
//! node that lacks the least: a later job starts before it only where that node holds both, so that a large
//! job is not delayed indefinitely by small ones.
//!
//! The decision depends on its arguments alone, so that launchers that read the same rows agree on it.

use serde::{Deserialize, Serialize};

use super::spec::Resources;

/// Sums of decimal fractions of cores are compared with this tolerance.
const CPU_TOLERANCE: f64 = 1e-6;

/// What the jobs of a launcher's node may take together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// CPU cores.
    pub cpus: f64,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// GPUs.
    pub gpus: u32,
}

/// What becomes of a job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// It starts now.
    Start,
    /// It waits.
    Wait {
        /// Its place among those that wait, from 1.
        position: u32,
        /// For what.
        reason: String,
    },
    /// It asks for more than the machine has.
    Never {
        /// Of what, and how much there is.
        reason: String,
    },
}

impl Capacity {
    /// Why a job that asks for this can never start here; none where it can. The field is named as in a job's
    /// body.
    pub fn refusal(&self, asked: &Resources) -> Option<String> {
        let Resources { cpus, memory_bytes, gpus } = *asked;
        if gpus > self.gpus {
            let there = if self.gpus == 0 {
                "this launcher has no GPU".to_owned()
            } else {
                format!("this launcher has {}", self.gpus)
            };
            return Some(format!("resources.gpus: requests {gpus}, and {there}"));
        }
        if cpus > self.cpus + CPU_TOLERANCE {
            let there = self.cpus;
            return Some(format!("resources.cpus: requests {cpus} CPU cores, and this launcher has {there}"));
        }
        (memory_bytes > self.memory_bytes).then(|| {
            let there = self.memory_bytes;
            format!("resources.memory_bytes: requests {memory_bytes} bytes, and this launcher has {there}")
        })
    }

    /// What of the request is short when `taken` is in use; none where it fits.
    fn shortage(&self, taken: &Resources, asked: &Resources) -> Option<String> {
        let mut short = Vec::new();
        if asked.gpus > 0 && taken.gpus.saturating_add(asked.gpus) > self.gpus {
            short.push(format!("{} of {} GPUs", asked.gpus, self.gpus));
        }
        if taken.cpus + asked.cpus > self.cpus + CPU_TOLERANCE {
            short.push(format!("{} of {} CPU cores", asked.cpus, self.cpus));
        }
        if asked.memory_bytes > 0 && taken.memory_bytes.saturating_add(asked.memory_bytes) > self.memory_bytes
        {
            short.push(format!("{} of {} bytes of memory", asked.memory_bytes, self.memory_bytes));
        }
        (!short.is_empty()).then(|| short.join(" and "))
    }
}

/// A node that runs jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What its jobs may take together.
    pub capacity: Capacity,
    /// What those take that run there.
    pub used: Resources,
}

/// What becomes of a job that waits, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// What becomes of it.
    pub placement: Placement,
    /// Index of the node on which it starts, or for which it waits; none where it fits none.
    pub node: Option<usize>,
}

/// Why a job that asks for this can never start on any of these; none where it can. The field is named as in
/// a job's body.
pub fn refusal<'node>(
    capacities: impl IntoIterator<Item = &'node Capacity>,
    asked: &Resources,
) -> Option<String> {
    let capacities: Vec<&Capacity> = capacities.into_iter().collect();
    let first = capacities.first()?;
    if let [only] = capacities[..] {
        return only.refusal(asked);
    }
    if capacities.iter().any(|capacity| capacity.refusal(asked).is_none()) {
        return None;
    }
    let most = capacities.iter().fold(**first, |most, capacity| Capacity {
        cpus: most.cpus.max(capacity.cpus),
        memory_bytes: most.memory_bytes.max(capacity.memory_bytes),
        gpus: most.gpus.max(capacity.gpus),
    });
    let Resources { cpus, memory_bytes, gpus } = *asked;
    Some(if gpus > most.gpus {
        format!("resources.gpus: requests {gpus}, and no node has more than {}", most.gpus)
    } else if cpus > most.cpus + CPU_TOLERANCE {
        format!("resources.cpus: requests {cpus} CPU cores, and no node has more than {}", most.cpus)
    } else if memory_bytes > most.memory_bytes {
        let there = most.memory_bytes;
        format!("resources.memory_bytes: requests {memory_bytes} bytes, and no node has more than {there}")
    } else {
        format!(
            "resources: requests {cpus} CPU cores, {memory_bytes} bytes of memory and {gpus} GPUs, and no \
             node has all of them"
        )
    })
}

/// What several requests come to.
pub fn total<'asked>(asked: impl IntoIterator<Item = &'asked Resources>) -> Resources {
    asked.into_iter().fold(Resources { cpus: 0.0, memory_bytes: 0, gpus: 0 }, |sum, one| Resources {
        cpus: sum.cpus + one.cpus,
        memory_bytes: sum.memory_bytes.saturating_add(one.memory_bytes),
        gpus: sum.gpus.saturating_add(one.gpus),
    })
}

/// Decides about jobs of one machine in the order of their submission, given what running ones take.
pub fn place(capacity: &Capacity, running: &Resources, waiting: &[Resources]) -> Vec<Placement> {
    let node = Node { name: String::new(), capacity: *capacity, used: *running };
    place_on(&[node], waiting).into_iter().map(|placed| placed.placement).collect()
}

/// Decides about jobs in the order of their submission. A job starts on the node that has the most CPU cores
/// left afterwards; of equal ones, on the first.
pub fn place_on(nodes: &[Node], waiting: &[Resources]) -> Vec<Placed> {
    let mut nodes = nodes.to_vec();
    let mut position = 0;
    let mut decide = |asked: &Resources| {
        if nodes.is_empty() {
            position += 1;
            let reason = "waits for a launcher that runs jobs".to_owned();
            return Placed { placement: Placement::Wait { position, reason }, node: None };
        }
        if let Some(reason) = refusal(nodes.iter().map(|node| &node.capacity), asked) {
            return Placed { placement: Placement::Never { reason }, node: None };
        }
        let fits = |node: &Node| node.capacity.shortage(&node.used, asked).is_none();
        if let Some(index) = emptiest(&nodes, asked, fits) {
            // It fits next to everything that runs and everything that waits before it.
            nodes[index].used = total([&nodes[index].used, asked]);
            return Placed { placement: Placement::Start, node: Some(index) };
        }
        position += 1;
        let index = emptiest(&nodes, asked, |_| true);
        let short = index.and_then(|index| nodes[index].capacity.shortage(&nodes[index].used, asked));
        let reason = format!("waits for {}, which other jobs use or wait for", short.unwrap_or_default());
        // A job that waits reserves its share.
        if let Some(index) = index {
            nodes[index].used = total([&nodes[index].used, asked]);
        }
        Placed { placement: Placement::Wait { position, reason }, node: index }
    };
    waiting.iter().map(&mut decide).collect()
}

/// The node with the most CPU cores left, of those that could hold the job if they were idle.
fn emptiest(nodes: &[Node], asked: &Resources, wanted: impl Fn(&Node) -> bool) -> Option<usize> {
    let left = |node: &Node| node.capacity.cpus - node.used.cpus;
    let mut best: Option<usize> = None;
    for (index, node) in nodes.iter().enumerate() {
        let better = best.is_none_or(|best| left(node) > left(&nodes[best]) + CPU_TOLERANCE);
        if better && node.capacity.refusal(asked).is_none() && wanted(node) {
            best = Some(index);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MACHINE: Capacity = Capacity { cpus: 4.0, memory_bytes: 1_000, gpus: 1 };
    const IDLE: Resources = Resources { cpus: 0.0, memory_bytes: 0, gpus: 0 };

    fn asked(cpus: f64, memory_bytes: u64, gpus: u32) -> Resources {
        Resources { cpus, memory_bytes, gpus }
    }

    fn word(placement: &Placement) -> String {
        match placement {
            Placement::Start => "start".to_owned(),
            Placement::Wait { position, .. } => format!("wait {position}"),
            Placement::Never { reason } => reason.split(':').next().unwrap_or_default().to_owned(),
        }
    }

    fn words(running: Resources, waiting: &[Resources]) -> Vec<String> {
        place(&MACHINE, &running, waiting).iter().map(word).collect()
    }

    #[test]
    fn what_can_never_start_is_refused_by_field_and_holds_up_no_other_job() {
        let waiting = [asked(64.0, 0, 0), asked(1.0, 0, 2), asked(1.0, 2_000, 0), asked(4.0, 1_000, 1)];
        let refused = ["resources.cpus", "resources.gpus", "resources.memory_bytes", "start"];
        assert_eq!(words(IDLE, &waiting), refused);
        let none = Capacity { gpus: 0, ..MACHINE };
        assert_eq!(
            none.refusal(&asked(1.0, 0, 1)).expect("there is none"),
            "resources.gpus: requests 1, and this launcher has no GPU"
        );
    }

    #[test]
    fn a_job_that_waits_is_not_overtaken_by_one_that_would_delay_it() {
        let busy = asked(2.0, 0, 1);
        assert_eq!(words(busy, &[asked(3.0, 0, 0), asked(1.0, 0, 0)]), ["wait 1", "wait 2"]);
        assert_eq!(words(busy, &[asked(1.0, 0, 1), asked(1.0, 0, 0)]), ["wait 1", "start"]);
        let Placement::Wait { reason, .. } = &place(&MACHINE, &busy, &[asked(3.0, 0, 1)])[0] else {
            panic!("it does not fit");
        };
        assert_eq!(reason, "waits for 1 of 1 GPUs and 3 of 4 CPU cores, which other jobs use or wait for");
    }

    #[test]
    fn tenths_of_cores_add_up() {
        let tenths = vec![asked(0.1, 0, 0); 41];
        let started = words(IDLE, &tenths).iter().filter(|word| *word == "start").count();
        assert_eq!(started, 40);
    }

    fn node(name: &str, cpus: f64, gpus: u32, used_cpus: f64) -> Node {
        let capacity = Capacity { cpus, memory_bytes: 1_000, gpus };
        Node { name: name.to_owned(), capacity, used: asked(used_cpus, 0, 0) }
    }

    #[test]
    fn jobs_start_on_the_emptiest_node_and_a_large_one_holds_up_only_the_node_that_it_waits_for() {
        let nodes = [node("a", 4.0, 0, 2.0), node("b", 8.0, 1, 3.0)];
        let of = |waiting: &[Resources]| -> Vec<(String, Option<usize>)> {
            place_on(&nodes, waiting).iter().map(|placed| (word(&placed.placement), placed.node)).collect()
        };
        let start = |node| ("start".to_owned(), Some(node));
        assert_eq!(of(&[asked(1.0, 0, 0); 4]), [start(1), start(1), start(1), start(0)]);
        assert_eq!(of(&[asked(1.0, 0, 1)]), [start(1)]);
        // Eight cores are on `b` alone, and are kept free there.
        let mixed = of(&[asked(8.0, 0, 0), asked(1.0, 0, 0), asked(2.0, 0, 0)]);
        assert_eq!(mixed, [("wait 1".to_owned(), Some(1)), start(0), ("wait 2".to_owned(), Some(0))]);
    }

    #[test]
    fn what_no_node_has_is_refused_and_without_a_node_jobs_wait() {
        let nodes = [node("a", 8.0, 0, 0.0), node("b", 2.0, 2, 0.0)];
        let reason = |asked: Resources| refusal(nodes.iter().map(|node| &node.capacity), &asked);
        assert_eq!(reason(asked(8.0, 0, 0)), None);
        assert_eq!(
            reason(asked(9.0, 0, 0)).as_deref(),
            Some("resources.cpus: requests 9 CPU cores, and no node has more than 8")
        );
        assert_eq!(
            reason(asked(1.0, 0, 3)).as_deref(),
            Some("resources.gpus: requests 3, and no node has more than 2")
        );
        let both = reason(asked(4.0, 0, 1)).expect("no node has both");
        assert!(both.ends_with("and no node has all of them"), "{both}");
        let placed = place_on(&[], &[asked(1.0, 0, 0)]);
        assert_eq!((word(&placed[0].placement), placed[0].node), ("wait 1".to_owned(), None));
    }

    fn any_request() -> impl Strategy<Value = Resources> {
        (1_u32..60, 0_u64..1_500, 0_u32..3).prop_map(|(tenths, memory_bytes, gpus)| Resources {
            cpus: f64::from(tenths) / 10.0,
            memory_bytes,
            gpus,
        })
    }

    proptest! {
        /// No node is ever overcommitted, and a job starts where some node has room next to what waits.
        #[test]
        fn no_node_is_overcommitted(
            waiting in proptest::collection::vec(any_request(), 0..16),
            cpus in proptest::collection::vec(1_u32..8, 1..4),
        ) {
            let nodes: Vec<Node> =
                cpus.iter().map(|cpus| node("n", f64::from(*cpus), 1, 0.0)).collect();
            let placed = place_on(&nodes, &waiting);
            for (index, node) in nodes.iter().enumerate() {
                let here = waiting.iter().zip(&placed)
                    .filter(|(_, placed)| placed.placement == Placement::Start && placed.node == Some(index));
                let sum = total(here.map(|(asked, _)| asked));
                prop_assert!(sum.cpus <= node.capacity.cpus + CPU_TOLERANCE);
                prop_assert!(sum.memory_bytes <= node.capacity.memory_bytes);
                prop_assert!(sum.gpus <= node.capacity.gpus);
            }
        }

        /// What runs never takes more than there is; the first job that can start does; the jobs before one
        /// that waits are not delayed by those after it.
        #[test]
        fn the_machine_is_never_overcommitted(waiting in proptest::collection::vec(any_request(), 0..12)) {
            let placed = place(&MACHINE, &IDLE, &waiting);
            let started = waiting.iter().zip(&placed)
                .filter(|(_, placement)| **placement == Placement::Start);
            let sum = total(started.map(|(asked, _)| asked));
            prop_assert!(sum.cpus <= MACHINE.cpus + CPU_TOLERANCE);
            prop_assert!(sum.memory_bytes <= MACHINE.memory_bytes && sum.gpus <= MACHINE.gpus);
            let first = waiting.iter().position(|asked| MACHINE.refusal(asked).is_none());
            prop_assert!(first.is_none_or(|index| placed[index] == Placement::Start));
            for cut in 0..waiting.len() {
                prop_assert_eq!(&place(&MACHINE, &IDLE, &waiting[..cut])[..], &placed[..cut]);
            }
            let places: Vec<u32> = placed.iter().filter_map(|placement| match placement {
                Placement::Wait { position, .. } => Some(*position),
                _ => None,
            }).collect();
            prop_assert!(places.iter().copied().eq(1..=u32::try_from(places.len()).expect("few")));
        }
    }
}
