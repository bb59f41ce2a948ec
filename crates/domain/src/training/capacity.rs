//! Which jobs start on a machine, which wait and for what, and which can never start there.
//!
//! Jobs start in the order of their submission. A job that does not fit yet reserves what it asks for: a
//! later job starts before it only where the machine holds both, so that a large job is not delayed
//! indefinitely by small ones.

use serde::{Deserialize, Serialize};

use super::spec::Resources;

/// Sums of decimal fractions of cores are compared with this tolerance.
const CPU_TOLERANCE: f64 = 1e-6;

/// What the jobs of a launcher may take together.
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

/// What several requests come to.
pub fn total<'asked>(asked: impl IntoIterator<Item = &'asked Resources>) -> Resources {
    asked.into_iter().fold(Resources { cpus: 0.0, memory_bytes: 0, gpus: 0 }, |sum, one| Resources {
        cpus: sum.cpus + one.cpus,
        memory_bytes: sum.memory_bytes.saturating_add(one.memory_bytes),
        gpus: sum.gpus.saturating_add(one.gpus),
    })
}

/// Decides about jobs in the order of their submission, given what running ones take.
pub fn place(capacity: &Capacity, running: &Resources, waiting: &[Resources]) -> Vec<Placement> {
    let mut taken = *running;
    let mut position = 0;
    let mut decide = |asked: &Resources| {
        if let Some(reason) = capacity.refusal(asked) {
            return Placement::Never { reason };
        }
        let placement = match capacity.shortage(&taken, asked) {
            // It fits next to everything that runs and everything that waits before it.
            None => Placement::Start,
            Some(short) => {
                position += 1;
                let reason = format!("waits for {short}, which other jobs use or wait for");
                Placement::Wait { position, reason }
            }
        };
        // A job that waits reserves its share.
        taken = total([&taken, asked]);
        placement
    };
    waiting.iter().map(&mut decide).collect()
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

    fn any_request() -> impl Strategy<Value = Resources> {
        (1_u32..60, 0_u64..1_500, 0_u32..3).prop_map(|(tenths, memory_bytes, gpus)| Resources {
            cpus: f64::from(tenths) / 10.0,
            memory_bytes,
            gpus,
        })
    }

    proptest! {
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
