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

/// Labels of the candidate until it fails, if it does within `most`; stable sees `stable_share` labels a
/// label.
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

#[test]
fn answers_with_nan_count_as_failures_unless_stable_answers_them_too() {
    let side = |requests, non_finite| VariantFacts { requests, non_finite, ..VariantFacts::default() };
    let judge = |candidate, stable| {
        analyse(&Strategy::default(), &WindowFacts { candidate, stable, ..WindowFacts::default() })
    };
    let broken = judge(side(30, 30), side(30, 0));
    assert_eq!(broken.verdict, Verdict::Fail);
    assert!(broken.reason.contains("non_finite: 100.0 % of 30 requests"), "{}", broken.reason);
    assert_eq!(judge(side(30, 30), side(0, 0)).verdict, Verdict::Fail, "stable answers nothing at this step");
    assert_eq!(
        judge(side(200, 60), side(200, 60)).verdict,
        Verdict::Pass,
        "missing features give NaN in both"
    );
    assert_eq!(judge(side(200, 150), side(200, 60)).verdict, Verdict::Fail);
    assert_eq!(judge(side(200, 0), side(200, 60)).verdict, Verdict::Pass, "better than stable");
}

/// Facts of `requests` of each version whose predictions are made by these.
fn predicted(requests: u32, old: impl Fn(u32) -> f64, new: impl Fn(u32) -> f64) -> WindowFacts {
    let mut collector = FactsCollector::default();
    for request in 0..requests {
        for (side, class) in [(Side::Stable, old(request)), (Side::Candidate, new(request))] {
            collector.request(side, 300, false);
            collector.predicted(side, &[Prediction::Whole(class)]);
            collector.predicted_for(side, u64::from(request % 50), &Prediction::Whole(class));
        }
    }
    collector.facts(&Analysis::default())
}

#[test]
fn predictions_are_compared_without_labels_and_shadows() {
    let ten = |request: u32| f64::from(request % 10);
    let judge = |facts: &WindowFacts| analyse(&Strategy::default(), facts);
    let constant = judge(&predicted(200, ten, |_| 3.0));
    assert_eq!(clause(&constant, ClauseName::PredictionShift), Verdict::Fail);
    assert!(constant.reason.contains("100.0 % of its predictions are `3`"), "{}", constant.reason);
    // Before it is proven, the estimate alone holds up the step.
    let soon = judge(&predicted(20, ten, |_| 3.0));
    assert_eq!(clause(&soon, ClauseName::PredictionShift), Verdict::Inconclusive);

    // The right mix with the wrong answers: seen where inputs repeat.
    let shuffled = judge(&predicted(200, ten, |request| f64::from((request + 1) % 10)));
    assert_eq!(clause(&shuffled, ClauseName::PredictionShift), Verdict::Pass);
    assert_eq!(clause(&shuffled, ClauseName::SameInputs), Verdict::Fail);

    let alike = judge(&predicted(200, ten, ten));
    assert_eq!((alike.verdict, clause(&alike, ClauseName::SameInputs)), (Verdict::Pass, Verdict::Pass));

    // A version that was retrained after a drift: labels show that it is right where stable is not.
    let labelled = |facts: WindowFacts| WindowFacts {
        candidate: VariantFacts { labelled: 40, correct: 38, ..facts.candidate },
        stable: VariantFacts { labelled: 40, correct: 20, ..facts.stable },
        ..facts
    };
    assert_eq!(judge(&labelled(predicted(200, |_| 3.0, ten))).verdict, Verdict::Pass);

    let mut off = Strategy::default();
    (off.analysis.max_prediction_shift, off.analysis.max_same_input_divergence) = (1.0, 1.0);
    assert_eq!(analyse(&off, &predicted(200, ten, |_| 3.0)).verdict, Verdict::Pass);
}

#[test]
fn a_reason_lists_what_was_not_judged() {
    let facts = predicted(100, |request| f64::from(request % 2), |request| f64::from(request % 2));
    let passed = analyse(&Strategy::default(), &facts);
    assert_eq!(
        passed.reason,
        "every limit is satisfied; not judged: divergence of shadow copies (no shadow copies: shadow_percent \
         is 0), accuracy (no labels arrived)"
    );
    let mut silent = Strategy::default();
    silent.analysis.min_requests = 0;
    let nothing = analyse(&silent, &WindowFacts::default());
    assert_eq!(nothing.verdict, Verdict::Pass);
    for part in ["errors (no requests arrived)", "distribution of predictions (no requests arrived)"] {
        assert!(nothing.reason.contains(part), "{}", nothing.reason);
    }
    let ruled = WindowFacts { ruled: true, ..facts };
    assert!(analyse(&Strategy::default(), &ruled).reason.contains("rules send some requests"));
}
