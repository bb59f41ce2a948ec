//! Which rule a value breaks, as data: each protocol words it in its own terms.

use std::fmt;

use crate::Invalid;

/// A value that breaks a rule of the registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {broken}")]
pub struct Violation {
    /// Path of the field within the request, e.g. `metrics[3].key`.
    pub field: String,
    /// What the value is.
    pub subject: Subject,
    /// The value; empty where the rule is about more than one.
    pub value: String,
    /// The rule.
    pub broken: Broken,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Name of an experiment.
    ExperimentName,
    /// Id of an experiment.
    ExperimentId,
    /// Where an experiment keeps its artifacts.
    ArtifactLocation,
    /// Id of a run.
    RunId,
    /// Key of a metric.
    MetricKey,
    /// Time of a point of a metric, Unix milliseconds.
    MetricTime,
    /// Key of a parameter.
    ParamKey,
    /// Key of a tag of a run.
    RunTagKey,
    /// Key or value of another tag.
    Tag,
    /// A batch of metrics, parameters and tags.
    Batch,
    /// Name of a registered model.
    ModelName,
    /// Name of a logged model.
    LoggedModelName,
    /// Number of a version.
    Version,
    /// An alias.
    Alias,
    /// A property of a dataset.
    Dataset,
    /// Limit of a search.
    MaxResults,
    /// A page token.
    PageToken,
    /// Path of an artifact.
    ArtifactPath,
}

/// A rule that a value breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// It is missing or empty.
    Missing,
    /// It is too long.
    TooLong {
        /// Longest allowed value, characters.
        max_chars: usize,
    },
    /// It has other characters or another form than `expected`.
    Form {
        /// What is allowed, e.g. `letters, digits, _ and -`.
        expected: &'static str,
    },
    /// Used as a file name, it would name something else.
    ResolvesTo {
        /// What it would name.
        resolved: String,
    },
    /// It leaves the directory that it is relative to.
    LeavesRoot,
    /// It is no path: why.
    NoPath {
        /// The reason, e.g. `must be at most 900 bytes long`.
        why: String,
    },
    /// It is no integer.
    NotAnInteger,
    /// It is below the least allowed number.
    Below {
        /// Least allowed number.
        min: i64,
        /// What the number belongs to, for people; empty where the field says it all.
        of: String,
    },
    /// It is above the greatest allowed number.
    Above {
        /// Greatest allowed number.
        max: usize,
    },
    /// It has another meaning already.
    Reserved,
    /// There are too many entries.
    TooMany {
        /// Kind of the entries, e.g. `metrics`.
        what: &'static str,
        /// Number of entries.
        got: usize,
        /// Greatest allowed number.
        max: usize,
    },
    /// Keys occur more than once.
    Duplicates {
        /// The keys.
        keys: Vec<String>,
    },
    /// A URL with a query, a fragment or parameters.
    UrlExtras,
    /// A URI of a run.
    RunUri,
    /// A token that this service did not issue.
    Foreign,
}

impl Violation {
    /// A rule that the value of a field breaks.
    pub(super) fn new(field: &str, subject: Subject, value: &str, broken: Broken) -> Self {
        Self { field: field.to_owned(), subject, value: value.to_owned(), broken }
    }

    /// The same about a field of another name.
    #[must_use]
    pub fn about(self, field: &str) -> Self {
        Self { field: field.to_owned(), ..self }
    }
}

/// What was expected, in the terms of no protocol. It does not repeat the value, which may be long.
impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str("expected a value that is not empty"),
            Self::TooLong { max_chars } => write!(formatter, "expected at most {max_chars} characters"),
            Self::Form { expected } => write!(formatter, "expected {expected}"),
            Self::ResolvesTo { resolved } => write!(
                formatter,
                "expected a name that is the same as a file name; this one would resolve to '{resolved}'"
            ),
            Self::LeavesRoot => formatter.write_str("expected a relative path without '..'"),
            Self::NoPath { why } => write!(formatter, "the path {why}"),
            Self::NotAnInteger => formatter.write_str("expected an integer"),
            Self::Below { min, of } if of.is_empty() => write!(formatter, "expected at least {min}"),
            Self::Below { min, of } => write!(formatter, "expected at least {min} ({of})"),
            Self::Above { max } => write!(formatter, "expected at most {max}"),
            Self::Reserved => formatter.write_str("the name is reserved"),
            Self::TooMany { what, got, max } => {
                write!(formatter, "expected at most {max} {what} in one request, got {got}")
            }
            Self::Duplicates { keys } => {
                write!(formatter, "expected each key once; more than once: {}", keys.join(", "))
            }
            Self::UrlExtras => formatter.write_str("expected a URL without query, fragment and parameters"),
            Self::RunUri => formatter.write_str("expected the URI of a directory, not of a run"),
            Self::Foreign => formatter.write_str("expected a token that a page of this list returned"),
        }
    }
}

impl From<Violation> for Invalid {
    fn from(violation: Violation) -> Self {
        let Violation { field, broken, .. } = violation;
        Self::new(field, broken.to_string())
    }
}
