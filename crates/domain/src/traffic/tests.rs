//! Laws of the traffic split.

use proptest::prelude::*;

use super::*;

fn target(version: u32) -> Target {
    Target { version: version.to_string(), digest: format!("sha256:{version:064x}") }
}

fn table(stable: Option<u32>, candidates: &[(u32, u8)]) -> TrafficTable {
    TrafficTable {
        stable: stable.map(target),
        candidates: candidates
            .iter()
            .map(|(version, weight)| Weighted { target: target(*version), weight_percent: *weight })
            .collect(),
        ..TrafficTable::empty("cancer", "cancer")
    }
}

/// Valid tables: weights are cut off where they would exceed 100.
fn any_table() -> impl Strategy<Value = TrafficTable> {
    (proptest::collection::vec(0_u8..=100, 0..5), "[a-z]{1,12}").prop_map(|(weights, deployment)| {
        let mut left = 100;
        let mut candidates = Vec::new();
        for (version, weight) in (2..).zip(weights) {
            let weight = weight.min(left);
            left -= weight;
            candidates.push((version, weight));
        }
        TrafficTable { deployment, ..table(Some(1), &candidates) }
    })
}

fn wins(table: &TrafficTable, draws: impl Iterator<Item = String>, version: u32) -> f64 {
    let mut total = 0.0;
    let mut won = 0.0;
    for key in draws {
        total += 1.0;
        if choose(table, Draw::Sticky(&key)).is_some_and(|choice| *choice.target == target(version)) {
            won += 1.0;
        }
    }
    won / total
}

#[test]
fn what_a_table_may_not_say() {
    let bad = [
        (table(Some(1), &[(2, 60), (3, 60)]), "candidates"),
        (table(None, &[(2, 60)]), "stable"),
        (table(Some(1), &[(1, 10)]), "candidates[0]"),
        (TrafficTable { deployment: String::new(), ..table(Some(1), &[]) }, "deployment"),
        (
            TrafficTable {
                warm: vec![Target { version: "3".into(), digest: String::new() }],
                ..table(Some(1), &[])
            },
            "warm[0].digest",
        ),
        (
            TrafficTable {
                shadows: vec![Shadow { target: target(2), sample_percent: 101 }],
                ..table(Some(1), &[])
            },
            "shadows[0].sample_percent",
        ),
    ];
    for (table, field) in bad {
        assert_eq!(table.validate().expect_err("breaks a law").field, field);
    }
    table(None, &[(2, 100)]).validate().expect("candidates may take all");
    table(None, &[]).validate().expect("nothing deployed yet");
}

#[test]
fn nothing_deployed_answers_nobody() {
    assert_eq!(choose(&table(None, &[]), Draw::Uniform(0.5)), None);
    assert_eq!(choose(&table(None, &[]), Draw::Sticky("ann")), None);
}

#[test]
fn hashes_never_change_between_releases() {
    assert_eq!(stable_hash(&["cancer", "user-1", "2"]), 0xc7f2_8f0e_36fc_8fab);
    assert_ne!(stable_hash(&["ab", "c"]), stable_hash(&["a", "bc"]));
    assert!(unit_interval(0) > 0.0 && unit_interval(u64::MAX) < 1.0);
}

#[test]
fn keys_split_by_the_weights() {
    for weight in [1_u8, 10, 50, 90] {
        let table = table(Some(1), &[(2, weight)]);
        let share = wins(&table, (0..20_000).map(|user| format!("user-{user}")), 2);
        assert!((share - f64::from(weight) / 100.0).abs() < 0.012, "{weight} percent became {share}");
    }
}

#[test]
fn shadows_see_their_share_and_never_their_own_answers() {
    let mut table = table(Some(1), &[(2, 50)]);
    table.shadows = vec![Shadow { target: target(2), sample_percent: 30 }];
    let copied = (0..10_000_u64)
        .filter(|id| !shadows_for(&table, &target(1), stable_hash(&[&id.to_string()])).is_empty())
        .count();
    assert!((2_800..3_200).contains(&copied), "{copied} of 10000 copied at 30 percent");
    assert!((0..1_000).all(|hash| shadows_for(&table, &target(2), hash).is_empty()));
    table.shadows[0].sample_percent = 100;
    assert!((0..1_000).all(|hash| shadows_for(&table, &target(1), hash) == vec![&target(2)]));
}

proptest! {
    #[test]
    fn weights_sum_to_100(table in any_table()) {
        table.validate().expect("generated tables are valid");
        prop_assert_eq!(table.weights().iter().map(|(_, weight)| u32::from(*weight)).sum::<u32>(), 100);
    }

    #[test]
    fn uniform_draws_follow_the_weights(table in any_table()) {
        // A full sweep of the unit interval gives each target exactly its share.
        for (wanted, weight) in table.weights() {
            let hits = (0..1_000).filter(|draw| {
                let uniform = (f64::from(*draw) + 0.5) / 1_000.0;
                choose(&table, Draw::Uniform(uniform)).is_some_and(|choice| *choice.target == wanted)
            });
            prop_assert_eq!(hits.count(), usize::from(weight) * 10);
        }
    }

    #[test]
    fn a_user_stays_where_they_are(table in any_table(), user in ".{0,24}") {
        let first = choose(&table, Draw::Sticky(&user));
        prop_assert!(first.is_some());
        prop_assert_eq!(choose(&table, Draw::Sticky(&user)), first);
        let later = TrafficTable { revision: 9, decided_at_unix_ms: 5, ..table.clone() };
        prop_assert_eq!(choose(&later, Draw::Sticky(&user)), first);
    }

    #[test]
    fn more_weight_moves_users_only_towards_the_candidate(low in 0_u8..=100, high in 0_u8..=100,
        user in "[a-z0-9]{1,12}") {
        let (low, high) = (low.min(high), low.max(high));
        let before = table(Some(1), &[(2, low)]);
        let after = table(Some(1), &[(2, high)]);
        let sees_candidate = |table: &TrafficTable| {
            choose(table, Draw::Sticky(&user)).is_some_and(|choice| choice.variant == Variant::Candidate)
        };
        prop_assert!(!sees_candidate(&before) || sees_candidate(&after));
    }

    #[test]
    fn a_target_without_weight_answers_nobody(table in any_table(), uniform in 0.0_f64..1.0,
        user in "[a-z]{1,9}") {
        let weights = table.weights();
        for draw in [Draw::Uniform(uniform), Draw::Sticky(&user)] {
            let chosen = choose(&table, draw).expect("a stable is there");
            prop_assert!(weights.iter().any(|(target, _)| target == chosen.target));
        }
    }

    #[test]
    fn tables_survive_json(table in any_table()) {
        let json = serde_json::to_string(&table).expect("serialises");
        prop_assert_eq!(serde_json::from_str::<TrafficTable>(&json).expect("parses"), table);
    }
}
