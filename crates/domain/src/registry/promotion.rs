//! Policies that guard an alias: what a version has to show before the alias may point at it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Rules of one policy at most.
const MAX_RULES: usize = 50;

/// All rules have to hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// In the order in which they are told.
    pub rules: Vec<Rule>,
}

/// One thing that a version has to show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// Serving can load it.
    Servable,
    /// Its files were looked into, and none of them runs code where it is loaded.
    ScannedSafe,
    /// It has a signature.
    HasSignature,
    /// It has a description.
    HasDescription,
    /// It is known which run it came from.
    HasRun,
    /// Its run named the data that it took in.
    HasDataset,
    /// It has this tag, with this value where one is given.
    HasTag {
        /// Name of the tag.
        key: String,
        /// Its value; any where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// A metric is at least this.
    MetricAtLeast {
        /// Name of the metric.
        metric: String,
        /// In the metric's unit.
        value: f64,
    },
    /// A metric is at most this.
    MetricAtMost {
        /// Name of the metric.
        metric: String,
        /// In the metric's unit.
        value: f64,
    },
    /// A metric is not worse than that of the version which the alias points at now. Holds where it points at none.
    NotWorseThanCurrent {
        /// Name of the metric.
        metric: String,
        /// So much worse is still good enough, in the metric's unit.
        #[serde(default)]
        tolerance: f64,
        /// Whether more of it is better.
        #[serde(default = "yes")]
        greater_is_better: bool,
    },
}

const fn yes() -> bool {
    true
}

/// What is known of a version.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// Why serving cannot load it.
    pub unservable_reason: Option<String>,
    /// Whether its files were found safe; `None` where nobody looked.
    pub scanned_safe: Option<bool>,
    /// Whether it has a signature.
    pub has_signature: bool,
    /// Whether it has a description.
    pub has_description: bool,
    /// The run that it came from.
    pub run_id: Option<String>,
    /// Data sets that its run took in.
    pub datasets: u64,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The latest value of each metric of its logged model and its run.
    pub metrics: BTreeMap<String, f64>,
}

/// How a rule came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The rule.
    pub rule: Rule,
    /// Whether it holds.
    pub passed: bool,
    /// What was found, with the numbers, and what was asked for.
    pub detail: String,
}

impl Policy {
    /// Checks a policy as somebody wrote it.
    ///
    /// # Errors
    /// There are no rules or too many, a name is empty, or a number is none.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.rules.is_empty() || self.rules.len() > MAX_RULES {
            let found = self.rules.len();
            return Err(Invalid::new("rules", format!("expected 1 to {MAX_RULES} rules, got {found}")));
        }
        self.rules.iter().enumerate().try_for_each(|(index, rule)| rule.validate(index))
    }

    /// Judges a version against the one that the alias points at now.
    pub fn judge(&self, version: &Evidence, current: Option<&Evidence>) -> Vec<Outcome> {
        let outcome = |rule: &Rule| {
            let (passed, detail) = rule.judge(version, current);
            Outcome { rule: rule.clone(), passed, detail }
        };
        self.rules.iter().map(outcome).collect()
    }
}

