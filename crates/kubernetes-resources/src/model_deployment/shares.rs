//! Which share of the traffic each version receives, where each has pods of its own.
//!
//! The traffic table says which share is wanted. A version receives no more of it than its ready pods can
//! answer, measured by the version that has most of them: the rest stays where it was until there are more.
//! A share that a version has is not taken away because one of its pods is gone for a moment.

use serde::{Deserialize, Serialize};
use slipway_api::rest::rollouts::TrafficTable;
use utoipa::ToSchema;

const WHOLE: u8 = 100;

/// The share of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    /// The version.
    pub version: String,
    /// Percentage of the traffic.
    pub percent: u8,
}

/// The versions that a table names, shadows included.
pub fn versions(table: &TrafficTable) -> Vec<String> {
    let candidates = table.candidates.iter().map(|weighted| &weighted.target);
    let shadows = table.shadows.iter().map(|shadow| &shadow.target);
    let targets = table.stable.iter().chain(candidates).chain(shadows).chain(&table.warm);
    let mut versions: Vec<String> = targets.map(|target| target.version.clone()).collect();
    versions.sort();
    versions.dedup();
    versions
}

/// The shares that a table asks for: the stable version first, then candidates, then those that only stand
/// by.
fn wanted(table: &TrafficTable) -> Vec<Share> {
    let candidates: u8 = table.candidates.iter().map(|weighted| weighted.weight_percent).sum();
    let stable = table.stable.iter().map(|stable| (stable, WHOLE.saturating_sub(candidates)));
    let candidates = table.candidates.iter().map(|weighted| (&weighted.target, weighted.weight_percent));
    let warm = table.warm.iter().map(|warm| (warm, 0));
    let mut shares: Vec<Share> = Vec::new();
    for (target, percent) in stable.chain(candidates).chain(warm) {
        match shares.iter_mut().find(|share| share.version == target.version) {
            Some(share) => share.percent = share.percent.saturating_add(percent).min(WHOLE),
            None => shares.push(Share { version: target.version.clone(), percent }),
        }
    }
    shares
}

/// Which share each version receives, by the number of its ready pods. The first one is that to which an
/// address leads that cannot be divided, such as a Service. `before` are the shares now; none where they are
/// not known.
pub fn shares(table: &TrafficTable, ready: impl Fn(&str) -> u32, before: &[Share]) -> Vec<Share> {
    let wanted = wanted(table);
    let most = wanted.iter().map(|share| ready(&share.version)).max().unwrap_or_default();
    let carries = |share: &Share| {
        let pods = ready(&share.version);
        if pods == 0 {
            return 0;
        }
        let had = before.iter().find(|had| had.version == share.version).map(|had| had.percent);
        let had = had.unwrap_or(if before.is_empty() { share.percent } else { 0 });
        had.max(percent_of(pods, most))
    };
    let carried: Vec<u8> = wanted.iter().map(carries).collect();
    let mut shares = wanted.clone();
    for (share, carried) in shares.iter_mut().zip(&carried) {
        share.percent = share.percent.min(*carried);
    }
    place_rest(table, &mut shares, &carried, &ready);
    let is_whole =
        shares.first().zip(wanted.first()).is_some_and(|(got, wanted)| got.percent >= wanted.percent);
    if !is_whole {
        // Of those with as many pods, the first one.
        shares.sort_by_key(|share| std::cmp::Reverse(ready(&share.version)));
    }
    let first = shares.first().map(|share| share.version.clone());
    shares.retain(|share| share.percent > 0 || Some(&share.version) == first.as_ref());
    shares
}

/// Divides what no version has received yet: between those that have room, candidates last, since they are
/// to receive no more than their share. What is left goes to the version with most pods, or where there is
/// none, to the stable version.
fn place_rest(table: &TrafficTable, shares: &mut [Share], carried: &[u8], ready: impl Fn(&str) -> u32) {
    let mut rest = WHOLE - shares.iter().map(|share| share.percent).sum::<u8>().min(WHOLE);
    let is_candidate =
        |share: &Share| table.candidates.iter().any(|weighted| weighted.target.version == share.version);
    for candidates in [false, true] {
        for (share, carried) in shares.iter_mut().zip(carried) {
            if is_candidate(share) == candidates {
                let more = carried.saturating_sub(share.percent).min(rest);
                share.percent += more;
                rest -= more;
            }
        }
    }
    // Of several with as many, `max_by_key` would take the last one.
    if let Some(most) = shares.iter_mut().rev().max_by_key(|share| ready(&share.version)) {
        most.percent += rest;
    }
}

/// Pods that a version needs for the share that the table asks for, by the pods of the other versions, which
/// answer the traffic now.
pub fn least_pods(table: &TrafficTable, version: &str, ready: impl Fn(&str) -> u32) -> u32 {
    let wanted = wanted(table);
    let share = wanted.iter().find(|share| share.version == version).map_or(0, |share| share.percent);
    let others = wanted.iter().filter(|share| share.version != version);
    let most = others.map(|share| ready(&share.version)).max().unwrap_or_default();
    most.saturating_mul(share.into()).div_ceil(WHOLE.into())
}

