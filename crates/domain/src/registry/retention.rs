//! Retention: what goes when it is old or superseded, and what stays whatever a rule says.

use serde::{Deserialize, Serialize};

use crate::invalid::ensure;
use crate::{Invalid, registry};

const MS_PER_DAY: i64 = 24 * 3_600_000;
const MAX_DAYS: u32 = 36_500;
/// Things that a rule may keep of one experiment or model.
const MAX_KEEP: u32 = 10_000;

/// Scope of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schemas", schema(as = RetentionScope))]
#[serde(tag = "scope", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Scope {
    /// Runs of every experiment; kept runs are counted per experiment.
    All,
    /// Runs of one experiment.
    Experiment {
        /// Its name.
        experiment: String,
    },
    /// Versions of one registered model.
    Model {
        /// Its name.
        model: String,
    },
    /// Runs with a tag; kept runs are counted per experiment.
    Tag {
        /// Name of the tag.
        key: String,
        /// Value of the tag [default: any].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
}

/// What a rule does with matching entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schemas", schema(as = RetentionAction))]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Runs are deleted as with MLflow's client and may be restored; versions move to the stage `Archived`.
    Archive,
    /// Deletes permanently, with the files that nothing else references.
    Delete,
}

/// Whether greater or smaller values of a metric are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Greater values are better.
    Maximize,
    /// Smaller values are better.
    Minimize,
}

/// Keeps the K best by a metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct KeepBest {
    /// Metric, by its latest value. An entry without the metric is never among the best.
    pub metric: String,
    /// Number of entries to keep.
    pub k: u32,
    /// Whether greater or smaller values are better.
    pub goal: Goal,
}

/// Scope, conditions and action of a retention rule. An entry must match every given condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schemas", schema(as = RetentionConditions))]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Scope of the rule.
    #[serde(rename = "for")]
    pub scope: Scope,
    /// Matches entries that ended, or were created, more than this many days ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_days: Option<u32>,
    /// Matches entries that are not among the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<KeepBest>,
    /// Matches entries that are not among this many newest ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// What happens to matching entries.
    pub action: Action,
    /// Also matches runs from which a model version was created; these can only be archived.
    #[serde(default)]
    pub include_registered: bool,
}

impl Rule {
    /// Validates a rule.
    ///
    /// # Errors
    /// It has no condition, or a number is out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        let conditions = self.after_days.is_some() || self.keep_best.is_some() || self.keep_last.is_some();
        ensure(conditions, "after_days", || {
            "expected at least one of after_days, keep_best and keep_last".to_owned()
        })?;
        ensure(self.after_days.is_none_or(|days| days <= MAX_DAYS), "after_days", || {
            format!("expected at most {MAX_DAYS}")
        })?;
        ensure(self.keep_last.is_none_or(|k| (1..=MAX_KEEP).contains(&k)), "keep_last", || {
            format!("expected 1 to {MAX_KEEP}")
        })?;
        if let Some(best) = &self.keep_best {
            ensure((1..=MAX_KEEP).contains(&best.k), "keep_best.k", || format!("expected 1 to {MAX_KEEP}"))?;
            ensure(!best.metric.is_empty(), "keep_best.metric", || {
                "expected the name of a metric".to_owned()
            })?;
        }
        match &self.scope {
            Scope::Model { model } => {
                registry::validate_model_name("for.model", model)?;
            }
            Scope::Experiment { experiment } => {
                ensure(!experiment.is_empty(), "for.experiment", || {
                    "expected an experiment's name".to_owned()
                })?;
            }
            Scope::Tag { key, .. } => {
                ensure(!key.is_empty(), "for.key", || "expected a tag's name".to_owned())?;
            }
            Scope::All => {}
        }
        let archives = self.action == Action::Archive;
        ensure(archives || !self.include_registered, "include_registered", || {
            "a run from which a version was made can be archived, not deleted".to_owned()
        })
    }

    /// The moment before which something has to have ended to be old enough, in Unix milliseconds.
    pub fn cutoff_ms(&self, now_ms: i64) -> i64 {
        self.after_days.map_or(i64::MAX, |days| now_ms.saturating_sub(i64::from(days) * MS_PER_DAY))
    }

    /// Decides about one thing.
    pub fn judge(&self, facts: &Facts, now_ms: i64) -> Verdict {
        for hold in &facts.holds {
            match hold {
                Hold::Registered(_) if self.include_registered => {}
                hold => return Verdict::Stays(hold.reason()),
            }
        }
        if facts.gone_already && self.action == Action::Archive {
            return Verdict::Stays("it is archived already".to_owned());
        }
        let mut reasons = Vec::new();
        if let Some(days) = self.after_days {
            if facts.ended_ms >= self.cutoff_ms(now_ms) {
                return Verdict::Stays(format!("it is not {days} days old"));
            }
            reasons.push(format!("older than {days} days"));
        }
        if let Some(best) = &self.keep_best {
            if facts.among_best {
                return Verdict::Stays(format!("it is among the best {} by {}", best.k, best.metric));
            }
            reasons.push(format!("not among the best {} by {}", best.k, best.metric));
        }
        if let Some(k) = self.keep_last {
            if facts.among_last {
                return Verdict::Stays(format!("it is among the newest {k}"));
            }
            reasons.push(format!("not among the newest {k}"));
        }
        // A rule without conditions is not valid, and would take everything.
        if reasons.is_empty() {
            return Verdict::Stays("the rule has no condition".to_owned());
        }
        Verdict::Goes(reasons.join(", "))
    }
}

