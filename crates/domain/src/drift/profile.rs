//! The training data's profile, `slipway/profile.json`, as a run logs it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::precision::Precision;
use crate::{Invalid, invalid::ensure};

/// `schema` of a [`Profile`].
pub const PROFILE_SCHEMA: &str = "slipway.profile/1";
const MAX_COLUMNS: usize = 10_000;
const MAX_BINS: usize = 1_000;
const MAX_PROFILE_SAMPLE: usize = 10_000;

/// What the training data looked like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// [`PROFILE_SCHEMA`].
    pub schema: String,
    /// Rows that it was made of.
    pub rows: u64,
    /// Different rows of features among them, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct_rows: Option<u64>,
    /// The model's inputs, column by column, in the order of the input tensors.
    pub features: Vec<ColumnProfile>,
    /// The model's predictions on those rows.
    #[serde(default)]
    pub predictions: Vec<ColumnProfile>,
}

/// How a column's values are binned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// By `edges`.
    #[default]
    Numeric,
    /// By `values`, one bin each.
    Categorical,
}

/// One column of the training data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnProfile {
    /// The column's name.
    pub name: String,
    /// Input or output tensor that holds it. Absent: the one of the column's name, or else by position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// Place within a row of `tensor`, counted from 0. Absent: the columns of a tensor are in its order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// How it is binned.
    pub kind: ColumnKind,
    /// Share of missing values, 0 to 1.
    pub missing_rate: f64,
    /// Numeric: smallest value; absent where every value is missing.
    pub min: Option<f64>,
    /// Numeric: largest value.
    pub max: Option<f64>,
    /// Numeric: inner bin edges, strictly ascending. Bin `i` holds `edges[i-1] <= x < edges[i]`, as in
    /// numpy's `searchsorted(edges, x, side="right")`; the outer bins are open.
    pub edges: Vec<f64>,
    /// Rows in each bin: one more than edges, or one a value. Rows of other values of a categorical column
    /// are in none.
    pub counts: Vec<u64>,
    /// Numeric: evenly spaced order statistics, ascending.
    pub sample: Vec<f64>,
    /// Categorical: the known values, whole numbers written without a point.
    pub values: Vec<String>,
}

impl Profile {
    /// Checks every field; the complaint names the field.
    pub fn validate(&self) -> Result<(), Invalid> {
        ensure(self.schema == PROFILE_SCHEMA, "schema", || {
            format!("must be {PROFILE_SCHEMA}, is '{}'", self.schema)
        })?;
        ensure(self.rows > 0, "rows", || "must be 1 or more".into())?;
        ensure(!self.features.is_empty() || !self.predictions.is_empty(), "features", || {
            "must name at least one column".into()
        })?;
        for (field, columns) in [("features", &self.features), ("predictions", &self.predictions)] {
            ensure(columns.len() <= MAX_COLUMNS, field, || format!("must be at most {MAX_COLUMNS}"))?;
            let mut names = BTreeSet::new();
            for (index, column) in columns.iter().enumerate() {
                let parent = format!("{field}[{index}]");
                ensure(names.insert(&column.name), &format!("{parent}.name"), || {
                    format!("'{}' is there twice", column.name)
                })?;
                column.validate(self.rows).map_err(|invalid| invalid.under(&parent))?;
            }
        }
        Ok(())
    }
}

impl ColumnProfile {
    /// Training rows that have a value.
    pub(super) fn present_rows(&self, rows: u64) -> u64 {
        let present = ((1.0 - self.missing_rate) * rows as f64).round() as u64;
        present.max(self.counts.iter().sum())
    }

    /// Training rows whose category is like one that was not seen: it is not listed, or occurred once.
    pub(super) fn unseen_rows(&self, rows: u64) -> u64 {
        let listed: u64 = self.counts.iter().sum();
        let once = self.counts.iter().filter(|count| **count == 1).count() as u64;
        self.present_rows(rows) - listed + once
    }

    /// The bin of a number that came in this precision.
    pub(super) fn bin_of(&self, number: f64, precision: Option<Precision>) -> usize {
        // With a sample the counts are moved to where rounding moves the values, see `expected`. Without one,
        // a value on an edge has to stay on its side of it.
        let round = |edge: f64| match precision {
            Some(precision) if self.sample.is_empty() => precision.round(edge),
            _ => edge,
        };
        self.edges.partition_point(|edge| round(*edge) <= number)
    }

