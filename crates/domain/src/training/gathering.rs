//! The processes of a distributed job: when they start, and when they end. All of them run or none, and all
//! from the same checkpoint.
//!
//! Each process restores the newest checkpoint that it can read, and tells which. Where one could not read
//! the newest, the others go back to the one that it could. Going back never ends up at a newer one, so that
//! they agree in the end.
//!
//! What ends one process ends all. An attempt is over when all of them have ended, so that nothing of it runs
//! beside the next one.

/// What the processes of an attempt have told so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered {
    /// Whether all of them have restored a checkpoint, or know that there is none.
    pub all_ready: bool,
    /// Of the checkpoints that those which train have restored, the prefix of the oldest; empty where one of
    /// them has restored nothing.
    pub oldest: String,
    /// The same of the newest.
    pub newest: String,
    /// How many have not ended.
    pub left: u32,
    /// Whether all that train have ended with 0.
    pub trained: bool,
    /// Whether the agent of one was told to end before any failed.
    pub stopping: bool,
    /// Whether one has failed before any was told to end.
    pub failed: bool,
}

/// What a process does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// It waits for the others.
    Wait,
    /// It restores this older checkpoint in place of its own; nothing where the prefix is empty.
    Restore {
        /// Prefix of the checkpoint.
        prefix: String,
    },
    /// It runs its command.
    Run,
    /// It asks its command to end, with a grace period.
    Stop,
    /// It ends its command at once.
    Kill,
}

/// How all processes of an attempt have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Those that train have ended with 0.
    Succeeded,
    /// One has failed.
    Failed,
    /// One was told to end from outside.
    Disrupted,
}

/// What a process does that has restored the checkpoint with the prefix `own`, empty for none. Prefixes of
/// one job are in the order of their steps; see [`super::upload_prefix`].
pub fn order(seen: &Gathered, trains: bool, own: &str) -> Order {
    // Those that do not train serve the others.
    if seen.trained {
        return Order::Stop;
    }
    if seen.failed {
        return Order::Kill;
    }
    if seen.stopping {
        return Order::Stop;
    }
    if !seen.all_ready {
        return Order::Wait;
    }
    if trains && own > seen.oldest.as_str() {
        return Order::Restore { prefix: seen.oldest.clone() };
    }
    // A process that goes back may find that it has to go back further.
    if seen.oldest == seen.newest { Order::Run } else { Order::Wait }
}

/// How the attempt has ended; `None` while a process runs.
pub fn end(seen: &Gathered) -> Option<End> {
    match seen {
        Gathered { left: 1.., .. } => None,
        Gathered { trained: true, .. } => Some(End::Succeeded),
        Gathered { failed: true, .. } => Some(End::Failed),
        _ => Some(End::Disrupted),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::training::upload_prefix;

    fn gathered(processes: &[Option<String>]) -> Gathered {
        let left = u32::try_from(processes.len()).unwrap();
        Gathered {
            all_ready: processes.iter().all(Option::is_some),
            oldest: processes.iter().flatten().min().cloned().unwrap_or_default(),
            newest: processes.iter().flatten().max().cloned().unwrap_or_default(),
            left,
            trained: false,
            stopping: false,
            failed: false,
        }
    }

    #[test]
    fn nobody_starts_before_the_last_one_is_ready() {
        let told = Some("checkpoints/j/000000000500/1-a".to_owned());
        let own = told.clone().unwrap();
        assert_eq!(order(&gathered(&[told.clone(), None]), true, &own), Order::Wait);
        assert_eq!(order(&gathered(&[told.clone(), told.clone()]), true, &own), Order::Run);
        let none = Some(String::new());
        let seen = gathered(&[told, none]);
        assert_eq!(order(&seen, true, &own), Order::Restore { prefix: String::new() });
        assert_eq!(order(&seen, true, ""), Order::Wait, "the other one has not gone back yet");
        assert_eq!(order(&seen, false, ""), Order::Wait, "a parameter server neither");
    }

    #[test]
    fn what_ends_one_ends_all_and_the_attempt_ends_with_the_last() {
        let ready = Some(String::new());
        let both = gathered(&[ready.clone(), ready]);
        let failed = Gathered { left: 1, failed: true, ..both.clone() };
        assert_eq!((order(&failed, true, ""), end(&failed)), (Order::Kill, None));
        assert_eq!(end(&Gathered { left: 0, ..failed }), Some(End::Failed));
        let stopping = Gathered { left: 1, stopping: true, ..both.clone() };
        assert_eq!((order(&stopping, true, ""), end(&stopping)), (Order::Stop, None));
        assert_eq!(end(&Gathered { left: 0, ..stopping }), Some(End::Disrupted));
        let trained = Gathered { left: 1, trained: true, ..both };
        assert_eq!((order(&trained, false, ""), end(&trained)), (Order::Stop, None), "a parameter server");
        let ended = Gathered { left: 0, stopping: true, failed: true, ..trained };
        assert_eq!(end(&ended), Some(End::Succeeded), "how a parameter server ends then does not matter");
    }

    proptest! {
        /// Whatever each process can read, they end up with one checkpoint, and with the newest that all of
        /// them can read.
        #[test]
        fn all_agree_on_the_newest_checkpoint_that_each_can_read(
            readable in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 5), 1..6),
        ) {
            let prefixes: Vec<String> = (0..5).map(|step| upload_prefix("b", step, 1, "x")).collect();
            // The newest one up to `limit` that a process can read.
            let restore = |process: usize, limit: &str| -> String {
                let mut known = prefixes.iter().zip(&readable[process]).rev();
                let found = known.find(|(prefix, can)| **can && prefix.as_str() <= limit);
                found.map_or(String::new(), |(prefix, _)| prefix.clone())
            };
            let mut state: Vec<Option<String>> =
                (0..readable.len()).map(|of| Some(restore(of, "z"))).collect();
            for round in 0.. {
                prop_assert!(round <= 6 * readable.len(), "they do not agree");
                let seen = gathered(&state);
                let told: Vec<Order> =
                    state.iter().map(|own| order(&seen, true, own.as_ref().unwrap())).collect();
                if told.contains(&Order::Run) {
                    prop_assert!(told.iter().all(|told| *told == Order::Run), "some start: {:?}", told);
                    break;
                }
                for (process, told) in told.iter().enumerate() {
                    if let Order::Restore { prefix } = told {
                        state[process] = Some(restore(process, prefix));
                    }
                }
            }
            let common = (0..5).rev().find(|step| readable.iter().all(|can| can[*step]));
            let expected = common.map_or(String::new(), |step| prefixes[step].clone());
            prop_assert!(state.iter().all(|own| *own == Some(expected.clone())), "{:?}", state);
        }
    }
}
