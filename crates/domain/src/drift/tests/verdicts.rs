//! What counts as drift, and what does not: false alarms are as rare as stated, and gross faults are seen.

use proptest::prelude::*;

use super::super::*;
use crate::test_random::Random;

/// A value of a test's table.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Gap,
    Number(f64),
    Text(String),
}

/// A distribution of one column.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    Normal,
    Heavy,
    Skewed,
    Digits,
    Constant,
    Ids,
    BigIds,
    Shifted(f64),
    Level,
    UserId,
    MostlyMissing,
    AlwaysMissing,
    MostlyZero,
}

const SOURCES: [Source; 12] = [
    Source::Normal,
    Source::Heavy,
    Source::Skewed,
    Source::Digits,
    Source::Constant,
    Source::Ids,
    Source::BigIds,
    Source::Level,
    Source::UserId,
    Source::MostlyMissing,
    Source::AlwaysMissing,
    Source::MostlyZero,
];

impl Source {
    fn draw(self, random: &mut Random) -> Cell {
        let whole = |random: &mut Random, below: f64| (random.uniform() * below).floor();
        match self {
            Self::Normal => Cell::Number(random.normal()),
            Self::Shifted(by) => Cell::Number(random.normal() + by),
            // Cauchy: neither mean nor variance.
            Self::Heavy => Cell::Number(random.normal() / random.normal()),
            Self::Skewed => Cell::Number(random.normal().exp()),
            Self::Digits => Cell::Number(20_000_000.0 + whole(random, 21.0)),
            Self::Constant => Cell::Number(7.0),
            Self::Ids => Cell::Number(whole(random, 1e9)),
            Self::BigIds => Cell::Number(9e15 + whole(random, 1e6)),
            Self::Level => {
                Cell::Text(["low", "high", "mid", "rare"][(random.uniform().powi(3) * 4.0) as usize].into())
            }
            Self::UserId => Cell::Text(format!("user-{}", whole(random, 1e6))),
            Self::MostlyMissing if random.chance(0.7) => Cell::Gap,
            Self::MostlyMissing => Cell::Number(random.normal()),
            Self::AlwaysMissing => Cell::Gap,
            Self::MostlyZero => Cell::Number(if random.chance(0.95) { 0.0 } else { random.normal() }),
        }
    }
}

fn table(random: &mut Random, sources: &[Source], rows: usize) -> Vec<Vec<Cell>> {
    (0..rows).map(|_| sources.iter().map(|source| source.draw(random)).collect()).collect()
}

/// A profile as the training helper makes it.
fn profile_of(table: &[Vec<Cell>]) -> Profile {
    let width = table.first().map_or(0, Vec::len);
    let features =
        (0..width).map(|at| column(format!("column {at}"), table.iter().map(|row| &row[at]).collect()));
    let profile = Profile {
        schema: PROFILE_SCHEMA.into(),
        rows: table.len() as u64,
        distinct_rows: None,
        features: features.collect(),
        predictions: Vec::new(),
    };
    profile.validate().expect("valid");
    profile
}

fn column(name: String, cells: Vec<&Cell>) -> ColumnProfile {
    let gaps = cells.iter().filter(|cell| ***cell == Cell::Gap).count();
    let missing_rate = gaps as f64 / cells.len() as f64;
    let mut numbers: Vec<f64> = Vec::new();
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for cell in cells {
        match cell {
            Cell::Number(number) => numbers.push(*number),
            Cell::Text(text) => *counts.entry(text.clone()).or_default() += 1,
            Cell::Gap => {}
        }
    }
    if counts.is_empty() {
        return ColumnProfile { missing_rate, ..numeric(name, numbers) };
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(100);
    let (values, counts) = counts.into_iter().unzip();
    ColumnProfile {
        name,
        kind: ColumnKind::Categorical,
        missing_rate,
        values,
        counts,
        ..ColumnProfile::default()
    }
}

/// Edges half-way between the deciles and the next greater values.
fn numeric(name: String, mut values: Vec<f64>) -> ColumnProfile {
    values.sort_by(f64::total_cmp);
    let mut distinct = values.clone();
    distinct.dedup();
    let mut edges: Vec<f64> = (1..10)
        .filter(|_| distinct.len() > 1)
        .map(|decile| {
            let at = distinct.partition_point(|value| *value < values[values.len() * decile / 10]);
            let at = at.min(distinct.len() - 2);
            distinct[at] / 2.0 + distinct[at + 1] / 2.0
        })
        .collect();
    edges.dedup();
    let mut counts = vec![0; edges.len() + 1];
    for value in &values {
        counts[edges.partition_point(|edge| edge <= value)] += 1;
    }
    let kept = values.len().min(512);
    let place = |at: usize| if kept > 1 { at * (values.len() - 1) / (kept - 1) } else { 0 };
    ColumnProfile {
        name,
        min: values.first().copied(),
        max: values.last().copied(),
        edges,
        counts,
        sample: (0..kept).map(|at| values[place(at)]).collect(),
        ..ColumnProfile::default()
    }
}

fn value(cell: &Cell, precision: Option<Precision>) -> Value<'_> {
    match (cell, precision) {
        (Cell::Gap, _) => Value::Missing,
        (Cell::Number(number), None) => Value::Number(*number),
        (Cell::Number(number), Some(precision)) => Value::Rounded(*number, precision),
        (Cell::Text(text), _) => Value::Text(text),
    }
}

