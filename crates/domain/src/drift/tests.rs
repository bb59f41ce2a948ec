//! Laws of the distances, and how often a window raises an alarm.

mod measures;
mod verdicts;

use proptest::prelude::*;

use super::*;
use crate::test_random::Random;

const COLUMNS: usize = 30;

/// A row of correlated, partly skewed columns, as measurements of one thing are.
fn row(random: &mut Random, shift: f64, shifted: usize) -> Vec<f64> {
    let common = random.normal();
    (0..COLUMNS)
        .map(|column| {
            let noise = random.normal();
            let value = 0.8 * common + 0.6 * noise + if column < shifted { shift } else { 0.0 };
            if column % 3 == 0 { (0.5 * value).exp() } else { value }
        })
        .collect()
}

fn rows(random: &mut Random, count: usize) -> Vec<Vec<f64>> {
    (0..count).map(|_| row(random, 0.0, 0)).collect()
}

fn column_profile(name: String, mut values: Vec<f64>) -> ColumnProfile {
    values.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> = (1..10).map(|decile| values[values.len() * decile / 10]).collect();
    edges.dedup();
    let mut counts = vec![0; edges.len() + 1];
    for value in &values {
        counts[edges.partition_point(|edge| edge <= value)] += 1;
    }
    ColumnProfile {
        name,
        min: values.first().copied(),
        max: values.last().copied(),
        edges,
        counts,
        sample: values,
        ..ColumnProfile::default()
    }
}

fn profile(rows: &[Vec<f64>]) -> Profile {
    let features = (0..COLUMNS).map(|column| {
        column_profile(format!("column {column}"), rows.iter().map(|row| row[column]).collect())
    });
    Profile {
        schema: PROFILE_SCHEMA.into(),
        rows: rows.len() as u64,
        distinct_rows: None,
        features: features.collect(),
        predictions: vec![ColumnProfile {
            name: "label".into(),
            kind: ColumnKind::Categorical,
            values: vec!["0".into(), "1".into()],
            counts: vec![150, 248],
            ..ColumnProfile::default()
        }],
    }
}

fn window<'row>(profile: &Profile, rows: impl IntoIterator<Item = &'row [f64]>) -> Window {
    let mut window = Window::new(profile);
    for (index, row) in rows.into_iter().enumerate() {
        let values: Vec<Value<'_>> = row.iter().map(|value| Value::Number(*value)).collect();
        let label = if index % 8 < 3 { 0.0 } else { 1.0 };
        window.add_row(profile, &values, &[Value::Number(label)]);
    }
    window
}

fn alarms(window_rows: usize, shift: f64, shifted: usize) -> usize {
    (0..40)
        .map(|seed| {
            let mut random = Random(seed * 7_919 + 1);
            let trained = rows(&mut random, 398);
            let profile = profile(&trained);
            let live: Vec<_> = (0..window_rows).map(|_| row(&mut random, shift, shifted)).collect();
            let window = window(&profile, live.iter().map(Vec::as_slice));
            usize::from(score(&profile, &window, &Thresholds::default()).drifted)
        })
        .sum()
}

#[test]
fn windows_without_drift_raise_no_alarm() {
    for window_rows in [20, 60, 100, 300] {
        assert_eq!(alarms(window_rows, 0.0, 0), 0, "of 40 windows of {window_rows} rows");
    }
}

#[test]
fn rows_drawn_again_and_again_from_a_small_test_set_raise_no_alarm() {
    let drifted = (0..40).filter(|seed| {
        let mut random = Random(seed * 104_729 + 3);
        let profile = profile(&rows(&mut random, 398));
        let pool = rows(&mut random, 171);
        let drawn: Vec<_> = (0..200).map(|_| pool[(random.uniform() * 171.0) as usize].as_slice()).collect();
        score(&profile, &window(&profile, drawn), &Thresholds::default()).drifted
    });
    // The pool itself is a sample: one unlucky pool in many may look drifted.
    let drifted = drifted.count();
    assert!(drifted <= 1, "{drifted} of 40");
}

#[test]
fn a_shift_of_two_deviations_in_some_columns_is_always_seen() {
    for window_rows in [60, 100, 300] {
        for shift in [2.0, 3.0, -2.5] {
            assert_eq!(alarms(window_rows, shift, 6), 40, "{shift} deviations, {window_rows} rows");
        }
    }
}

