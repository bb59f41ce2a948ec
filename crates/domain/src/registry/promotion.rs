//! Policies that guard an alias: what a version has to show before the alias may point at it.

mod judge;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::report::{MIN_SEGMENT_ROWS, Report};
use crate::Invalid;

/// Rules of one policy at most, those within others counted.
const MAX_RULES: usize = 50;
/// `any-of` and `all-of` within one another.
const MAX_DEPTH: usize = 5;
/// People that a rule may ask for.
const MAX_APPROVERS: u32 = 20;

/// A policy of an alias: a version must pass every rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Rules, in the order in which they are reported.
    pub rules: Vec<Rule>,
}

/// A condition that a version must satisfy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schemas", schema(as = PolicyRule))]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// Serving can load it.
    Servable,
    /// All content of its files was understood and is safe to load. A version that is unverified does not
    /// satisfy it.
    ScannedSafe,
    /// None of its files carries code that a loader runs, as far as all of their content was understood.
    NoLoaderCode,
    /// It has a signature of its inputs and outputs, as MLflow logs it.
    HasSignature,
    /// It has a description.
    HasDescription,
    /// Its run is known.
    HasRun,
    /// Its run has a data set.
    HasDataset,
    /// It has this tag, with this value if one is given.
    HasTag {
        /// Name of the tag.
        key: String,
        /// Value of the tag [default: any].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// Its files are signed by a trusted key.
    Signed {
        /// Names of the accepted keys [default: every trusted key].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<String>,
    },
    /// Its card is complete.
    CardComplete {
        /// Required fields [default: all].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fields: Vec<CardField>,
    },
    /// A metric of its run is at least this.
    MetricAtLeast {
        /// Name of the metric.
        metric: String,
        /// In the metric's unit.
        value: f64,
    },
    /// A metric of its run is at most this.
    MetricAtMost {
        /// Name of the metric.
        metric: String,
        /// In the metric's unit.
        value: f64,
    },
    /// A metric of the newest report of a name is at least this.
    ReportMetricAtLeast {
        /// Name of the report.
        report: String,
        /// Name of the metric; `latency.p95_ms` and its like are metrics, too.
        metric: String,
        /// In the metric's unit.
        value: f64,
    },
    /// A metric of the newest report of a name is at most this.
    ReportMetricAtMost {
        /// Name of the report.
        report: String,
        /// Name of the metric; `latency.p95_ms` and its like are metrics, too.
        metric: String,
        /// In the metric's unit.
        value: f64,
    },
    /// A metric is not worse than that of the version which the alias currently points at. Passes if it
    /// points at none.
    NotWorseThanCurrent {
        /// Name of the metric.
        metric: String,
        /// Name of the report that has the metric [default: the metric of the run].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<String>,
        /// Accepted difference, in the metric's unit [default: 0].
        #[serde(default)]
        tolerance: f64,
        /// Whether greater values are better [default: true].
        #[serde(default = "yes")]
        greater_is_better: bool,
    },
    /// The gap between the segments of an attribute is at most this, in the newest report of a name.
    FairnessGapAtMost {
        /// Name of the report.
        report: String,
        /// The attribute.
        attribute: String,
        /// Name of the metric.
        metric: String,
        /// In the metric's unit.
        value: f64,
        /// Minimum number of rows of a segment that is compared [default: 30].
        #[serde(default = "min_segment_rows")]
        min_rows: u64,
    },
    /// At least this many approvers, other than the authors of the version, approved it.
    Approved {
        /// Number of different approvers.
        by_at_least: u32,
    },
    /// At least one of these rules passes.
    AnyOf {
        /// The alternatives.
        #[cfg_attr(feature = "schemas", schema(no_recursion))]
        rules: Vec<Rule>,
    },
    /// All of these rules pass: an alternative of `any-of` with several conditions.
    AllOf {
        /// The parts.
        #[cfg_attr(feature = "schemas", schema(no_recursion))]
        rules: Vec<Rule>,
    },
}

const fn yes() -> bool {
    true
}

const fn min_segment_rows() -> u64 {
    MIN_SEGMENT_ROWS
}

/// A part of a model card that may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CardField {
    /// What it is for, in words.
    Description,
    /// What it takes and gives.
    InputsAndOutputs,
    /// The run that made it.
    Run,
    /// The revision of the code of its run.
    Code,
    /// The data that its run took in.
    Dataset,
    /// At least one metric.
    Metrics,
    /// At least one validation report.
    Report,
}

impl CardField {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Description,
        Self::InputsAndOutputs,
        Self::Run,
        Self::Code,
        Self::Dataset,
        Self::Metrics,
        Self::Report,
    ];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::InputsAndOutputs => "inputs and outputs",
            Self::Run => "run",
            Self::Code => "code revision",
            Self::Dataset => "data set",
            Self::Metrics => "metrics",
            Self::Report => "report",
        }
    }
}

/// How a version's files are signed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signing {
    /// The trusted keys that signed exactly these files.
    pub keys: BTreeSet<String>,
    /// How its best signature stands, in words.
    pub detail: String,
}