/// What keeps something, whatever a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// It still runs.
    Running,
    /// Aliases point at it.
    Aliased(Vec<String>),
    /// It is in a stage that is in use: `Staging` or `Production`.
    Staged(String),
    /// Deployments serve it, or can be rolled back to it.
    Deployed(Vec<String>),
    /// These versions were made from it.
    Registered(Vec<String>),
}

impl Hold {
    fn reason(&self) -> String {
        match self {
            Self::Running => "it still runs".to_owned(),
            Self::Aliased(aliases) => format!("aliases point at it: {}", aliases.join(", ")),
            Self::Staged(stage) => format!("its stage is {stage}"),
            Self::Deployed(deployments) => format!("it is deployed: {}", deployments.join(", ")),
            Self::Registered(versions) => format!("versions were made from it: {}", versions.join(", ")),
        }
    }
}

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// When it ended, or was made where it has no end.
    pub ended_ms: i64,
    /// Whether it is archived.
    pub gone_already: bool,
    /// Whether it is among the best that the rule keeps.
    pub among_best: bool,
    /// Whether it is among the newest that the rule keeps.
    pub among_last: bool,
    /// What keeps it.
    pub holds: Vec<Hold>,
}

/// What a rule says about something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes.
    Goes(String),
    /// It stays.
    Stays(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_000 * MS_PER_DAY;

    fn rule() -> Rule {
        Rule {
            scope: Scope::All,
            after_days: Some(30),
            keep_best: None,
            keep_last: None,
            action: Action::Archive,
            include_registered: false,
        }
    }

    #[test]
    fn what_is_old_goes_and_the_reason_says_so() {
        let old = Facts { ended_ms: NOW - 31 * MS_PER_DAY, ..Facts::default() };
        assert_eq!(rule().judge(&old, NOW), Verdict::Goes("older than 30 days".to_owned()));
        let young = Facts { ended_ms: NOW - 30 * MS_PER_DAY, ..Facts::default() };
        assert_eq!(rule().judge(&young, NOW), Verdict::Stays("it is not 30 days old".to_owned()));
        let archived = Facts { gone_already: true, ..old };
        assert!(matches!(rule().judge(&archived, NOW), Verdict::Stays(_)));
        let delete = Rule { action: Action::Delete, ..rule() };
        assert!(matches!(delete.judge(&archived, NOW), Verdict::Goes(_)));
    }

    #[test]
    fn every_condition_has_to_hold() {
        let best = KeepBest { metric: "auc".to_owned(), k: 3, goal: Goal::Maximize };
        let rule = Rule { keep_best: Some(best), keep_last: Some(5), ..rule() };
        let facts = Facts::default();
        let why = "older than 30 days, not among the best 3 by auc, not among the newest 5";
        assert_eq!(rule.judge(&facts, NOW), Verdict::Goes(why.to_owned()));
        assert!(matches!(rule.judge(&Facts { among_best: true, ..facts.clone() }, NOW), Verdict::Stays(_)));
        assert!(matches!(rule.judge(&Facts { among_last: true, ..facts }, NOW), Verdict::Stays(_)));
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused() {
        let field = |rule: Rule| rule.validate().unwrap_err().field;
        assert_eq!(field(Rule { after_days: None, ..rule() }), "after_days");
        assert_eq!(field(Rule { keep_last: Some(0), ..rule() }), "keep_last");
        assert_eq!(
            field(Rule { action: Action::Delete, include_registered: true, ..rule() }),
            "include_registered"
        );
        assert_eq!(
            field(Rule { scope: Scope::Model { model: String::new() }, ..rule() }).split('.').next(),
            Some("for")
        );
        rule().validate().unwrap();
        let text = r#"{"for": {"scope": "tag", "key": "sweep"}, "action": "delete",
            "keep_best": {"metric": "loss", "k": 5, "goal": "minimize"}}"#;
        serde_json::from_str::<Rule>(text).unwrap().validate().unwrap();
    }

    fn hold() -> impl Strategy<Value = Hold> {
        prop_oneof![
            Just(Hold::Running),
            Just(Hold::Aliased(vec!["champion".to_owned()])),
            Just(Hold::Staged("Production".to_owned())),
            Just(Hold::Deployed(vec!["churn".to_owned()])),
            Just(Hold::Registered(vec!["m/1".to_owned()])),
        ]
    }

    proptest! {
        #[test]
        fn nothing_goes_that_something_holds(
            ended_ms in 0..NOW, best: bool, last: bool, gone: bool,
                days in proptest::option::of(0..2_000_u32),
            keep in proptest::option::of(1..5_u32), delete: bool, registered: bool,
            holds in proptest::collection::vec(hold(), 1..4),
        ) {
            let action = if delete { Action::Delete } else { Action::Archive };
            let rule = Rule { after_days: days, keep_last: keep, action, include_registered: registered
                && !delete, ..rule() };
            let facts = Facts { ended_ms, gone_already: gone, among_best: best, among_last: last, holds };
            let verdict = rule.judge(&facts, NOW);
            let may_go = rule.include_registered && facts.holds.iter()
                .all(|hold| matches!(hold, Hold::Registered(_)));
            prop_assert!(may_go || matches!(verdict, Verdict::Stays(_)));
        }

        /// Asked later, with the same facts, a rule does not change its mind about what goes.
        #[test]
        fn what_goes_today_goes_tomorrow(ended_ms in 0..NOW, days in 0..2_000_u32, later in 0..NOW) {
            let rule = Rule { after_days: Some(days), ..rule() };
            let facts = Facts { ended_ms, ..Facts::default() };
            if matches!(rule.judge(&facts, NOW), Verdict::Goes(_)) {
                prop_assert!(matches!(rule.judge(&facts, NOW + later), Verdict::Goes(_)));
            }
        }
    }
}
