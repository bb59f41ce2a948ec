//! How many samples a verdict takes.

use super::*;
use crate::test_random::Random;

fn labelled(correct: u64, of: u64) -> VariantFacts {
    VariantFacts { requests: 1_000, labelled: of, correct, ..VariantFacts::default() }
}

fn clause(analysed: &Analysed, name: ClauseName) -> Verdict {
    analysed
        .evidence
        .clauses
        .iter()
        .find(|clause| clause.clause == name)
        .expect("the clause was checked")
        .verdict
}

/// Labels of the candidate until it fails, if it does within `most`; stable sees `stable_share` labels a label.
fn labels_until_failure(seed: u64, accuracy: f64, stable_share: f64, most: u64) -> Option<u64> {
    let mut random = Random(seed);
    let (mut new, mut old) = ((0, 0), (0, 0));
    let mut owed = 0.0;
    (1..=most).find(|_| {
        new = (new.0 + u64::from(random.chance(accuracy)), new.1 + 1);
        owed += stable_share;
        while owed >= 1.0 {
            old = (old.0 + u64::from(random.chance(0.95)), old.1 + 1);
            owed -= 1.0;
        }
        let facts = WindowFacts {
            candidate: labelled(new.0, new.1),
            stable: labelled(old.0, old.1),
            ..WindowFacts::default()
        };
        analyse(&Strategy::default(), &facts).verdict == Verdict::Fail
    })
}

#[test]
fn a_model_of_shuffled_labels_fails_within_sixty_labels() {
    for (accuracy, stable_share, limit) in [(0.5, 9.0, 60), (0.5, 1.0, 60), (0.63, 9.0, 150)] {
        let mut needed: Vec<u64> = (0..200)
            .map(|seed| labels_until_failure(seed, accuracy, stable_share, 2_000).expect("fails in the end"))
            .collect();
        needed.sort_unstable();
        let most = needed[needed.len() * 95 / 100];
        assert!(most <= limit, "accuracy {accuracy}: 95 percent of runs need up to {most} labels");
    }
}

#[test]
fn an_equal_or_better_model_does_not_fail_however_often_it_is_looked_at() {
    for accuracy in [0.95, 0.97] {
        for stable_share in [1.0, 9.0] {
            let failed =
                (0..300).filter(|seed| labels_until_failure(*seed, accuracy, stable_share, 300).is_some());
            assert_eq!(failed.count(), 0, "accuracy {accuracy}");
        }
    }
}

#[test]
fn errors_fail_soon_where_all_requests_fail_and_not_where_one_does() {
    let facts = |errors, requests| WindowFacts {
        stable: VariantFacts { requests: 100, timed: 100, p95_latency_us: 2_000, ..VariantFacts::default() },
        candidate: VariantFacts { requests, errors, ..VariantFacts::default() },
        ..WindowFacts::default()
    };
    assert_eq!(analyse(&Strategy::default(), &facts(10, 10)).verdict, Verdict::Fail);
    assert_eq!(analyse(&Strategy::default(), &facts(1, 30)).verdict, Verdict::Inconclusive);
    assert_eq!(analyse(&Strategy::default(), &facts(1, 300)).verdict, Verdict::Pass);
    assert_eq!(analyse(&Strategy::default(), &facts(60, 300)).verdict, Verdict::Fail);
}

#[test]
fn latency_fails_on_a_slow_version_and_not_on_noise() {
    let judge = |slow_every: u64, slow_us: u64, requests: u64| {
        let mut collector = FactsCollector::default();
        for request in 0..requests {
            collector.request(Side::Stable, 1_000, false);
            let latency = if request % slow_every == 0 { slow_us } else { 1_100 };
            collector.request(Side::Candidate, latency, false);
        }
        let strategy = Strategy::default();
        analyse(&strategy, &collector.facts(&strategy.analysis))
    };
    assert_eq!(clause(&judge(1, 20_000, 30), ClauseName::Latency), Verdict::Fail);
    assert_eq!(
        clause(&judge(1, 5_000, 3_000), ClauseName::Latency),
        Verdict::Pass,
        "below 5 ms nobody minds"
    );
    assert_eq!(
        clause(&judge(30, 500_000, 3_000), ClauseName::Latency),
        Verdict::Pass,
        "fewer than 5 percent"
    );
    assert_eq!(clause(&judge(10, 20_000, 40), ClauseName::Latency), Verdict::Inconclusive);
}

#[test]
fn divergence_lets_a_better_model_differ_a_little() {
    let facts = |differing, compared| WindowFacts {
        compared_rows: compared,
        differing_rows: differing,
        candidate: labelled(0, 0),
        ..WindowFacts::default()
    };
    let judge = |facts| clause(&analyse(&Strategy::default(), &facts), ClauseName::Divergence);
    assert_eq!(judge(facts(5, 100)), Verdict::Pass);
    assert_eq!(judge(facts(3, 6)), Verdict::Inconclusive);
    assert_eq!(judge(facts(55, 100)), Verdict::Fail);
    let shadowed = Strategy { shadow_percent: 100, ..Strategy::default() };
    assert_eq!(analyse(&shadowed, &facts(0, 0)).verdict, Verdict::Inconclusive, "no data is inconclusive");
}

#[test]
fn labels_are_waited_for_where_asked() {
    let mut strategy = Strategy::default();
    let facts =
        WindowFacts { candidate: labelled(10, 10), stable: labelled(90, 90), ..WindowFacts::default() };
    assert_eq!(analyse(&strategy, &facts).verdict, Verdict::Pass);
    strategy.analysis.min_labels = 30;
    let waiting = analyse(&strategy, &facts);
    assert_eq!(waiting.verdict, Verdict::Inconclusive);
    assert!(waiting.reason.contains("min_labels 30"), "{}", waiting.reason);
    let enough = WindowFacts { candidate: labelled(30, 30), ..facts };
    assert_eq!(analyse(&strategy, &enough).verdict, Verdict::Pass);
}

#[test]
fn the_reason_names_every_clause_that_failed_with_its_numbers() {
    let facts = WindowFacts { differing_rows: 60, ..bad_facts() };
    let analysed = analyse(&Strategy::default(), &facts);
    assert_eq!(analysed.verdict, Verdict::Fail);
    for part in [
        "accuracy: 50.0 % of 100",
        "stable's 95.0 %",
        "divergence: 60.0 % of 100",
        "max_divergence is 25.0 %",
    ] {
        assert!(analysed.reason.contains(part), "'{part}' is not in: {}", analysed.reason);
    }
    let json = serde_json::to_value(&analysed.evidence).expect("serialises");
    assert_eq!(json["facts"]["candidate"]["correct"], 50);
}