/// What is known of a version.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// Why serving cannot load it.
    pub unservable_reason: Option<String>,
    /// Whether its files were found safe; `None` where they were not scanned.
    pub scanned_safe: Option<bool>,
    /// Why they were not.
    pub unsafe_reason: Option<String>,
    /// Whether its files carry no code that a loader runs; `None` where they were not scanned.
    pub without_code: Option<bool>,
    /// Whether it has MLflow's signature.
    pub has_signature: bool,
    /// Whether it is known what it takes and gives, by that signature or by its graph.
    pub knows_inputs: bool,
    /// Whether it has a description.
    pub has_description: bool,
    /// The run that it came from.
    pub run_id: Option<String>,
    /// The revision of the code of its run.
    pub code_revision: Option<String>,
    /// Data sets that its run took in.
    pub datasets: u64,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The latest value of each metric of its logged model and its run.
    pub metrics: BTreeMap<String, f64>,
    /// How its files are signed.
    pub signing: Signing,
    /// The newest report of each name.
    pub reports: BTreeMap<String, Report>,
    /// Who approved it.
    pub approvers: BTreeSet<String>,
    /// Its authors: the principals that created the version, its run and its logged model, and the user that
    /// the run's client named.
    pub authors: BTreeSet<String>,
    /// What is behind these names and those of the approvers.
    pub identities: Identities,
}

/// What is behind the names of authors and approvers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Identities {
    /// Nothing: access control is off, and clients choose the names that they give.
    #[default]
    Claimed,
    /// Every author is an authenticated principal, and so is every approver that counts.
    Authenticated,
    /// Access control is on, but one of the authors is not on record. This is what they created.
    Missing(String),
}

impl Evidence {
    /// Parts of the card that are not there, of those asked for; of all where none are.
    pub fn missing_from_card(&self, fields: &[CardField]) -> Vec<CardField> {
        let fields = if fields.is_empty() { &CardField::ALL[..] } else { fields };
        let has = |field: &CardField| match field {
            CardField::Description => self.has_description,
            CardField::InputsAndOutputs => self.knows_inputs,
            CardField::Run => self.run_id.is_some(),
            CardField::Code => self.code_revision.is_some(),
            CardField::Dataset => self.datasets > 0,
            CardField::Metrics => !self.metrics.is_empty(),
            CardField::Report => !self.reports.is_empty(),
        };
        fields.iter().filter(|field| !has(field)).copied().collect()
    }

    /// Those who approved it, but for those who made it.
    pub fn counted_approvers(&self) -> impl Iterator<Item = &str> {
        let others = self.approvers.iter().filter(|one| !self.authors.contains(*one));
        others.map(String::as_str)
    }
}

/// How a rule came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schemas", schema(as = RuleOutcome))]
pub struct Outcome {
    /// The rule.
    pub rule: Rule,
    /// Whether it holds.
    pub passed: bool,
    /// What was found, with the numbers, and what was asked for.
    pub detail: String,
    /// How the rules within came out, of `any-of` and `all-of`.
    #[cfg_attr(feature = "schemas", schema(no_recursion))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Outcome>,
}

impl Policy {
    /// Validates a policy.
    ///
    /// # Errors
    /// There are no rules or too many, they are nested too deeply, a name is empty, or a number is none.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut count = 0;
        validate_all(&self.rules, "rules", 0, &mut count)
    }

    /// Judges a version against the one that the alias points at now.
    pub fn judge(&self, version: &Evidence, current: Option<&Evidence>) -> Vec<Outcome> {
        self.rules.iter().map(|rule| rule.judge(version, current)).collect()
    }
}

fn validate_all(rules: &[Rule], field: &str, depth: usize, count: &mut usize) -> Result<(), Invalid> {
    *count += rules.len();
    if rules.is_empty() || *count > MAX_RULES {
        return Err(Invalid::new(field, format!("expected 1 to {MAX_RULES} rules in all, got {count}")));
    }
    if depth > MAX_DEPTH {
        return Err(Invalid::new(field, format!("expected rules within rules {MAX_DEPTH} deep at most")));
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{field}[{index}]");
        match rule {
            Rule::AnyOf { rules } | Rule::AllOf { rules } => {
                validate_all(rules, &format!("{at}.rules"), depth + 1, count)?;
            }
            other => other.validate(&at)?,
        }
    }
    Ok(())
}

impl Rule {
    /// Checks a rule that holds no others.
    fn validate(&self, at: &str) -> Result<(), Invalid> {
        let named = |name: &str, text: &str| match text.trim() {
            "" => Err(Invalid::new(format!("{at}.{name}"), "expected a name, got an empty text")),
            _ => Ok(()),
        };
        let number = |name: &str, value: f64, least: f64| {
            // Written so that NaN fails, too.
            if value.is_finite() && value >= least {
                return Ok(());
            }
            let expected = if least.is_finite() { format!("{least} or more") } else { "a number".to_owned() };
            Err(Invalid::new(format!("{at}.{name}"), format!("expected {expected}, got {value}")))
        };
        match self {
            Self::HasTag { key, .. } => named("key", key),
            Self::Signed { keys } => keys.iter().try_for_each(|key| named("keys", key)),
            Self::MetricAtLeast { metric, value } | Self::MetricAtMost { metric, value } => {
                named("metric", metric)?;
                number("value", *value, f64::NEG_INFINITY)
            }
            Self::ReportMetricAtLeast { report, metric, value }
            | Self::ReportMetricAtMost { report, metric, value } => {
                named("report", report)?;
                named("metric", metric)?;
                number("value", *value, f64::NEG_INFINITY)
            }
            Self::NotWorseThanCurrent { metric, report, tolerance, .. } => {
                named("metric", metric)?;
                report.as_ref().map_or(Ok(()), |report| named("report", report))?;
                number("tolerance", *tolerance, 0.0)
            }
            Self::FairnessGapAtMost { report, attribute, metric, value, .. } => {
                named("report", report)?;
                named("attribute", attribute)?;
                named("metric", metric)?;
                number("value", *value, 0.0)
            }
            Self::Approved { by_at_least } if *by_at_least == 0 || *by_at_least > MAX_APPROVERS => {
                let expected = format!("expected 1 to {MAX_APPROVERS} people, got {by_at_least}");
                Err(Invalid::new(format!("{at}.by_at_least"), expected))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