fn percent_of(pods: u32, all: u32) -> u8 {
    let percent = u64::from(pods) * u64::from(WHOLE) / u64::from(all.max(1));
    u8::try_from(percent).unwrap_or(WHOLE).min(WHOLE)
}

#[cfg(test)]
mod tests {
    use slipway_api::rest::rollouts::{Target, Weighted};

    use super::*;

    fn target(version: &str) -> Target {
        Target { version: version.to_owned(), digest: String::new() }
    }

    fn empty() -> TrafficTable {
        TrafficTable::from(slipway_api::traffic::TrafficTable::empty("fraud", "fraud-model"))
    }

    fn canary(weight_percent: u8) -> TrafficTable {
        let candidates = vec![Weighted { target: target("2"), weight_percent }];
        TrafficTable { stable: Some(target("1")), candidates, ..empty() }
    }

    fn promoted() -> TrafficTable {
        TrafficTable { stable: Some(target("2")), warm: vec![target("1")], ..empty() }
    }

    /// `version=percent` of each version; `pods` are those of version 1 and of version 2.
    fn of(table: &TrafficTable, pods: [u32; 2], before: &[(&str, u8)]) -> Vec<String> {
        let before: Vec<Share> =
            before.iter().map(|&(version, percent)| Share { version: version.to_owned(), percent }).collect();
        let shares = shares(table, |version| pods[usize::from(version == "2")], &before);
        assert!(shares.is_empty() || shares.iter().map(|share| share.percent).sum::<u8>() == 100);
        shares.into_iter().map(|share| format!("{}={}", share.version, share.percent)).collect()
    }

    #[test]
    fn a_version_without_ready_pods_receives_nothing() {
        assert_eq!(of(&canary(20), [1, 1], &[]), ["1=80", "2=20"]);
        assert_eq!(of(&canary(20), [1, 0], &[]), ["1=100"]);
        assert_eq!(of(&canary(20), [0, 1], &[]), ["2=100"]);
        assert_eq!(of(&canary(20), [0, 0], &[]), ["1=100"]);
        assert_eq!(of(&promoted(), [1, 1], &[]), ["2=100"]);
        assert_eq!(of(&promoted(), [1, 0], &[("2", 100)]), ["1=100"]);
        assert!(of(&empty(), [0, 0], &[]).is_empty());
    }

    #[test]
    fn a_version_receives_no_more_than_its_pods_can_answer() {
        let stable = [("1", 100)];
        assert_eq!(of(&canary(20), [5, 1], &stable), ["1=80", "2=20"]);
        assert_eq!(of(&canary(50), [5, 1], &[("1", 80), ("2", 20)]), ["1=80", "2=20"]);
        assert_eq!(of(&canary(50), [5, 2], &[("1", 80), ("2", 20)]), ["1=60", "2=40"]);
        // The Service leads to the version before until the new one can answer everything.
        assert_eq!(of(&promoted(), [5, 1], &stable), ["1=80", "2=20"]);
        assert_eq!(of(&promoted(), [5, 4], &[("1", 40), ("2", 60)]), ["1=20", "2=80"]);
        assert_eq!(of(&promoted(), [5, 5], &[("1", 20), ("2", 80)]), ["2=100"]);
        // Back to a version that has been scaled down.
        let back = TrafficTable { stable: Some(target("1")), warm: vec![target("2")], ..empty() };
        assert_eq!(of(&back, [1, 4], &[("2", 100)]), ["2=75", "1=25"]);
    }

    #[test]
    fn a_share_stays_when_a_pod_is_gone_for_a_moment() {
        assert_eq!(of(&promoted(), [5, 4], &[("2", 100)]), ["2=100"]);
        assert_eq!(of(&canary(50), [3, 1], &[("1", 50), ("2", 50)]), ["1=50", "2=50"]);
        // A candidate with more pods than the stable version receives its share all the same.
        assert_eq!(of(&canary(20), [1, 3], &[("1", 80), ("2", 20)]), ["1=80", "2=20"]);
        assert_eq!(of(&canary(20), [1, 3], &[]), ["1=80", "2=20"]);
    }

    #[test]
    fn a_version_gets_the_pods_that_its_share_needs() {
        let least = |table: &TrafficTable, version: &str, pods: [u32; 2]| {
            least_pods(table, version, |version| pods[usize::from(version == "2")])
        };
        assert_eq!(least(&canary(20), "2", [5, 0]), 1);
        assert_eq!(least(&canary(50), "2", [5, 1]), 3);
        assert_eq!(least(&canary(50), "1", [5, 3]), 2);
        assert_eq!(least(&promoted(), "2", [5, 3]), 5);
        // Its own pods do not keep their number from falling.
        assert_eq!(least(&promoted(), "2", [1, 5]), 1);
        assert_eq!(least(&promoted(), "1", [5, 5]), 0);
        assert_eq!(least(&promoted(), "3", [5, 5]), 0);
    }
}
