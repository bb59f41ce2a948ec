//! The verdict on a new version: each limit is a clause that passes, fails, or cannot tell yet.
//!
//! A clause fails only if its any-time bound proves that the limit is exceeded, so a handful of unlucky
//! requests fails no version and evaluating every second raises no false alarms. It passes if the plain
//! estimate is within the limit; in between it is inconclusive, and more data decides. No data is
//! inconclusive, never a failure.

use serde::{Deserialize, Serialize};

use super::{
    clause::{Clause, ClauseName, MIN_LABELS_TO_FAIL, NotJudged, Verdict, labels_decide},
    facts::{WindowFacts, slow_limit_us},
    judged::{in_words, not_judged},
    shift,
    strategy::Strategy,
};
use crate::statistics::Share;

/// Timed requests of stable below which latencies are not compared.
const MIN_STABLE_TIMED: u64 = 20;
/// Repeated inputs below which they hold up no step.
const MIN_SAME_INPUTS: u64 = 10;
/// The share of requests that exceeds a 95th percentile.
const ABOVE_P95: f64 = 0.05;

/// The numbers behind a verdict.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Every clause that could be checked.
    pub clauses: Vec<Clause>,
    /// What could not be checked, and why.
    #[serde(default)]
    pub not_judged: Vec<NotJudged>,
    /// The facts that they were checked on.
    #[serde(default)]
    pub facts: WindowFacts,
}

/// A verdict with its reason and its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysed {
    /// What follows.
    pub verdict: Verdict,
    /// The clauses that decided, in words.
    pub reason: String,
    /// The numbers.
    pub evidence: Evidence,
}

/// Judges the new version by the facts of its step.
pub fn analyse(strategy: &Strategy, facts: &WindowFacts) -> Analysed {
    let all = [
        requests,
        error_rate,
        error_rate_delta,
        non_finite,
        latency,
        divergence,
        prediction_shift,
        same_inputs,
        accuracy,
    ];
    let clauses: Vec<Clause> = all.into_iter().filter_map(|clause| clause(strategy, facts)).collect();
    let not_judged = not_judged(strategy, facts, &clauses);
    let verdict = worst(&clauses);
    let deciding = clauses.iter().filter(|clause| clause.verdict == verdict);
    let reason = match verdict {
        Verdict::Pass => format!("every limit is satisfied{}", in_words(&not_judged)),
        Verdict::Fail | Verdict::Inconclusive => {
            deciding.map(|clause| clause.message.as_str()).collect::<Vec<_>>().join("; ")
        }
    };
    Analysed { verdict, reason, evidence: Evidence { clauses, not_judged, facts: facts.clone() } }
}

fn worst(clauses: &[Clause]) -> Verdict {
    let any = |wanted| clauses.iter().any(|clause| clause.verdict == wanted);
    if any(Verdict::Fail) {
        Verdict::Fail
    } else if any(Verdict::Inconclusive) {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    }
}