    /// Training rows in each bin of a window, as they would be if the values had come in this precision:
    /// rounding moves values across edges, and may put many of them into one place.
    pub(super) fn expected(&self, rows: u64, precision: Option<Precision>) -> Vec<f64> {
        let mut expected: Vec<f64> = self.counts.iter().map(|count| *count as f64).collect();
        let total: f64 = expected.iter().sum();
        if self.kind == ColumnKind::Categorical {
            expected.push((self.present_rows(rows) as f64 - total).max(0.0));
            return expected;
        }
        if let Some(precision) = precision {
            let rows_each = total / self.sample.len() as f64;
            for value in &self.sample {
                let (from, to) = (self.bin_of(*value, None), self.bin_of(precision.round(*value), None));
                let moved = if from == to { 0.0 } else { rows_each.min(expected[from]) };
                expected[from] -= moved;
                expected[to] += moved;
            }
        }
        expected
    }

    /// The sample as it would be if the values had come in this precision, ascending.
    pub(super) fn rounded_sample(&self, precision: Option<Precision>) -> Vec<f64> {
        let round = |value: &f64| precision.map_or(*value, |precision| precision.round(*value));
        self.sample.iter().map(round).collect()
    }

    /// How often each different value occurs among the known ones, missing values as one of them.
    pub(super) fn atoms(&self, rows: u64, precision: Option<Precision>) -> Vec<f64> {
        let mut atoms = match self.kind {
            ColumnKind::Categorical => self.expected(rows, None),
            ColumnKind::Numeric => {
                let sample = self.rounded_sample(precision);
                sample.chunk_by(|left, right| left == right).map(|equal| equal.len() as f64).collect()
            }
        };
        let known: f64 = atoms.iter().sum();
        if self.missing_rate > 0.0 && self.missing_rate < 1.0 {
            atoms.push(known * self.missing_rate / (1.0 - self.missing_rate));
        }
        atoms
    }

    fn validate(&self, rows: u64) -> Result<(), Invalid> {
        ensure(!self.name.is_empty(), "name", || "must not be empty".into())?;
        ensure((0.0..=1.0).contains(&self.missing_rate), "missing_rate", || {
            format!("must be a share of 0 to 1, is {}", self.missing_rate)
        })?;
        ensure(self.counts.len() <= MAX_BINS, "counts", || format!("must be at most {MAX_BINS}"))?;
        let counted = self.counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count));
        ensure(counted.is_some_and(|sum| sum <= rows), "counts", || {
            format!("must sum to at most the {rows} rows")
        })?;
        match self.kind {
            ColumnKind::Numeric => self.validate_numeric(),
            ColumnKind::Categorical => self.validate_categorical(),
        }
    }

    fn validate_numeric(&self) -> Result<(), Invalid> {
        let bins = self.edges.len() + 1;
        ensure(self.counts.len() == bins, "counts", || {
            format!("must be one more than edges, {bins}, are {}", self.counts.len())
        })?;
        let finite_ascending = self.edges.iter().all(|edge| edge.is_finite())
            && self.edges.windows(2).all(|pair| pair[0] < pair[1]);
        ensure(finite_ascending, "edges", || "must be finite and strictly ascending".into())?;
        ensure(self.sample.len() <= MAX_PROFILE_SAMPLE, "sample", || {
            format!("must be at most {MAX_PROFILE_SAMPLE} values")
        })?;
        let sorted = self.sample.iter().all(|value| value.is_finite())
            && self.sample.windows(2).all(|pair| pair[0] <= pair[1]);
        ensure(sorted, "sample", || "must be finite and ascending".into())?;
        let bounds = (self.min.unwrap_or(0.0), self.max.unwrap_or(0.0));
        let ordered = self.min.is_some() == self.max.is_some() && bounds.0 <= bounds.1;
        ensure(ordered, "min", || "must come with max and be at most max".into())
    }

    fn validate_categorical(&self) -> Result<(), Invalid> {
        ensure(self.counts.len() == self.values.len(), "counts", || {
            format!("must be one a value, {}, are {}", self.values.len(), self.counts.len())
        })?;
        let distinct: BTreeSet<_> = self.values.iter().collect();
        ensure(distinct.len() == self.values.len(), "values", || "must differ from each other".into())
    }
}
