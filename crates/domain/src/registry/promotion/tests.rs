//! Rules, one by one and nested.

use super::*;

fn evidence(metrics: &[(&str, f64)]) -> Evidence {
    let metrics = metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    Evidence { metrics, scanned_safe: Some(true), ..Evidence::default() }
}

fn judge(rule: serde_json::Value, version: &Evidence, current: Option<&Evidence>) -> (bool, String) {
    let policy: Policy = serde_json::from_value(serde_json::json!({ "rules": [rule] })).unwrap();
    policy.validate().unwrap();
    let outcome = policy.judge(version, current).remove(0);
    (outcome.passed, outcome.detail)
}

#[test]
fn a_metric_is_held_against_a_limit_and_against_the_current_version() {
    use serde_json::json;
    let (new, old) = (evidence(&[("acc", 0.90), ("loss", 0.3)]), evidence(&[("acc", 0.92), ("loss", 0.25)]));
    let least = json!({"rule": "metric-at-least", "metric": "acc", "value": 0.95});
    let (passed, detail) = judge(least, &new, None);
    assert!(!passed && detail == "metric acc is 0.9, at least 0.95 is required", "{detail}");
    assert!(judge(json!({"rule": "metric-at-most", "metric": "loss", "value": 0.3}), &new, None).0);
    let against = |metric: &str, tolerance: f64, greater: bool| {
        json!({"rule": "not-worse-than-current", "metric": metric, "tolerance": tolerance,
            "greater_is_better": greater})
    };
    assert!(!judge(against("acc", 0.01, true), &new, Some(&old)).0);
    assert!(judge(against("acc", 0.03, true), &new, Some(&old)).0);
    assert!(!judge(against("loss", 0.01, false), &new, Some(&old)).0);
    assert!(judge(against("loss", 0.1, false), &new, Some(&old)).0);
    assert!(judge(against("acc", 0.0, true), &new, None).0, "the first one has nobody to beat");
    assert!(
        !judge(against("acc", 0.0, true), &evidence(&[]), Some(&old)).0,
        "a metric that is missing is no proof"
    );
    assert!(!judge(against("acc", 9.0, true), &evidence(&[("acc", f64::NAN)]), Some(&old)).0);
}

#[test]
fn what_nobody_looked_at_is_not_safe() {
    let rule = || serde_json::json!({"rule": "scanned-safe"});
    assert!(judge(rule(), &evidence(&[]), None).0);
    assert!(!judge(rule(), &Evidence { scanned_safe: Some(false), ..evidence(&[]) }, None).0);
    assert!(!judge(rule(), &Evidence { scanned_safe: None, ..evidence(&[]) }, None).0);
    let rule = || serde_json::json!({"rule": "no-loader-code"});
    assert!(judge(rule(), &Evidence { without_code: Some(true), ..evidence(&[]) }, None).0);
    assert!(!judge(rule(), &Evidence { without_code: Some(false), ..evidence(&[]) }, None).0);
    assert!(!judge(rule(), &Evidence { without_code: None, ..evidence(&[]) }, None).0);
}

#[test]
fn a_wrong_policy_is_told_what_is_wrong() {
    let field = |rules: serde_json::Value| {
        let policy: Policy = serde_json::from_value(serde_json::json!({ "rules": rules })).unwrap();
        policy.validate().unwrap_err().field
    };
    assert_eq!(field(serde_json::json!([])), "rules");
    let second =
        serde_json::json!([{"rule": "servable"}, {"rule": "metric-at-least", "metric": " ", "value": 1}]);
    assert_eq!(field(second), "rules[1].metric");
    let tolerance = serde_json::json!([{"rule": "not-worse-than-current", "metric": "a", "tolerance": -1}]);
    assert_eq!(field(tolerance), "rules[0].tolerance");
}