#[test]
fn scores_say_why() {
    let mut random = Random(5);
    let profile = profile(&rows(&mut random, 398));
    let live: Vec<_> = (0..100).map(|_| row(&mut random, 3.0, 6)).collect();
    let scores = score(&profile, &window(&profile, live.iter().map(Vec::as_slice)), &Thresholds::default());
    assert!(scores.drifted && (scores.share_drifted - 0.2).abs() < 1e-9, "{}", scores.share_drifted);
    assert!(!scores.predictions_drifted);
    let moved = &scores.features[1];
    assert!(moved.drifted && moved.psi > 1.0 && moved.ks.is_some_and(|ks| ks > 0.5));
    assert!(moved.reasons.iter().any(|reason| reason.starts_with("psi ")), "{:?}", moved.reasons);
    assert!(scores.features[7].reasons.is_empty());
}

#[test]
fn missing_and_unknown_values_are_drift_too() {
    let mut random = Random(6);
    let profile = profile(&rows(&mut random, 398));
    let mut window = Window::new(&profile);
    for index in 0..100 {
        let mut values: Vec<_> = row(&mut random, 0.0, 0).into_iter().map(Value::Number).collect();
        if index % 2 == 0 {
            values[3] = Value::Missing;
            values[4] = Value::Number(f64::NAN);
            values[5] = Value::Number(1e9);
        }
        window.add_row(&profile, &values, &[Value::Text(if index % 2 == 0 { "2" } else { "1" })]);
    }
    let scores = score(&profile, &window, &Thresholds::default());
    for column in [3, 4] {
        assert!((scores.features[column].missing_rate - 0.5).abs() < 1e-9);
        assert!(scores.features[column].reasons[0].starts_with("missing_rate"));
    }
    assert!(scores.features[5].out_of_range_rate >= 0.5 && scores.features[5].drifted);
    assert!(scores.predictions_drifted && (scores.predictions[0].out_of_range_rate - 0.5).abs() < 1e-9);
    let reasons = scores.reasons.join("; ");
    assert!(scores.share_drifted < 0.15 && reasons.contains("% of the rows"), "{reasons}");
    assert!(reasons.contains("prediction `label` drifted"), "{reasons}");
}

#[test]
fn constant_columns_and_small_windows_do_not_drift() {
    let rows: Vec<Vec<f64>> = vec![vec![0.0; COLUMNS]; 400];
    let profile = profile(&rows);
    profile.validate().expect("valid");
    let scores = score(&profile, &window(&profile, rows.iter().map(Vec::as_slice)), &Thresholds::default());
    assert!(!scores.drifted && scores.features.iter().all(|score| score.psi == 0.0 && score.ks == Some(0.0)));
    let few = vec![vec![9.0; COLUMNS]; 19];
    let scores = score(&profile, &window(&profile, few.iter().map(Vec::as_slice)), &Thresholds::default());
    assert!(!scores.conclusive && !scores.drifted);
}

#[test]
fn values_on_an_edge_stay_in_their_bin_in_single_precision() {
    let column = column_profile("x".into(), (0..400).map(|i| f64::from(i % 20) / 10.0 + 0.1).collect());
    let profile = Profile {
        schema: PROFILE_SCHEMA.into(),
        rows: 400,
        distinct_rows: None,
        features: vec![column.clone()],
        predictions: vec![],
    };
    let mut window = Window::new(&profile);
    for value in &column.sample {
        let single = f64::from(*value as f32);
        window.add_row(&profile, &[Value::Rounded(single, Precision::Single)], &[]);
    }
    let scores = score(&profile, &window, &Thresholds::default());
    assert_eq!((scores.features[0].psi, scores.features[0].ks), (0.0, Some(0.0)));
    assert_eq!(scores.features[0].out_of_range_rate, 0.0);
}

#[test]
fn profiles_say_which_field_is_wrong() {
    let good = profile(&rows(&mut Random(1), 398));
    good.validate().expect("valid");
    let with = |change: &dyn Fn(&mut Profile)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.validate().expect_err("breaks a rule").field
    };
    assert_eq!(with(&|bad| bad.schema = "v2".into()), "schema");
    assert_eq!(with(&|bad| bad.rows = 0), "rows");
    assert_eq!(with(&|bad| bad.features[2].edges[0] = f64::NAN), "features[2].edges");
    assert_eq!(with(&|bad| bad.features[2].counts.push(1)), "features[2].counts");
    assert_eq!(with(&|bad| bad.features[0].counts[0] = u64::MAX), "features[0].counts");
    assert_eq!(with(&|bad| bad.features[1].sample.reverse()), "features[1].sample");
    assert_eq!(with(&|bad| bad.features[1].max = None), "features[1].min");
    assert_eq!(with(&|bad| bad.features[1].name = "column 0".into()), "features[1].name");
    assert_eq!(with(&|bad| bad.features[0].missing_rate = 1.5), "features[0].missing_rate");
    assert_eq!(
        with(&|bad| bad.predictions[0].values = vec!["0".into(), "0".into()]),
        "predictions[0].values"
    );
    let json = r#"{"schema":"slipway.profile/1","rows":398,
        "features":[{"name":"mean radius","missing_rate":0.0,"min":1,"max":9,"edges":[2.5],"counts":[150,248],"sample":[1,9]}],
        "predictions":[{"name":"label","kind":"categorical","values":["0","1"],"counts":[150,248]},
                       {"name":"p","kind":"numeric","min":0,"max":1,"edges":[0.5],"counts":[100,298],"sample":[0,1]}]}"#;
    serde_json::from_str::<Profile>(json).expect("parses").validate().expect("valid");
}

