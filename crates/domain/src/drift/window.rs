//! Live rows gathered for one comparison, in memory that does not grow with their number.

use std::collections::{BTreeMap, HashMap};

use super::precision::Precision;
use super::profile::{ColumnKind, ColumnProfile, Profile};
use crate::traffic::stable_hash;

/// Values kept of each numeric column for the Kolmogorov-Smirnov test; a uniform sample of all.
pub const MAX_SAMPLE: usize = 2_048;

/// A value as it arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'row> {
    /// The record has no such column, so nothing is known of it.
    Absent,
    /// `null` or NaN.
    Missing,
    /// A number of a type that holds it exactly, such as `FP64` or `INT64`.
    Number(f64),
    /// A number that was rounded on its way into the model.
    Rounded(f64, Precision),
    /// A truth value.
    Flag(bool),
    /// A string.
    Text(&'row str),
}

/// Rows of one window, counted by the bins of one profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    rows: u64,
    /// How often each row occurred, by its hash; at most [`MAX_SAMPLE`] different ones.
    repeats: BTreeMap<u64, u64>,
    /// Whether a row was left out of `repeats` because it was full: no row is counted any more then.
    full: bool,
    pub(super) features: Vec<ColumnWindow>,
    pub(super) predictions: Vec<ColumnWindow>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ColumnWindow {
    /// Rows in each bin of the profile; a categorical column has one bin more, for unknown values.
    pub(super) bins: Vec<u64>,
    pub(super) missing: u64,
    pub(super) out_of_range: u64,
    pub(super) present: u64,
    pub(super) sample: Vec<f64>,
    /// The coarsest that a value came in; `None`: all were exact.
    pub(super) precision: Option<Precision>,
    categories: Categories,
}

/// Finds the bin of a category, however it is written.
#[derive(Debug, Clone, PartialEq, Default)]
struct Categories {
    texts: HashMap<String, usize>,
    /// By the bits of the number.
    numbers: HashMap<u64, usize>,
    flags: [Option<usize>; 2],
}