fn with_reports() -> Evidence {
    let report = |name: &str, digest: &str, accuracy: f64| -> Report {
        serde_json::from_value(serde_json::json!({
            "name": name, "dataset": {"name": "d", "digest": digest}, "rows": 100,
                "metrics": {"accuracy": accuracy},
            "latency": {"p50_ms": 1, "p95_ms": 8, "p99_ms": 9},
            "segments": [
                {"attribute": "age", "value": "old", "rows": 50, "metrics": {"accuracy": accuracy - 0.25}},
                {"attribute": "age", "value": "young", "rows": 50, "metrics": {"accuracy": accuracy}},
            ],
        }))
        .unwrap()
    };
    Evidence { reports: [("holdout".to_owned(), report("holdout", "d1", 0.75))].into(), ..evidence(&[]) }
}

#[test]
fn reports_count_by_metric_latency_and_gap() {
    use serde_json::json;
    let version = with_reports();
    let least = |report: &str, value: f64| {
        json!({"rule": "report-metric-at-least", "report": report, "metric": "accuracy",
            "value": value})
    };
    assert!(judge(least("holdout", 0.75), &version, None).0);
    let (passed, detail) = judge(least("holdout", 0.8), &version, None);
    assert_eq!(
        (passed, detail.as_str()),
        (false, "metric accuracy of report holdout is 0.75, at least 0.8 is required")
    );
    let (passed, detail) = judge(least("other", 0.1), &version, None);
    assert!(!passed && detail.starts_with("no report other;"), "{detail}");
    let slow =
        json!({"rule": "report-metric-at-most", "report": "holdout", "metric": "latency.p95_ms", "value": 5});
    assert_eq!(
        judge(slow, &version, None),
        (false, "metric latency.p95_ms of report holdout is 8, at most 5 is allowed".to_owned())
    );
    let gap = |value: f64, min_rows: u64| {
        json!({"rule": "fairness-gap-at-most", "report": "holdout", "attribute": "age",
            "metric": "accuracy", "value": value, "min_rows": min_rows})
    };
    assert!(judge(gap(0.25, 30), &version, None).0);
    let (passed, detail) = judge(gap(0.125, 30), &version, None);
    assert_eq!(
        (passed, detail.as_str()),
        (
            false,
            "the gap of accuracy by age is 0.25 (0.5 at 'old', 0.75 at 'young'), at most 0.125 is allowed"
        )
    );
    assert!(!judge(gap(1.0, 51), &version, None).0, "what cannot be compared is no proof");
    let mut champion = version.clone();
    champion.reports.get_mut("holdout").unwrap().metrics.insert("accuracy".to_owned(), 0.875);
    champion.reports.get_mut("holdout").unwrap().dataset.digest = "d0".to_owned();
    let against = |tolerance: f64| {
        json!({"rule": "not-worse-than-current", "report": "holdout",
        "metric": "accuracy", "tolerance": tolerance})
    };
    assert!(judge(against(0.125), &version, Some(&champion)).0);
    let (passed, detail) = judge(against(0.0625), &version, Some(&champion));
    assert!(
        !passed && detail.contains("the current version has 0.875") && detail.ends_with("(on other data)"),
        "{detail}"
    );
}