fn scored(drifted: bool) -> WindowScores {
    WindowScores { rows: 100, conclusive: true, drifted, ..WindowScores::default() }
}

fn monitor(series: &[(bool, u64)], policy: &policy::Policy) -> Vec<policy::MonitorAction> {
    let mut state = policy::MonitorState::default();
    let mut told = Vec::new();
    for (window, (drifted, now)) in (1..).zip(series) {
        let (next, actions) = policy::step(policy, &state, window, &scored(*drifted), *now);
        let again = policy::step(policy, &next, window, &scored(*drifted), *now);
        assert_eq!(again, (next.clone(), vec![]), "the same window again changes nothing");
        state = next;
        told.extend(actions);
    }
    told
}

#[test]
fn an_alarm_takes_windows_in_a_row_and_is_raised_once() {
    use policy::MonitorAction::{Cleared, Detected};
    let policy = policy::Policy { consecutive_windows: 2, cool_down_s: 10.0 };
    let series = |text: &str| -> Vec<(bool, u64)> {
        text.chars().enumerate().map(|(index, c)| (c == 'D', index as u64 * 1_000)).collect()
    };
    assert_eq!(monitor(&series("D.D.D."), &policy), []);
    assert_eq!(monitor(&series("DDDDDD"), &policy), [Detected { windows: vec![1, 2] }]);
    assert_eq!(
        monitor(&series(".DD.D..DD"), &policy),
        [Detected { windows: vec![2, 3] }, Cleared { windows: vec![6, 7] }],
        "the cool-down holds the second alarm back"
    );
    assert_eq!(
        monitor(&series(".DD..DDDDDDDD"), &policy),
        [
            Detected { windows: vec![2, 3] },
            Cleared { windows: vec![4, 5] },
            Detected { windows: vec![12, 13] }
        ],
        "drift that outlasts the cool-down is told"
    );
    let mut state = policy::MonitorState::default();
    state = policy::step(&policy, &state, 1, &scored(true), 0).0;
    let unclear = WindowScores { conclusive: false, ..scored(false) };
    state = policy::step(&policy, &state, 2, &unclear, 0).0;
    let (_, actions) = policy::step(&policy, &state, 3, &scored(true), 0);
    assert_eq!(actions, [Detected { windows: vec![1, 3] }], "an empty window breaks no row");
}

fn histograms() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
    (1_usize..20).prop_flat_map(|bins| {
        let counts = || proptest::collection::vec(prop_oneof![Just(0_u64), 0..10_000_u64], bins);
        (counts(), counts())
    })
}

fn sample() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(prop_oneof![(0_i32..5).prop_map(f64::from), -1e6..1e6_f64], 0..60).prop_map(
        |mut values| {
            values.sort_by(f64::total_cmp);
            values
        },
    )
}