impl Window {
    /// An empty window of `profile`.
    pub fn new(profile: &Profile) -> Self {
        let columns = |columns: &[ColumnProfile]| columns.iter().map(ColumnWindow::new).collect();
        Self {
            rows: 0,
            repeats: BTreeMap::new(),
            full: false,
            features: columns(&profile.features),
            predictions: columns(&profile.predictions),
        }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Counts one row. Values are in the order of the profile's columns; those that are not there are absent,
    /// those beyond it are ignored.
    pub fn add_row(&mut self, profile: &Profile, features: &[Value<'_>], predictions: &[Value<'_>]) {
        self.rows += 1;
        self.count_row(row_hash(features));
        let add = |windows: &mut [ColumnWindow], columns: &[ColumnProfile], values: &[Value<'_>]| {
            for (index, (window, column)) in windows.iter_mut().zip(columns).enumerate() {
                window.add(column, values.get(index).copied().unwrap_or(Value::Absent));
            }
        };
        add(&mut self.features, &profile.features, features);
        add(&mut self.predictions, &profile.predictions, predictions);
    }

    fn count_row(&mut self, hash: u64) {
        if self.full {
            return;
        }
        if self.repeats.len() < MAX_SAMPLE || self.repeats.contains_key(&hash) {
            *self.repeats.entry(hash).or_default() += 1;
        } else {
            self.full = true;
        }
    }

    /// How often each different row occurred, of the rows that were looked at for repetition.
    pub(super) fn repeats(&self) -> impl Iterator<Item = u64> {
        self.repeats.values().copied()
    }
}

fn row_hash(features: &[Value<'_>]) -> u64 {
    features.iter().fold(0, |hash, value| {
        let of_value = match value {
            Value::Absent => 0,
            Value::Missing => 1,
            Value::Flag(flag) => 2 + u64::from(*flag),
            Value::Number(number) | Value::Rounded(number, _) => number.to_bits(),
            Value::Text(text) => stable_hash(&[text]),
        };
        spread(hash ^ of_value)
    })
}

impl ColumnWindow {
    fn new(column: &ColumnProfile) -> Self {
        let (bins, categories) = match column.kind {
            ColumnKind::Numeric => (column.counts.len(), Categories::default()),
            ColumnKind::Categorical => (column.counts.len() + 1, Categories::new(&column.values)),
        };
        Self {
            bins: vec![0; bins],
            missing: 0,
            out_of_range: 0,
            present: 0,
            sample: Vec::new(),
            precision: None,
            categories,
        }
    }

    /// Rows whose record has the column.
    pub(super) fn compared(&self) -> u64 {
        self.present + self.missing
    }

    fn add(&mut self, column: &ColumnProfile, value: Value<'_>) {
        let bin = match (column.kind, value) {
            (_, Value::Absent) => return,
            (_, Value::Missing) => None,
            (_, Value::Number(number) | Value::Rounded(number, _)) if number.is_nan() => None,
            (ColumnKind::Numeric, value) => self.add_numeric(column, value),
            (ColumnKind::Categorical, value) => Some(self.add_category(value)),
        };
        match bin {
            Some(bin) => {
                self.present += 1;
                self.bins[bin] += 1;
            }
            None => self.missing += 1,
        }
    }

    /// The bin of a number; `None` for a text that is none.
    fn add_numeric(&mut self, column: &ColumnProfile, value: Value<'_>) -> Option<usize> {
        let (number, precision) = match value {
            Value::Number(number) => (number, None),
            Value::Rounded(number, precision) => (precision.round(number), Some(precision)),
            Value::Flag(flag) => (f64::from(u8::from(flag)), None),
            Value::Text(text) => (number_of(text)?, None),
            Value::Absent | Value::Missing => return None,
        };
        self.precision = self.precision.max(precision);
        let rounded = |bound: f64| precision.map_or(bound, |precision| precision.round(bound));
        let below = column.min.is_some_and(|min| number < rounded(min));
        let above = column.max.is_some_and(|max| number > rounded(max));
        self.out_of_range += u64::from(below || above);
        self.keep(number);
        Some(column.bin_of(number, precision))
    }

    fn add_category(&mut self, value: Value<'_>) -> usize {
        let known = self.categories.find(value);
        self.out_of_range += u64::from(known.is_none());
        // The last bin is for what training did not know.
        known.unwrap_or(self.bins.len() - 1)
    }

    /// Reservoir sampling, algorithm R, with the number of the value in place of a random source: the same
    /// rows give the same sample on every replay.
    fn keep(&mut self, number: f64) {
        if self.sample.len() < MAX_SAMPLE {
            self.sample.push(number);
            return;
        }
        let place = usize::try_from(spread(self.present) % (self.present + 1)).unwrap_or(usize::MAX);
        if let Some(kept) = self.sample.get_mut(place) {
            *kept = number;
        }
    }

    pub(super) fn sorted_sample(&self) -> Vec<f64> {
        let mut sorted = self.sample.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl Categories {
    fn new(values: &[String]) -> Self {
        let mut categories = Self::default();
        for (bin, text) in values.iter().enumerate() {
            categories.texts.insert(text.clone(), bin);
            if let Some(number) = number_of(text) {
                categories.numbers.entry(key(number)).or_insert(bin);
            }
            if let Some(flag) = flag_of(text) {
                categories.flags[usize::from(flag)].get_or_insert(bin);
            }
        }
        categories
    }

    fn find(&self, value: Value<'_>) -> Option<usize> {
        match value {
            Value::Text(text) => self.texts.get(text).copied().or_else(|| self.find_text(text)),
            Value::Number(number) => self.number(number),
            // JSON has the shortest decimal that means the number in its own precision, as Python writes it.
            Value::Rounded(number, precision) => {
                self.number(number).or_else(|| self.number(precision.round(number)))
            }
            Value::Flag(flag) => self.flag(flag).or_else(|| self.number(f64::from(u8::from(flag)))),
            Value::Absent | Value::Missing => None,
        }
    }

    /// A text that is written otherwise than in training: `1` and `1.0`, `True` and `true`.
    fn find_text(&self, text: &str) -> Option<usize> {
        let as_number = number_of(text).and_then(|number| self.number(number));
        as_number.or_else(|| self.find(Value::Flag(flag_of(text)?)))
    }

    fn number(&self, number: f64) -> Option<usize> {
        let known = self.numbers.get(&key(number)).copied();
        known.or_else(|| if number == 0.0 || number == 1.0 { self.flag(number == 1.0) } else { None })
    }

    fn flag(&self, flag: bool) -> Option<usize> {
        self.flags[usize::from(flag)]
    }
}

fn number_of(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| !number.is_nan())
}

fn flag_of(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Equal numbers have one key: there are two zeros.
fn key(number: f64) -> u64 {
    (number + 0.0).to_bits()
}

/// `SplitMix64`'s output function.
fn spread(counter: u64) -> u64 {
    let mut mixed = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