#[test]
fn signatures_approvals_and_the_card_say_what_is_missing() {
    use serde_json::json;
    let signed = |keys: &[&str]| json!({"rule": "signed", "keys": keys});
    let unsigned = Evidence {
        signing: Signing { detail: "it has no signature".to_owned(), ..Signing::default() },
        ..evidence(&[])
    };
    assert_eq!(
        judge(signed(&[]), &unsigned, None),
        (false, "not validly signed: it has no signature".to_owned())
    );
    let by_ci = Evidence {
        signing: Signing { keys: ["ci".to_owned()].into(), detail: String::new() },
        ..evidence(&[])
    };
    assert!(judge(signed(&[]), &by_ci, None).0 && judge(signed(&["release", "ci"]), &by_ci, None).0);
    assert_eq!(
        judge(signed(&["release"]), &by_ci, None),
        (false, "signed by ci, a signature by release is required".to_owned())
    );

    let people = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let two = json!({"rule": "approved", "by_at_least": 2});
    let version = Evidence {
        approvers: people(&["ada", "bob"]),
        authors: people(&["ada", "eve"]),
        identities: Identities::Authenticated,
        ..evidence(&[])
    };
    assert_eq!(
        judge(two.clone(), &version, None),
        (false, "approved by bob: 1 of 2 (ada made it, which does not count)".to_owned())
    );
    let by_others = Evidence { authors: people(&["eve"]), ..version };
    assert!(judge(two.clone(), &by_others, None).0);
    let unknown = Evidence { identities: Identities::Missing("run".to_owned()), ..by_others.clone() };
    let (passed, detail) = judge(two.clone(), &unknown, None);
    assert!(
        !passed && detail.contains("who created its run"),
        "an author who is not on record may be one of them: {detail}"
    );
    let claimed = Evidence { identities: Identities::Claimed, ..by_others };
    let (passed, detail) = judge(two.clone(), &claimed, None);
    assert!(passed && detail.contains("not verified"), "{detail}");
    assert!(judge(two, &evidence(&[]), None).1.starts_with("approved by nobody: 0 of 2"));

    let (passed, detail) = judge(json!({"rule": "card-complete"}), &evidence(&[("accuracy", 0.9)]), None);
    assert_eq!(
        (passed, detail.as_str()),
        (false, "its card lacks description, inputs and outputs, run, code revision, data set, report")
    );
    assert!(
        judge(json!({"rule": "card-complete", "fields": ["metrics"]}), &evidence(&[("accuracy", 0.9)]), None)
            .0
    );
}

#[test]
fn a_limit_that_is_met_to_the_digit_is_met() {
    use serde_json::json;
    let against = json!({"rule": "not-worse-than-current", "metric": "acc", "tolerance": 0.1});
    // 0.8 - 0.1 is 0.7000000000000001 in floating point.
    assert!(judge(against, &evidence(&[("acc", 0.7)]), Some(&evidence(&[("acc", 0.8)]))).0);
}

#[test]
fn rules_within_rules_are_an_expression() {
    use serde_json::json;
    let at_least = |value: f64| json!({"rule": "metric-at-least", "metric": "acc", "value": value});
    let servable = json!({"rule": "servable"});
    let rule = |value: f64| {
        json!({"rule": "any-of",
        "rules": [{"rule": "has-tag", "key": "urgent"},
            {"rule": "all-of", "rules": [servable, at_least(value)]}]})
    };
    assert!(judge(rule(0.5), &evidence(&[("acc", 0.75)]), None).0);
    let (passed, detail) = judge(rule(0.9), &evidence(&[("acc", 0.75)]), None);
    assert_eq!(
        (passed, detail.as_str()),
        (
            false,
            "none of 2 alternatives holds: (no tag urgent) or (metric acc is 0.75, at least 0.9 is required)"
        )
    );
    let policy: Policy = serde_json::from_value(json!({"rules": [rule(0.9)]})).unwrap();
    let outcome = policy.judge(&evidence(&[("acc", 0.75)]), None).remove(0);
    assert_eq!(outcome.within[1].within.iter().map(|one| one.passed).collect::<Vec<_>>(), [true, false]);

    let field = |rules: serde_json::Value| {
        let policy: Policy = serde_json::from_value(json!({ "rules": rules })).unwrap();
        policy.validate().unwrap_err().field
    };
    assert_eq!(field(json!([{"rule": "any-of", "rules": []}])), "rules[0].rules");
    assert_eq!(
        field(json!([{"rule": "all-of", "rules": [{"rule": "has-tag", "key": ""}]}])),
        "rules[0].rules[0].key"
    );
    assert_eq!(field(json!([{"rule": "approved", "by_at_least": 0}])), "rules[0].by_at_least");
    assert_eq!(field(json!([{"rule": "any-of", "rules": vec![servable; 50]}])), "rules[0].rules");
    let deep =
        (0..7).fold(json!({"rule": "servable"}), |inner, _| json!({"rule": "any-of", "rules": [inner]}));
    assert!(field(json!([deep])).ends_with("rules"));
}
