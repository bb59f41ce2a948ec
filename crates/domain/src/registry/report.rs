//! Validation reports: how a version did on a data set, over all rows and by segment; and how far segments
//! are apart.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// A segment of fewer rows says too little to be compared with others.
pub const MIN_SEGMENT_ROWS: u64 = 30;
/// Characters of a name, e.g. of the report, a metric or an attribute.
const MAX_NAME_CHARS: usize = 250;
/// Characters of where a report came from.
const MAX_SOURCE_CHARS: usize = 2_000;
/// Metrics over all rows.
const MAX_METRICS: usize = 1_000;
/// Metrics of one segment.
const MAX_SEGMENT_METRICS: usize = 100;
/// Segments of one report.
const MAX_SEGMENTS: usize = 1_000;

/// A validation report. Reports are immutable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What it is called; of several with one name the newest counts.
    pub name: String,
    /// Data set on which the version was evaluated.
    pub dataset: DatasetName,
    /// Rows that it was tried on.
    pub rows: u64,
    /// Metrics over these rows.
    pub metrics: BTreeMap<String, f64>,
    /// Latency of predictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Metrics by value of an attribute, e.g. of `age_group`.
    #[serde(default)]
    pub segments: Vec<Segment>,
    /// Origin of the report, e.g. the URL of a pipeline's run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A data set, by name and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DatasetName {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: String,
}

/// Latency of predictions, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// The rows for which an attribute has a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// E.g. `age_group`.
    pub attribute: String,
    /// Value of the attribute, e.g. `60+`.
    pub value: String,
    /// How many they are.
    pub rows: u64,
    /// Metrics over these rows.
    pub metrics: BTreeMap<String, f64>,
}

/// Difference between the best and the worst segment of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
pub struct Gap {
    /// The attribute.
    pub attribute: String,
    /// The metric.
    pub metric: String,
    /// Maximum minus minimum, to twelve significant digits.
    pub gap: f64,
    /// Value of the attribute with the minimum.
    pub least_at: String,
    /// Minimum of the metric.
    pub least: f64,
    /// Value of the attribute with the maximum.
    pub greatest_at: String,
    /// Maximum of the metric.
    pub greatest: f64,
    /// Number of segments that were compared.
    pub segments: u64,
    /// Number of segments with too few rows to be compared.
    pub left_out: u64,
}

impl Report {
    /// Validates a report.
    ///
    /// # Errors
    /// A name is empty or too long, a number is none, there is too much of something, or two parts contradict
    /// each other.
    pub fn validate(&self) -> Result<(), Invalid> {
        name("name", &self.name)?;
        name("dataset.name", &self.dataset.name)?;
        name("dataset.digest", &self.dataset.digest)?;
        if self.rows == 0 {
            return Err(Invalid::new("rows", "expected 1 or more, got 0"));
        }
        if self.metrics.is_empty() {
            return Err(Invalid::new("metrics", "expected at least one metric"));
        }
        metrics("metrics", &self.metrics, MAX_METRICS)?;
        if let Some(latency) = &self.latency {
            latency.validate()?;
        }
        if self.source.as_ref().is_some_and(|source| source.chars().count() > MAX_SOURCE_CHARS) {
            return Err(Invalid::new("source", format!("expected up to {MAX_SOURCE_CHARS} characters")));
        }
        self.validate_segments()
    }

    fn validate_segments(&self) -> Result<(), Invalid> {
        if self.segments.len() > MAX_SEGMENTS {
            let found = self.segments.len();
            return Err(Invalid::new("segments", format!("expected up to {MAX_SEGMENTS}, got {found}")));
        }
        let mut seen = BTreeSet::new();
        for (index, segment) in self.segments.iter().enumerate() {
            let field = |part: &str| format!("segments[{index}].{part}");
            name(&field("attribute"), &segment.attribute)?;
            name(&field("value"), &segment.value)?;
            if segment.rows > self.rows {
                let (found, all) = (segment.rows, self.rows);
                return Err(Invalid::new(
                    field("rows"),
                    format!("expected up to the {all} rows of all, got {found}"),
                ));
            }
            metrics(&field("metrics"), &segment.metrics, MAX_SEGMENT_METRICS)?;
            if !seen.insert((&segment.attribute, &segment.value)) {
                return Err(Invalid::new(
                    field("value"),
                    format!("'{}' of '{}' is there twice", segment.value, segment.attribute),
                ));
            }
        }
        Ok(())
    }

