//! Live rows gathered for one comparison, in memory that does not grow with their number.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::profile::{ColumnKind, ColumnProfile, Profile};
use crate::traffic::stable_hash;

/// Values kept of each numeric column for the Kolmogorov-Smirnov test; a uniform sample of all.
pub const MAX_SAMPLE: usize = 2_048;

/// A value as it arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'row> {
    /// `null`, NaN, or not there.
    Missing,
    /// A number; booleans are 0 and 1.
    Number(f64),
    /// A string.
    Text(&'row str),
}

/// Rows of one window, counted by the bins of one profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    rows: u64,
    /// Hashes of rows, at most [`MAX_SAMPLE`].
    distinct: BTreeSet<u64>,
    /// Rows until `distinct` was full.
    hashed: u64,
    pub(super) features: Vec<ColumnWindow>,
    pub(super) predictions: Vec<ColumnWindow>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ColumnWindow {
    /// Rows in each bin of the profile; a categorical column has one bin more, for unknown values.
    pub(super) bins: Vec<u64>,
    pub(super) missing: u64,
    pub(super) out_of_range: u64,
    pub(super) present: u64,
    pub(super) sample: Vec<f32>,
}

impl Window {
    /// An empty window of `profile`.
    pub fn new(profile: &Profile) -> Self {
        let columns = |columns: &[ColumnProfile]| columns.iter().map(ColumnWindow::new).collect();
        Self {
            rows: 0,
            distinct: BTreeSet::new(),
            hashed: 0,
            features: columns(&profile.features),
            predictions: columns(&profile.predictions),
        }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Counts one row. Values are in the order of the profile's columns; those that are not there count as missing, those
    /// beyond it are ignored.
    pub fn add_row(&mut self, profile: &Profile, features: &[Value<'_>], predictions: &[Value<'_>]) {
        self.rows += 1;
        if self.distinct.len() < MAX_SAMPLE {
            self.hashed += 1;
            self.distinct.insert(row_hash(features));
        }
        let add = |windows: &mut [ColumnWindow], columns: &[ColumnProfile], values: &[Value<'_>]| {
            for (index, (window, column)) in windows.iter_mut().zip(columns).enumerate() {
                window.add(column, values.get(index).copied().unwrap_or(Value::Missing));
            }
        };
        add(&mut self.features, &profile.features, features);
        add(&mut self.predictions, &profile.predictions, predictions);
    }

    /// Rows that were looked at for repetition, and how many different ones they were.
    pub(super) fn repetition(&self) -> (u64, u64) {
        (self.hashed, self.distinct.len() as u64)
    }
}

fn row_hash(features: &[Value<'_>]) -> u64 {
    features.iter().fold(0, |hash, value| {
        let of_value = match value {
            Value::Missing => 1,
            Value::Number(number) => number.to_bits(),
            Value::Text(text) => stable_hash(&[text]),
        };
        spread(hash ^ of_value)
    })
}

impl ColumnWindow {
    fn new(column: &ColumnProfile) -> Self {
        let bins = match column.kind {
            ColumnKind::Numeric => column.counts.len(),
            ColumnKind::Categorical => column.counts.len() + 1,
        };
        Self { bins: vec![0; bins], missing: 0, out_of_range: 0, present: 0, sample: Vec::new() }
    }

    fn add(&mut self, column: &ColumnProfile, value: Value<'_>) {
        let bin = match (column.kind, value) {
            (_, Value::Missing) => None,
            (_, Value::Number(number)) if number.is_nan() => None,
            (ColumnKind::Numeric, Value::Number(number)) => Some(self.add_number(column, number)),
            (ColumnKind::Numeric, Value::Text(text)) => {
                text.trim().parse().ok().map(|number| self.add_number(column, number))
            }
            (ColumnKind::Categorical, Value::Number(number)) => {
                Some(self.add_category(column, &number.to_string()))
            }
            (ColumnKind::Categorical, Value::Text(text)) => Some(self.add_category(column, text)),
        };
        match bin {
            Some(bin) => {
                self.present += 1;
                self.bins[bin] += 1;
            }
            None => self.missing += 1,
        }
    }

    fn add_number(&mut self, column: &ColumnProfile, number: f64) -> usize {
        let number = single(number);
        let below = column.min.is_some_and(|min| number < single(min));
        let above = column.max.is_some_and(|max| number > single(max));
        self.out_of_range += u64::from(below || above);
        self.keep(number);
        column.edges.partition_point(|edge| single(*edge) <= number)
    }

    fn add_category(&mut self, column: &ColumnProfile, text: &str) -> usize {
        let known = column.values.iter().position(|value| value == text);
        self.out_of_range += u64::from(known.is_none());
        known.unwrap_or(column.values.len())
    }

    /// Reservoir sampling, algorithm R, with the number of the value in place of a random source: the same rows give the same
    /// sample on every replay.
    fn keep(&mut self, number: f32) {
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
        let mut sorted: Vec<f64> = self.sample.iter().copied().map(f64::from).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// Models take single precision, so a value that sat exactly on an edge in training comes back rounded; both sides are compared
/// in single precision.
pub(super) fn single(number: f64) -> f32 {
    number as f32
}

/// `SplitMix64`'s output function.
fn spread(counter: u64) -> u64 {
    let mut mixed = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