/// Fails on proof, passes on the estimate.
fn judge(estimate: f64, bound: f64, limit: f64) -> Verdict {
    if bound > limit {
        Verdict::Fail
    } else if estimate > limit {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn requests(strategy: &Strategy, facts: &WindowFacts) -> Option<Clause> {
    let (seen, wanted) = (facts.candidate.requests, strategy.analysis.min_requests);
    Some(Clause {
        clause: ClauseName::Requests,
        verdict: if seen >= wanted { Verdict::Pass } else { Verdict::Inconclusive },
        candidate: seen as f64,
        stable: None,
        limit: wanted as f64,
        bound: None,
        samples: seen,
        message: format!("requests: {seen} of the {wanted} that min_requests asks for"),
    })
}

fn error_rate(strategy: &Strategy, facts: &WindowFacts) -> Option<Clause> {
    let seen = &facts.candidate;
    let share = Share::new(seen.errors, seen.requests);
    let limit = strategy.analysis.max_error_rate;
    (seen.requests > 0).then(|| Clause {
        clause: ClauseName::ErrorRate,
        verdict: judge(share.rate(), share.lower_bound(), limit),
        candidate: share.rate(),
        stable: None,
        limit,
        bound: Some(share.lower_bound()),
        samples: seen.requests,
        message: format!(
            "error_rate: {} of {} requests failed, max_error_rate is {}",
            percent(share.rate()),
            seen.requests,
            percent(limit)
        ),
    })
}

fn error_rate_delta(strategy: &Strategy, facts: &WindowFacts) -> Option<Clause> {
    let (new, old) = (&facts.candidate, &facts.stable);
    let (new_share, old_share) = (
        Share::new(new.errors + new.non_finite, new.requests),
        Share::new(old.errors + old.non_finite, old.requests),
    );
    let bound = new_share.difference_lower_bound(old_share);
    let limit = strategy.analysis.max_error_rate_delta;
    let non_finite = match new.non_finite {
        0 => String::new(),
        count => format!("; {count} of them were answered with NaN or an infinity"),
    };
    (new.requests > 0 && old.requests > 0).then(|| Clause {
        clause: ClauseName::ErrorRateDelta,
        verdict: judge(new_share.rate() - old_share.rate(), bound, limit),
        candidate: new_share.rate(),
        stable: Some(old_share.rate()),
        limit,
        bound: Some(bound),
        samples: new.requests,
        message: format!(
            "error_rate_delta: {} of {} requests failed against stable's {}, max_error_rate_delta is \
             {}{non_finite}",
            percent(new_share.rate()),
            new.requests,
            percent(old_share.rate()),
            percent(limit)
        ),
    })
}

/// A version that answers NaN where stable does not is broken, though nothing failed. Where stable answers
/// NaN as well, e.g. for missing features, only what exceeds its share counts.
fn non_finite(strategy: &Strategy, facts: &WindowFacts) -> Option<Clause> {
    let (new, old) = (&facts.candidate, &facts.stable);
    if new.requests == 0 || new.non_finite + old.non_finite == 0 {
        return None;
    }
    let (new_share, old_share) =
        (Share::new(new.non_finite, new.requests), Share::new(old.non_finite, old.requests));
    let comparable = old.requests > 0;
    let bound =
        if comparable { new_share.difference_lower_bound(old_share) } else { new_share.lower_bound() };
    let limit = strategy.analysis.max_error_rate;
    let against =
        if comparable { format!(" against stable's {}", percent(old_share.rate())) } else { String::new() };
    Some(Clause {
        clause: ClauseName::NonFinite,
        verdict: judge(new_share.rate() - old_share.rate(), bound, limit),
        candidate: new_share.rate(),
        stable: comparable.then(|| old_share.rate()),
        limit,
        bound: Some(bound),
        samples: new.requests,
        message: format!(
            "non_finite: {} of {} requests were answered with NaN or an infinity{against}, max_error_rate is \
             {}",
            percent(new_share.rate()),
            new.requests,
            percent(limit)
        ),
    })
}

fn prediction_shift(strategy: &Strategy, facts: &WindowFacts) -> Option<Clause> {
    let seen = &facts.shift;
    let limit = strategy.analysis.max_prediction_shift;
    let fewest = seen.stable_requests.min(seen.candidate_requests);
    if limit >= 1.0 || facts.ruled || fewest < shift::MIN_REQUESTS || labels_decide(strategy, facts) {
        return None;
    }
    let verdict =
        if seen.collapsed { Verdict::Fail } else { judge(seen.distance - seen.noise, seen.bound, limit) };
    let measure = match (seen.numeric, seen.beyond_deciles) {
        (false, _) => "total variation distance",
        (true, false) => "Kolmogorov-Smirnov distance",
        (true, true) => "difference of the shares beyond stable's outer deciles",
    };
    let collapsed = if seen.collapsed { "it always predicts the same, stable does not; " } else { "" };
    Some(Clause {
        clause: ClauseName::PredictionShift,
        verdict,
        candidate: seen.distance,
        stable: None,
        limit,
        bound: Some(seen.bound),
        samples: seen.candidate_requests,
        message: format!(
            "prediction_shift: {collapsed}the predictions of {} requests are distributed differently from \
             stable's {}: {measure} {:.2}, at least {:.2}, max_prediction_shift is {limit:.2}; {}",
            seen.candidate_requests, seen.stable_requests, seen.distance, seen.bound, seen.example
        ),
    })
}

/// Distinct inputs that both versions answered, each in requests of its own.
fn same_inputs(strategy: &Strategy, facts: &WindowFacts) -> Option<Clause> {
    let limit = strategy.analysis.max_same_input_divergence;
    let share = Share::new(facts.same_inputs_differing, facts.same_inputs);
    (limit < 1.0 && facts.same_inputs > 0 && !labels_decide(strategy, facts)).then(|| {
        let verdict = match judge(share.rate(), share.lower_bound(), limit) {
            // A handful of repeated inputs delays no rollout.
            Verdict::Inconclusive if facts.same_inputs < MIN_SAME_INPUTS => Verdict::Pass,
            verdict => verdict,
        };
        Clause {
            clause: ClauseName::SameInputs,
            verdict,
            candidate: share.rate(),
            stable: None,
            limit,
            bound: Some(share.lower_bound()),
            samples: facts.same_inputs,
            message: format!(
                "same_inputs: {} of {} distinct inputs that both versions answered are predicted as another \
                 class, max_same_input_divergence is {}",
                percent(share.rate()),
                facts.same_inputs,
                percent(limit)
            ),
        }
    })
}

/// The test of a quantile as a share: were the new version as fast as allowed, at most 5 percent of its
/// requests would be slower than the allowed p95.
fn latency(strategy: &Strategy, facts: &WindowFacts) -> Option<Clause> {
    let (new, old) = (&facts.candidate, &facts.stable);
    if old.timed < MIN_STABLE_TIMED || new.timed == 0 {
        return None;
    }
    let slow = Share::new(facts.slow, new.timed);
    let limit_us = slow_limit_us(&strategy.analysis, old.p95_latency_us);
    Some(Clause {
        clause: ClauseName::Latency,
        verdict: judge(slow.rate(), slow.lower_bound(), ABOVE_P95),
        candidate: us_to_ms(new.p95_latency_us),
        stable: Some(us_to_ms(old.p95_latency_us)),
        limit: us_to_ms(limit_us),
        bound: Some(slow.lower_bound()),
        samples: new.timed,
        message: format!(
            "latency: p95 is {:.1} ms over {} requests against stable's {:.1} ms, {} are above the {:.1} ms \
             that max_p95_latency_ratio allows",
            us_to_ms(new.p95_latency_us),
            new.timed,
            us_to_ms(old.p95_latency_us),
            percent(slow.rate()),
            us_to_ms(limit_us),
        ),
    })
}

fn us_to_ms(microseconds: u64) -> f64 {
    microseconds as f64 / 1_000.0
}

fn divergence(strategy: &Strategy, facts: &WindowFacts) -> Option<Clause> {
    let compared = facts.compared_rows;
    if compared == 0 && strategy.shadow_percent == 0 {
        return None;
    }
    let share = Share::new(facts.differing_rows, compared);
    let limit = strategy.analysis.max_divergence;
    let verdict =
        if compared == 0 { Verdict::Inconclusive } else { judge(share.rate(), share.lower_bound(), limit) };
    Some(Clause {
        clause: ClauseName::Divergence,
        verdict,
        candidate: share.rate(),
        stable: None,
        limit,
        bound: Some(share.lower_bound()),
        samples: compared,
        message: format!(
            "divergence: {} of {compared} rows are predicted differently from stable, max_divergence is {}",
            percent(share.rate()),
            percent(limit)
        ),
    })
}

fn accuracy(strategy: &Strategy, facts: &WindowFacts) -> Option<Clause> {
    let (new, old) = (&facts.candidate, &facts.stable);
    let analysis = &strategy.analysis;
    if new.labelled == 0 && analysis.min_labels == 0 {
        return None;
    }
    let (new_share, old_share) =
        (Share::new(new.correct, new.labelled), Share::new(old.correct, old.labelled));
    let comparable = new.labelled > 0 && old.labelled > 0;
    let bound = old_share.difference_lower_bound(new_share);
    let limit = analysis.max_accuracy_drop;
    let enough_to_fail = new.labelled.min(old.labelled) >= MIN_LABELS_TO_FAIL;
    let verdict = if comparable {
        match judge(old_share.rate() - new_share.rate(), bound, limit) {
            Verdict::Fail if !enough_to_fail => Verdict::Inconclusive,
            Verdict::Pass if new.labelled < analysis.min_labels => Verdict::Inconclusive,
            verdict => verdict,
        }
    } else if new.labelled < analysis.min_labels {
        Verdict::Inconclusive
    } else {
        // Nothing to compare with: stable answers no requests at this step.
        Verdict::Pass
    };
    Some(Clause {
        clause: ClauseName::Accuracy,
        verdict,
        candidate: new_share.rate(),
        stable: comparable.then(|| old_share.rate()),
        limit,
        bound: comparable.then_some(bound),
        samples: new.labelled,
        message: format!(
            "accuracy: {} of {} labelled rows are right (min_labels {}) against stable's {} of {}, \
             max_accuracy_drop is {}",
            percent(new_share.rate()),
            new.labelled,
            analysis.min_labels,
            percent(old_share.rate()),
            old.labelled,
            percent(limit)
        ),
    })
}