    /// A metric over all rows; `latency.p50_ms`, `latency.p95_ms` and `latency.p99_ms` are metrics, too.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let latency = |of: fn(&Latency) -> f64| self.latency.as_ref().map(of);
        self.metrics.get(name).copied().or_else(|| match name {
            "latency.p50_ms" => latency(|one| one.p50_ms),
            "latency.p95_ms" => latency(|one| one.p95_ms),
            "latency.p99_ms" => latency(|one| one.p99_ms),
            _ => None,
        })
    }

    /// The gaps of every attribute and metric of which at least two segments have `min_rows` rows.
    pub fn gaps(&self, min_rows: u64) -> Vec<Gap> {
        let mut pairs = BTreeSet::new();
        for segment in &self.segments {
            pairs.extend(segment.metrics.keys().map(|metric| (segment.attribute.as_str(), metric.as_str())));
        }
        pairs.into_iter().filter_map(|(attribute, metric)| self.gap(attribute, metric, min_rows)).collect()
    }

    /// The gap of one attribute and metric, where at least two segments have `min_rows` rows.
    pub fn gap(&self, attribute: &str, metric: &str, min_rows: u64) -> Option<Gap> {
        let of_attribute = self.segments.iter().filter(|segment| segment.attribute == attribute);
        let with_metric = of_attribute.filter_map(|one| Some((one, *one.metrics.get(metric)?)));
        let (enough, few): (Vec<_>, Vec<_>) = with_metric.partition(|(segment, _)| segment.rows >= min_rows);
        let (first, others) = enough.split_first()?;
        if others.is_empty() {
            return None;
        }
        let (mut least, mut greatest) = (first, first);
        for one in others {
            if one.1 < least.1 {
                least = one;
            }
            if one.1 > greatest.1 {
                greatest = one;
            }
        }
        Some(Gap {
            attribute: attribute.to_owned(),
            metric: metric.to_owned(),
            gap: decimal(greatest.1 - least.1),
            least_at: least.0.value.clone(),
            least: least.1,
            greatest_at: greatest.0.value.clone(),
            greatest: greatest.1,
            segments: enough.len() as u64,
            left_out: few.len() as u64,
        })
    }
}

impl Latency {
    fn validate(&self) -> Result<(), Invalid> {
        let parts = [("p50_ms", self.p50_ms), ("p95_ms", self.p95_ms), ("p99_ms", self.p99_ms)];
        let mut below = ("0", 0.0);
        for (part, value) in parts {
            // Written so that NaN fails, too.
            if !(value.is_finite() && value >= below.1) {
                let expected = format!("expected at least {} ({}), got {value}", below.0, below.1);
                return Err(Invalid::new(format!("latency.{part}"), expected));
            }
            below = (part, value);
        }
        Ok(())
    }
}

/// A difference of two decimal numbers as people would write it: 0.95 less 0.9 is 0.05, not
/// 0.04999999999999993. Twelve digits are kept.
pub(super) fn decimal(difference: f64) -> f64 {
    format!("{difference:.11e}").parse().unwrap_or(difference)
}

fn name(field: &str, text: &str) -> Result<(), Invalid> {
    let characters = text.chars().count();
    if text.trim().is_empty() || characters > MAX_NAME_CHARS || text.contains('\0') {
        return Err(Invalid::new(
            field,
            format!("expected 1 to {MAX_NAME_CHARS} characters, got {characters}"),
        ));
    }
    Ok(())
}

fn metrics(field: &str, metrics: &BTreeMap<String, f64>, most: usize) -> Result<(), Invalid> {
    if metrics.len() > most {
        return Err(Invalid::new(field, format!("expected up to {most} metrics, got {}", metrics.len())));
    }
    for (metric, value) in metrics {
        name(field, metric)?;
        if !value.is_finite() {
            return Err(Invalid::new(format!("{field}.{metric}"), format!("expected a number, got {value}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