proptest! {
    #[test]
    fn psi_is_zero_for_equal_shares((counts, _) in histograms(), factor in 1_u64..50) {
        prop_assert_eq!(psi(&counts, &counts), 0.0);
        let scaled: Vec<u64> = counts.iter().map(|count| count * factor).collect();
        prop_assert!(psi(&counts, &scaled).abs() < 1e-9);
    }

    #[test]
    fn psi_is_never_negative_and_the_same_swapped((expected, actual) in histograms()) {
        let there = psi(&expected, &actual);
        prop_assert!(there >= 0.0 && there.is_finite());
        prop_assert!((there - psi(&actual, &expected)).abs() <= 1e-12 * there.max(1.0));
    }

    #[test]
    fn ks_is_a_distance_of_0_to_1(left in sample(), right in sample()) {
        let distance = ks_statistic(&left, &right);
        prop_assert!((0.0..=1.0).contains(&distance));
        prop_assert_eq!(distance, ks_statistic(&right, &left));
        prop_assert_eq!(ks_statistic(&left, &left), 0.0);
        let above: Vec<f64> = right.iter().map(|value| value + 1e7).collect();
        let apart = if left.is_empty() || right.is_empty() { 0.0 } else { 1.0 };
        prop_assert_eq!(ks_statistic(&left, &above), apart);
    }

    #[test]
    fn ks_agrees_with_its_definition(left in sample(), right in sample()) {
        prop_assume!(!left.is_empty() && !right.is_empty());
        let share = |sample: &[f64], at: f64| sample.iter().filter(|x| **x <= at).count() as f64
            / sample.len() as f64;
        let slow = left.iter().chain(&right).map(|at| (share(&left, *at) - share(&right, *at)).abs())
            .fold(0.0, f64::max);
        prop_assert!((ks_statistic(&left, &right) - slow).abs() < 1e-12);
    }

    #[test]
    fn p_values_are_probabilities_that_fall_with_distance(distance in 0.0_f64..1.0, left in 0_usize..3_000,
        right in 0_usize..3_000) {
        let p_value = ks_p_value(distance, left, right);
        prop_assert!((0.0..=1.0).contains(&p_value));
        prop_assert!(ks_p_value((distance + 0.05).min(1.0), left, right) <= p_value + 1e-9);
    }

    #[test]
    fn any_numbers_give_finite_scores(values in proptest::collection::vec(proptest::num::f64::ANY, 0..80)) {
        let profile = Profile {
            schema: PROFILE_SCHEMA.into(),
            rows: 4,
            distinct_rows: None,
            features: vec![column_profile("x".into(), vec![1.0, 2.0, 3.0, 4.0])],
            predictions: vec![],
        };
        let mut window = Window::new(&profile);
        for value in values.iter().filter(|value| value.is_nan() || value.abs() < 1e30) {
            window.add_row(&profile, &[Value::Number(*value)], &[]);
        }
        let scores = score(&profile, &window, &Thresholds::default());
        prop_assert!(scores.features[0].psi >= 0.0 && scores.features[0].psi.is_finite());
    }
}

#[test]
fn a_long_window_keeps_a_uniform_sample() {
    let column = column_profile("x".into(), (0..100).map(f64::from).collect());
    let profile = Profile {
        schema: PROFILE_SCHEMA.into(),
        rows: 100,
        distinct_rows: None,
        features: vec![column],
        predictions: vec![],
    };
    let mut window = Window::new(&profile);
    for row in 0..20_000_u32 {
        window.add_row(&profile, &[Value::Number(f64::from(row % 100))], &[]);
    }
    assert_eq!(window.features[0].sample.len(), MAX_SAMPLE);
    let scores = score(&profile, &window, &Thresholds::default());
    assert!(scores.features[0].ks.is_some_and(|ks| ks < 0.05) && scores.features[0].psi < 1e-9);
}

#[test]
fn what_drifts_in_addition_is_reported_once() {
    use policy::MonitorAction::{Cleared, Detected, Widened};
    let policy = policy::Policy { consecutive_windows: 2, cool_down_s: 5.0 };
    let column = |name: &str| FeatureScore { name: name.into(), drifted: true, ..FeatureScore::default() };
    let windows = ["a", "a", "ab", "a", "ab", "ab", "abp", "abp", "abp", "", ""];
    let mut state = policy::MonitorState::default();
    let mut told = Vec::new();
    for (number, drifted) in (1..).zip(windows) {
        let scores = WindowScores {
            features: drifted.chars().filter(|c| *c != 'p').map(|c| column(&c.to_string())).collect(),
            predictions: drifted.chars().filter(|c| *c == 'p').map(|_| column("label")).collect(),
            ..scored(!drifted.is_empty())
        };
        let (next, actions) = policy::step(&policy, &state, number, &scores, number * 1_000);
        told.extend(actions);
        // As Postgres keeps it.
        state = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap();
        assert_eq!(state, next);
    }
    let widened = |windows: &[u64], part: &str, acts| Widened {
        windows: windows.to_vec(),
        parts: vec![part.to_owned()],
        acts,
    };
    assert_eq!(
        told,
        [
            Detected { windows: vec![1, 2] },
            widened(&[5, 6], "feature b", false),
            widened(&[7, 8], "prediction label", true),
            Cleared { windows: vec![10, 11] }
        ]
    );
    assert!(state.reported.is_empty() && state.rising.is_empty());
}
