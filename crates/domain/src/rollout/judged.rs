//! What a step could not judge. A promotion that nothing spoke for has to say so.

use super::{
    clause::{Clause, ClauseName, NotJudged, labels_decide},
    facts::WindowFacts,
    shift,
    strategy::Strategy,
};

/// What the step did not judge. Clauses that are rarely applicable (repeated inputs) are not missed.
pub(super) fn not_judged(strategy: &Strategy, facts: &WindowFacts, clauses: &[Clause]) -> Vec<NotJudged> {
    let reasons = [
        (ClauseName::ErrorRate, no_requests(facts)),
        (ClauseName::Latency, latency(facts)),
        (ClauseName::Divergence, divergence(strategy, facts)),
        (ClauseName::PredictionShift, prediction_shift(strategy, facts)),
        (ClauseName::Accuracy, accuracy(facts)),
    ];
    let is_judged = |name: ClauseName| {
        clauses.iter().any(|clause| clause.clause == name && clause.samples > 0 && compares(clause))
    };
    let is_missed = |name: ClauseName| {
        !is_judged(name) && (name != ClauseName::PredictionShift || !labels_decide(strategy, facts))
    };
    let missing = reasons.into_iter().filter(|(clause, _)| is_missed(*clause));
    missing.map(|(clause, why)| NotJudged { clause, why }).collect()
}

/// Accuracy means little where there is none of stable to compare with.
fn compares(clause: &Clause) -> bool {
    clause.clause != ClauseName::Accuracy || clause.stable.is_some()
}

/// The clauses that judged something.
pub(super) fn judged(clauses: &[Clause]) -> impl Iterator<Item = ClauseName> {
    let counted = clauses.iter().filter(|clause| clause.clause != ClauseName::Requests);
    counted.filter(|clause| clause.samples > 0 && compares(clause)).map(|clause| clause.clause)
}

/// `; not judged: accuracy (no labels arrived), …`, or nothing.
pub(super) fn in_words(missing: &[NotJudged]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let each: Vec<String> =
        missing.iter().map(|one| format!("{} ({})", one.clause.judges(), one.why)).collect();
    format!("; not judged: {}", each.join(", "))
}

/// What the records leave out, as a clause of a sentence, or nothing.
pub(super) fn left_out(facts: &WindowFacts) -> String {
    let records = &facts.records;
    let mut parts = Vec::new();
    if let Some(percent) = records.sample_percent {
        parts.push(format!("only a sample of {percent} % of the requests is recorded"));
    }
    if records.dropped_rows > 0 {
        let rows = records.dropped_rows;
        parts.push(format!("the records of {rows} rows were dropped by serving, whose queue was full"));
    }
    if parts.is_empty() { String::new() } else { format!("; {}", parts.join(" and ")) }
}

fn no_requests(facts: &WindowFacts) -> String {
    let requests = facts.candidate.requests;
    if requests == 0 { "no requests arrived".to_owned() } else { format!("{requests} requests") }
}

fn latency(facts: &WindowFacts) -> String {
    if facts.candidate.timed == 0 {
        return "no timed requests".to_owned();
    }
    format!("too few timed requests of stable: {}", facts.stable.timed)
}

fn divergence(strategy: &Strategy, facts: &WindowFacts) -> String {
    if strategy.shadow_percent == 0 {
        "no shadow copies: shadow_percent is 0".to_owned()
    } else if facts.compared_rows == 0 {
        "no shadow copies arrived".to_owned()
    } else {
        format!("{} rows", facts.compared_rows)
    }
}

fn prediction_shift(strategy: &Strategy, facts: &WindowFacts) -> String {
    let (seen, without) = (&facts.shift, facts.records.without_predictions);
    if strategy.analysis.max_prediction_shift >= 1.0 {
        "disabled: max_prediction_shift is 1".to_owned()
    } else if facts.ruled {
        "rules send some requests by their headers, so the versions see different requests".to_owned()
    } else if facts.candidate.requests == 0 {
        "no requests arrived".to_owned()
    } else if without > 0 && seen.stable_requests.min(seen.candidate_requests) < shift::MIN_REQUESTS {
        format!("{without} requests are recorded without predictions: redacted or too large")
    } else {
        format!(
            "too few requests: {} of the new version and {} of stable count",
            seen.candidate_requests, seen.stable_requests
        )
    }
}

fn accuracy(facts: &WindowFacts) -> String {
    match (facts.candidate.labelled, facts.stable.labelled) {
        (0, _) => "no labels arrived".to_owned(),
        (_, 0) => "no labels of stable arrived".to_owned(),
        (new, old) => format!("{new} labels, {old} of stable"),
    }
}
