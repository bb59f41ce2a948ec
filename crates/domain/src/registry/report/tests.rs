//! Reports are checked by field, and gaps are those of segments that are large enough.

use serde_json::{Value, json};

use super::*;

fn report() -> Value {
    json!({
        "name": "holdout", "dataset": {"name": "cancer", "digest": "d1"}, "rows": 200,
        "metrics": {"accuracy": 0.94}, "latency": {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 2.0},
        "segments": [
            {"attribute": "age", "value": "<60", "rows": 120, "metrics": {"accuracy": 0.95, "recall": 0.5}},
            {"attribute": "age", "value": "60+", "rows": 60, "metrics": {"accuracy": 0.90}},
            {"attribute": "age", "value": "unknown", "rows": 20, "metrics": {"accuracy": 0.10}},
        ],
    })
}

fn parse(value: Value) -> Report {
    serde_json::from_value(value).unwrap()
}

#[test]
fn gaps_are_between_segments_of_enough_rows() {
    let report = parse(report());
    report.validate().unwrap();
    let gaps = report.gaps(MIN_SEGMENT_ROWS);
    assert_eq!(gaps.len(), 1, "one segment alone has no gap: {gaps:?}");
    let gap = &gaps[0];
    assert_eq!(gap.gap, 0.05, "as people would write it: {gap:?}");
    assert_eq!((gap.least_at.as_str(), gap.greatest_at.as_str()), ("60+", "<60"));
    assert_eq!((gap.segments, gap.left_out), (2, 1));
    assert!((report.gap("age", "accuracy", 1).unwrap().gap - 0.85).abs() < 1e-12);
    assert_eq!(report.gap("age", "accuracy", 61), None);
    assert_eq!(report.metric("latency.p99_ms"), Some(2.0));
}

#[test]
fn the_order_of_segments_makes_no_gap_greater() {
    let mut random = crate::test_random::Random(7);
    for _ in 0..200 {
        let count = 2 + (random.uniform() * 8.0) as u64;
        let mut one = parse(report());
        one.segments = (0..count)
            .map(|index| Segment {
                attribute: "a".to_owned(),
                value: index.to_string(),
                rows: (random.uniform() * 100.0) as u64,
                metrics: [("m".to_owned(), random.uniform())].into(),
            })
            .collect();
        let gap = one.gap("a", "m", MIN_SEGMENT_ROWS);
        let enough: Vec<f64> =
            one.segments.iter().filter(|one| one.rows >= 30).map(|one| one.metrics["m"]).collect();
        let pairs = enough.iter().flat_map(|x| enough.iter().map(move |y| x - y));
        assert_eq!(
            gap.as_ref().map(|gap| gap.gap),
            pairs.reduce(f64::max).filter(|_| enough.len() > 1).map(decimal)
        );
        one.segments.reverse();
        assert_eq!(one.gap("a", "m", MIN_SEGMENT_ROWS).map(|gap| gap.gap), gap.map(|gap| gap.gap));
    }
}

#[test]
fn a_wrong_report_is_told_which_field_is_wrong() {
    let long = "x".repeat(MAX_NAME_CHARS + 1);
    for (pointer, value, field) in [
        ("/name", json!(" "), "name"),
        ("/name", json!(long), "name"),
        ("/dataset/digest", json!(""), "dataset.digest"),
        ("/rows", json!(0), "rows"),
        ("/metrics", json!({}), "metrics"),
        ("/latency/p95_ms", json!(0.5), "latency.p95_ms"),
        ("/latency/p50_ms", json!(-1.0), "latency.p50_ms"),
        ("/segments/1/rows", json!(201), "segments[1].rows"),
        ("/segments/1/value", json!("<60"), "segments[1].value"),
        ("/segments/2/attribute", json!(""), "segments[2].attribute"),
    ] {
        let mut body = report();
        *body.pointer_mut(pointer).unwrap() = value;
        assert_eq!(parse(body).validate().unwrap_err().field, field);
    }
    let mut infinite = parse(report());
    infinite.segments[0].metrics.insert("recall".to_owned(), f64::INFINITY);
    assert_eq!(infinite.validate().unwrap_err().field, "segments[0].metrics.recall");
}
