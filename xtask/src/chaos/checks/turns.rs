//! A version answers in its turn: after it has got traffic, and until all of it was taken away.

use std::collections::BTreeMap;

use super::some::some;
use crate::chaos::facts::Event;
use crate::chaos::faults::{Part, Server, Service};
use crate::chaos::history::{Harmed, History};
use crate::chaos::journal::Prediction;

/// Longest time between the commit of a traffic table and the last answer by an older one, while nothing is
/// harmed.
const FOLLOW_MS: u64 = 5_000;
/// Times of events are cut to milliseconds.
const ROUNDING_MS: u64 = 1;

/// Answers that are not those of the version that they name.
pub(in crate::chaos) fn wrong_constants(predictions: &[Prediction]) -> Vec<String> {
    let wrong = predictions.iter().filter(|one| one.score != f64::from(one.version) + one.shift);
    let told = |one: &Prediction| {
        format!("{} answered {} as version {} at {}", one.replica, one.score, one.version, one.to_ms)
    };
    some(wrong.map(told).collect())
}

/// When a version may answer, by the events of its rollouts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Turn {
    /// The first table that gives it traffic.
    from_ms: Option<u64>,
    /// The last table that takes all traffic from it.
    to_ms: Option<u64>,
}

fn turns(events: &[Event]) -> BTreeMap<String, Turn> {
    let mut turns = BTreeMap::<String, Turn>::new();
    for event in events {
        let Some(what) = event.kind.strip_prefix("slipway.rollout-controller.rollout.") else { continue };
        let version = |field: &str| event.data[field].as_str().map(str::to_owned);
        let Some(to) = version("to_version") else { continue };
        let gains = what == "promoted" || what == "advanced" && event.data["weight_percent"] != 0;
        if gains {
            turns.entry(to).or_default().from_ms.get_or_insert(event.time_ms);
            if let Some(from) = version("from_version").filter(|_| what == "promoted") {
                turns.entry(from).or_default().to_ms = Some(event.time_ms);
            }
        } else if matches!(what, "rolled-back" | "aborted" | "failed") {
            turns.entry(to).or_default().to_ms = Some(event.time_ms);
        }
    }
    turns
}

/// Answers by a version before it had traffic, or after all of it was taken away, apart from the time in
/// which something was harmed that a table passes on its way to the replica.
pub(in crate::chaos) fn out_of_turn(
    predictions: &[Prediction],
    events: &[Event],
    history: &History,
) -> Vec<String> {
    let turns = turns(events);
    let mut found = Vec::new();
    for one in predictions {
        let turn = turns.get(&one.version.to_string()).copied().unwrap_or_default();
        let told = format!("{} answered by version {} at {}", one.replica, one.version, one.to_ms);
        match turn.from_ms {
            None => found.push(format!("{told}, which never had traffic")),
            Some(from_ms) if one.to_ms + ROUNDING_MS < from_ms => {
                found.push(format!(
                    "{told}, {} ms before its first share of the traffic",
                    from_ms - one.to_ms
                ));
            }
            Some(_) => {}
        }
        let Some(to_ms) = turn.to_ms.filter(|to_ms| *to_ms + FOLLOW_MS < one.from_ms) else { continue };
        let on_the_way = |harmed| match harmed {
            Harmed::Machine | Harmed::Overload => true,
            Harmed::Part(Part::Server(server)) => server != Server::S3,
            Harmed::Part(Part::Node(_)) => true,
            Harmed::Part(Part::Replica(replica)) | Harmed::Link(replica, _) => {
                replica == one.replica || replica.service == Service::RolloutController
            }
            Harmed::Part(Part::Agent) => false,
        };
        let quiet_ms = history.quiet_ms(to_ms, one.from_ms, on_the_way);
        if quiet_ms > FOLLOW_MS {
            found.push(format!("{told}, {quiet_ms} quiet ms after its last share of the traffic"));
        }
    }
    some(found)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{answer, rollout};
    use super::*;

    #[test]
    fn a_version_answers_between_its_first_and_its_last_share_of_the_traffic() {
        let events = [
            rollout("started", "2", 0, 1_000),
            rollout("advanced", "2", 20, 2_000),
            rollout("promoted", "2", 100, 3_000),
        ];
        let events: Vec<Event> = [rollout("promoted", "1", 100, 0)].into_iter().chain(events).collect();
        let mut history = History::default();
        let found = |one: Prediction, history: &History| out_of_turn(&[one], &events, history).len();
        assert_eq!(found(answer(2, 1_500), &history), 1, "before its rollout gave it traffic");
        assert_eq!(found(answer(2, 2_000), &history), 0);
        assert_eq!(found(answer(3, 2_000), &history), 1, "a version without a rollout");
        assert_eq!(found(answer(1, 3_000 + FOLLOW_MS), &history), 0);
        assert_eq!(found(answer(1, 9_000), &history), 1, "long after the promotion of the next one");
        // Not while the machine stood still.
        history.pause(3_000, 8_500);
        assert_eq!(found(answer(1, 9_000), &history), 0);
        assert_eq!(wrong_constants(&[answer(1, 0), Prediction { score: 2.0, ..answer(1, 0) }]).len(), 1);
    }
}