impl Rule {
    fn validate(&self, index: usize) -> Result<(), Invalid> {
        let field = |name: &str| format!("rules[{index}].{name}");
        let named = |name: &str, text: &str| match text.trim() {
            "" => Err(Invalid::new(field(name), "expected a name, got an empty text")),
            _ => Ok(()),
        };
        match self {
            Self::HasTag { key, .. } => named("key", key),
            Self::MetricAtLeast { metric, value } | Self::MetricAtMost { metric, value } => {
                named("metric", metric)?;
                if value.is_finite() {
                    Ok(())
                } else {
                    Err(Invalid::new(field("value"), "expected a number"))
                }
            }
            Self::NotWorseThanCurrent { metric, tolerance, .. } => {
                named("metric", metric)?;
                if tolerance.is_finite() && *tolerance >= 0.0 {
                    return Ok(());
                }
                Err(Invalid::new(field("tolerance"), format!("expected 0 or more, got {tolerance}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether it holds, and what was found.
    fn judge(&self, version: &Evidence, current: Option<&Evidence>) -> (bool, String) {
        let has =
            |there: bool, what: &str| (there, if there { what.to_owned() } else { format!("no {what}") });
        match self {
            Self::Servable => match &version.unservable_reason {
                None => (true, "serving can load it".to_owned()),
                Some(reason) => (false, format!("serving cannot load it: {reason}")),
            },
            Self::ScannedSafe => match version.scanned_safe {
                Some(true) => (true, "its files are safe to load".to_owned()),
                Some(false) => (false, "one of its files is not safe to load".to_owned()),
                None => (false, "its files were not looked into".to_owned()),
            },
            Self::HasSignature => has(version.has_signature, "signature"),
            Self::HasDescription => has(version.has_description, "description"),
            Self::HasRun => has(version.run_id.is_some(), "run that it came from"),
            Self::HasDataset => has(version.datasets > 0, "data set of its run"),
            Self::HasTag { key, value } => judge_tag(version.tags.get(key), key, value.as_deref()),
            Self::MetricAtLeast { metric, value } => judge_metric(
                version,
                metric,
                |found| found >= *value,
                &format!("at least {value} is required"),
            ),
            Self::MetricAtMost { metric, value } => {
                judge_metric(version, metric, |found| found <= *value, &format!("at most {value} is allowed"))
            }
            Self::NotWorseThanCurrent { metric, tolerance, greater_is_better } => {
                judge_against(version, current, metric, *tolerance, *greater_is_better)
            }
        }
    }
}

fn judge_tag(found: Option<&String>, key: &str, wanted: Option<&str>) -> (bool, String) {
    match (found, wanted) {
        (None, _) => (false, format!("no tag {key}")),
        (Some(found), Some(wanted)) if found != wanted => {
            (false, format!("tag {key} is '{found}', '{wanted}' is required"))
        }
        (Some(found), _) => (true, format!("tag {key} is '{found}'")),
    }
}

fn judge_metric(
    version: &Evidence,
    metric: &str,
    holds: impl Fn(f64) -> bool,
    asked: &str,
) -> (bool, String) {
    match version.metrics.get(metric) {
        None => (false, format!("no metric {metric}; {asked}")),
        // NaN holds nothing.
        Some(found) => (holds(*found), format!("metric {metric} is {found}, {asked}")),
    }
}

fn judge_against(
    version: &Evidence,
    current: Option<&Evidence>,
    metric: &str,
    tolerance: f64,
    greater_is_better: bool,
) -> (bool, String) {
    let Some(current) = current else {
        return (true, "the alias points at no version yet".to_owned());
    };
    let Some(theirs) = current.metrics.get(metric).filter(|value| !value.is_nan()) else {
        return (true, format!("the current version has no metric {metric} to be compared with"));
    };
    let (limit, word) = match greater_is_better {
        true => (theirs - tolerance, "at least"),
        false => (theirs + tolerance, "at most"),
    };
    let holds = |found: f64| if greater_is_better { found >= limit } else { found <= limit };
    let asked =
        format!("{word} {limit} is required: the current version has {theirs}, tolerance {tolerance}");
    judge_metric(version, metric, holds, &asked)
}

#[cfg(test)]
mod tests {
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
        let (new, old) =
            (evidence(&[("acc", 0.90), ("loss", 0.3)]), evidence(&[("acc", 0.92), ("loss", 0.25)]));
        let least = json!({"rule": "metric-at-least", "metric": "acc", "value": 0.95});
        let (passed, detail) = judge(least, &new, None);
        assert!(!passed && detail == "metric acc is 0.9, at least 0.95 is required", "{detail}");
        assert!(judge(json!({"rule": "metric-at-most", "metric": "loss", "value": 0.3}), &new, None).0);
        let against = |metric: &str, tolerance: f64, greater: bool| json!({"rule": "not-worse-than-current", "metric": metric, "tolerance": tolerance, "greater_is_better": greater});
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
        let tolerance =
            serde_json::json!([{"rule": "not-worse-than-current", "metric": "a", "tolerance": -1}]);
        assert_eq!(field(tolerance), "rules[0].tolerance");
    }
}