fn window_of<'row>(
    profile: &Profile,
    rows: impl IntoIterator<Item = &'row Vec<Cell>>,
    precision: Option<Precision>,
) -> Window {
    let mut window = Window::new(profile);
    for row in rows {
        let values: Vec<Value<'_>> = row.iter().map(|cell| value(cell, precision)).collect();
        window.add_row(profile, &values, &[]);
    }
    window
}

fn judged(trained: &[Vec<Cell>], live: &[Vec<Cell>]) -> WindowScores {
    let profile = profile_of(trained);
    score(&profile, &window_of(&profile, live, None), &Thresholds::default())
}

#[test]
fn false_alarms_are_as_rare_as_stated() {
    let mut random = Random(11);
    let (mut alarms, mut columns, mut windows) = (0, 0, 0);
    let mut first = None;
    for trained_rows in [50, 300, 3_000] {
        for _ in 0..6 {
            let trained = table(&mut random, &SOURCES, trained_rows);
            let profile = profile_of(&trained);
            for (window_rows, precision) in [
                (20, None),
                (60, Some(Precision::Single)),
                (100, None),
                (100, Some(Precision::Single)),
                (100, Some(Precision::Half)),
                (400, Some(Precision::Single)),
            ] {
                let fresh = table(&mut random, &SOURCES, window_rows);
                let place = |random: &mut Random| (random.uniform() * trained_rows as f64) as usize;
                let drawn: Vec<Vec<Cell>> =
                    (0..window_rows).map(|_| trained[place(&mut random)].clone()).collect();
                for live in [fresh, drawn] {
                    let scores =
                        score(&profile, &window_of(&profile, &live, precision), &Thresholds::default());
                    windows += 1;
                    alarms += usize::from(scores.drifted);
                    let drifted = scores.features.iter().filter(|column| column.drifted);
                    let drifted: Vec<_> = drifted.map(|column| (&column.name, &column.reasons)).collect();
                    if !drifted.is_empty() {
                        columns += 1;
                        first =
                            first.or(Some(format!("{trained_rows}/{window_rows} {precision:?} {drifted:?}")));
                    }
                }
            }
        }
    }
    // Two of a hundred would be one per cent and three deviations of 216 windows.
    assert!(
        alarms * 100 <= windows * 2 && columns * 100 <= windows * 3,
        "{alarms}, {columns} of {windows}: {first:?}"
    );
}

#[test]
fn the_training_data_itself_is_no_drift_in_any_precision() {
    let mut random = Random(12);
    let trained = table(&mut random, &SOURCES, 400);
    let profile = profile_of(&trained);
    for precision in [None, Some(Precision::Single), Some(Precision::Half), Some(Precision::BrainFloat)] {
        let scores = score(&profile, &window_of(&profile, &trained, precision), &Thresholds::default());
        for column in &scores.features {
            assert!(!column.drifted && column.psi < 0.02, "{precision:?} {column:?}");
            assert!(column.ks.is_none_or(|ks| ks < 0.02), "{column:?}");
        }
        assert!(!scores.drifted, "{:?}", scores.reasons);
    }
}

#[test]
fn one_feature_of_thirty_that_is_grossly_wrong_raises_an_alarm() {
    let sources = [Source::Normal; 30];
    let mut random = Random(13);
    let trained = table(&mut random, &sources, 400);
    type Change = fn(f64) -> Cell;
    let wrong: [(&str, Change); 6] = [
        ("100 deviations", |value| Cell::Number(value + 100.0)),
        ("all missing", |_| Cell::Gap),
        ("stuck", |_| Cell::Number(0.01)),
        ("another unit", |value| Cell::Number(value * 1_000.0)),
        ("text", |_| Cell::Text("n/a".into())),
        ("zeros", |_| Cell::Number(0.0)),
    ];
    for (what, change) in wrong {
        for rows in [20, 100, 500] {
            let mut live = table(&mut random, &sources, rows);
            for row in &mut live {
                let Cell::Number(value) = row[17] else { panic!("a number") };
                row[17] = change(value);
            }
            let scores = judged(&trained, &live);
            assert!(scores.drifted, "{what}, {rows} rows: {:?}", scores.features[17]);
            assert!(scores.reasons[0].contains("`column 17`"), "{:?}", scores.reasons);
            assert_eq!(scores.drifted_parts(), ["feature column 17"], "{what}, {rows} rows");
        }
    }
}

#[test]
fn one_feature_that_moves_a_little_drifts_without_an_alarm() {
    let mut random = Random(14);
    let trained = table(&mut random, &[Source::Normal; 30], 400);
    let mut sources = [Source::Normal; 30];
    sources[3] = Source::Shifted(0.9);
    let scores = judged(&trained, &table(&mut random, &sources, 300));
    assert!(scores.features[3].drifted && !scores.drifted, "{:?}", scores.features[3]);
    sources[..6].fill(Source::Shifted(0.9));
    let scores = judged(&trained, &table(&mut random, &sources, 300));
    assert!(scores.drifted && scores.reasons[0].contains("of 30 features drifted"), "{:?}", scores.reasons);
}

#[test]
fn a_feed_that_repeats_a_few_rows_is_drift() {
    let mut random = Random(15);
    let sources = [Source::Normal; 30];
    let trained = table(&mut random, &sources, 400);
    for (different, rows) in [(1, 20), (1, 100), (2, 100), (5, 500), (10, 500)] {
        let pool = table(&mut random, &sources, different);
        let live: Vec<_> = (0..rows).map(|at| pool[at % different].clone()).collect();
        let scores = judged(&trained, &live);
        assert!(scores.drifted && scores.rows_repeated, "{different} of {rows}: {:?}", scores.reasons);
        assert!(scores.drifted_parts().contains(&"repeated rows".to_owned()));
        assert_eq!(scores.distinct_rows, different as u64);
    }
    // Sixty flags: no column is varied, and still one row again and again is not what training had.
    let flags = |random: &mut Random| -> Vec<Cell> {
        (0..60).map(|_| Cell::Number(f64::from(u8::from(random.chance(0.5))))).collect()
    };
    let trained: Vec<_> = (0..400).map(|_| flags(&mut random)).collect();
    let stuck = vec![flags(&mut random); 100];
    assert!(judged(&trained, &stuck).drifted);
}

#[test]
fn rows_that_repeat_in_training_may_repeat() {
    let mut random = Random(16);
    for sources in
        [&[Source::Constant, Source::Level][..], &[Source::MostlyZero; 20], &[Source::AlwaysMissing; 3]]
    {
        let trained = table(&mut random, sources, 500);
        let scores = judged(&trained, &table(&mut random, sources, 200));
        assert!(!scores.drifted, "{:?}", scores.reasons);
    }
    // Copies of one column: many columns, few rows.
    let copies = |random: &mut Random| vec![Cell::Number(f64::from(u8::from(random.chance(0.5)))); 60];
    let trained: Vec<_> = (0..400).map(|_| copies(&mut random)).collect();
    let live: Vec<_> = (0..200).map(|_| copies(&mut random)).collect();
    assert!(!judged(&trained, &live).drifted);
}

#[test]
fn missing_values_that_vanish_are_drift() {
    let mut random = Random(17);
    let sources = [Source::MostlyMissing, Source::AlwaysMissing, Source::Normal, Source::Normal];
    let trained = table(&mut random, &sources, 600);
    let scores = judged(&trained, &table(&mut random, &[Source::Normal; 4], 120));
    for column in &scores.features[..2] {
        assert!(
            column.drifted && column.reasons.iter().any(|reason| reason.contains("missing_rate")),
            "{column:?}"
        );
    }
    assert_eq!(scores.drifted_parts(), ["feature column 0", "feature column 1"]);
}

#[test]
fn truth_values_and_numbers_are_categories_however_they_are_written() {
    let category = |values: &[&str], counts: &[u64]| ColumnProfile {
        name: "c".into(),
        kind: ColumnKind::Categorical,
        values: values.iter().map(ToString::to_string).collect(),
        counts: counts.to_vec(),
        ..ColumnProfile::default()
    };
    let unknown = |column: &ColumnProfile, value: Value<'_>| {
        let profile = Profile {
            schema: PROFILE_SCHEMA.into(),
            rows: 100,
            distinct_rows: None,
            features: vec![column.clone()],
            predictions: vec![],
        };
        let mut window = Window::new(&profile);
        (0..20).for_each(|_| window.add_row(&profile, &[value], &[]));
        score(&profile, &window, &Thresholds::default()).features[0].out_of_range_rate
    };
    let known: [(&[&str], &[Value<'_>]); 4] = [
        (&["False", "True"], &[Value::Flag(true), Value::Number(1.0), Value::Text("true"), Value::Text("1")]),
        (&["0", "1"], &[Value::Flag(true), Value::Number(1.0), Value::Text("True"), Value::Text("1.0")]),
        (&["1.0", "2.5"], &[Value::Number(1.0), Value::Number(2.5), Value::Flag(true), Value::Text("2.50")]),
        (&["0.1", "7"], &[Value::Rounded(0.1, Precision::Single), Value::Rounded(7.0, Precision::Half)]),
    ];
    for (values, ways) in known {
        for way in ways {
            assert_eq!(unknown(&category(values, &[50, 50]), *way), 0.0, "{way:?} of {values:?}");
        }
    }
    for other in [Value::Number(2.0), Value::Text("yes"), Value::Text("")] {
        assert_eq!(unknown(&category(&["False", "True"], &[50, 50]), other), 1.0, "{other:?}");
    }
}

#[test]
fn columns_that_the_records_do_not_have_are_not_judged() {
    let mut random = Random(18);
    let trained = table(&mut random, &[Source::Normal; 4], 400);
    let profile = profile_of(&trained);
    let mut window = Window::new(&profile);
    for row in table(&mut random, &[Source::Normal; 2], 100) {
        let values: Vec<Value<'_>> = row.iter().map(|cell| value(cell, None)).collect();
        window.add_row(&profile, &values, &[]);
    }
    let scores = score(&profile, &window, &Thresholds::default());
    let compared: Vec<bool> = scores.features.iter().map(|column| column.compared).collect();
    assert_eq!((compared, scores.drifted, scores.conclusive), (vec![true, true, false, false], false, true));
    let mut window = Window::new(&profile);
    (0..100).for_each(|_| window.add_row(&profile, &[], &[]));
    let scores = score(&profile, &window, &Thresholds::default());
    assert!(!scores.conclusive && !scores.drifted, "nothing is known");
}

#[test]
fn a_prediction_alarms_alone() {
    let mut random = Random(19);
    let trained = table(&mut random, &[Source::Normal; 30], 400);
    let mut profile = profile_of(&trained);
    profile.predictions = vec![ColumnProfile {
        name: "label".into(),
        kind: ColumnKind::Categorical,
        values: vec!["0".into(), "1".into()],
        counts: vec![150, 250],
        ..ColumnProfile::default()
    }];
    let mut window = Window::new(&profile);
    for row in table(&mut random, &[Source::Normal; 30], 100) {
        let values: Vec<Value<'_>> = row.iter().map(|cell| value(cell, None)).collect();
        window.add_row(&profile, &values, &[Value::Number(1.0)]);
    }
    let scores = score(&profile, &window, &Thresholds::default());
    assert!(scores.drifted && scores.predictions_drifted && scores.share_drifted == 0.0);
    assert_eq!(scores.drifted_parts(), ["prediction label"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any mix of columns, any sizes: the training data drawn again and again raises no alarm.
    #[test]
    fn windows_of_the_baseline_do_not_drift(
        seed in any::<u64>(),
        picks in proptest::collection::vec(0..SOURCES.len(), 1..12),
        trained_rows in 30_usize..1_000,
        window_rows in 20_usize..300,
        single in any::<bool>(),
    ) {
        let mut random = Random(seed);
        let sources: Vec<Source> = picks.into_iter().map(|at| SOURCES[at]).collect();
        let trained = table(&mut random, &sources, trained_rows);
        let profile = profile_of(&trained);
        let precision = single.then_some(Precision::Single);
        // A stretch of the table: drawing with luck would now and then be an alarm by right.
        let from = (random.uniform() * trained_rows as f64) as usize;
        let live: Vec<Vec<Cell>> = trained.iter().cycle().skip(from).take(window_rows).cloned().collect();
        let strict = Thresholds { p_value: 1e-5, ..Thresholds::default() };
        let scores = score(&profile, &window_of(&profile, &live, precision), &strict);
        prop_assert!(!scores.drifted, "{:?}", scores.reasons);
    }

    /// A shift of any one column by many deviations is an alarm in a window of any size.
    #[test]
    fn gross_shifts_are_seen(
        seed in any::<u64>(),
        columns in 1_usize..40,
        at in any::<prop::sample::Index>(),
        by in 6.0_f64..1e6,
        window_rows in 20_usize..200,
    ) {
        let mut random = Random(seed);
        let mut sources = vec![Source::Normal; columns];
        let trained = table(&mut random, &sources, 300);
        sources[at.index(columns)] = Source::Shifted(by);
        let scores = judged(&trained, &table(&mut random, &sources, window_rows));
        prop_assert!(scores.drifted, "{:?}", scores.features[at.index(columns)]);
    }
}
