//! Rules by header, and the kill switch: what operators set besides weights.

use serde::{Deserialize, Serialize};

use crate::{Invalid, invalid::ensure};

/// Rules of a table.
pub(super) const MAX_RULES: usize = 32;
/// Conditions of a rule.
const MAX_CONDITIONS: usize = 8;
/// Values of a condition: a segment may be a list of users.
const MAX_VALUES: usize = 1_000;
/// Longest name, header and value.
const MAX_TEXT_BYTES: usize = 256;

/// Why a target answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// It is the stable version.
    Stable,
    /// It is a candidate with a weight.
    Candidate,
}

/// Requests that one version is to answer, told by their headers: a tenant, a group of users, one's own
/// tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// All of them have to hold.
    pub when: Vec<Condition>,
    /// Who answers; a rule to the candidate holds while there is one.
    pub to: Variant,
}

/// What a header of a request has to be. With neither values nor a prefix it has to be there, and not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// HTTP header, gRPC metadata key or request parameter.
    pub header: String,
    /// It is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    /// It begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// A switch that people turn when there is no time to find out more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillSwitch {
    /// What it stops.
    pub mode: KillMode,
    /// For those who meet it.
    #[serde(default)]
    pub reason: String,
}

/// See [`KillSwitch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillMode {
    /// Everything on trial: the stable version answers all, and nothing is copied to shadows.
    StableOnly,
    /// Everything: no request is answered.
    Refuse,
}

/// No version of the deployment may gain traffic, because its kill switch is on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kill switch of deployment `{deployment}` is on{}, and no version gains traffic until it is \
    turned off with `slipway deployments revive {deployment}` (DELETE \
    /api/v1/deployments/{deployment}/kill-switch)", .switch.because())]
pub struct Frozen {
    pub(super) deployment: String,
    pub(super) switch: KillSwitch,
}

impl KillSwitch {
    /// Its mode and reason, for an error message.
    fn because(&self) -> String {
        let mode = self.mode.as_str();
        if self.reason.is_empty() { format!(" ({mode})") } else { format!(" ({mode}: {})", self.reason) }
    }

    pub(super) fn validate(&self) -> Result<(), Invalid> {
        ensure(self.reason.len() <= MAX_TEXT_BYTES, "kill_switch.reason", || {
            format!("at most {MAX_TEXT_BYTES} bytes")
        })
    }
}

impl KillMode {
    /// The name that JSON carries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StableOnly => "stable-only",
            Self::Refuse => "refuse",
        }
    }
}

impl Rule {
    /// Whether a request fulfils every condition; `value_of` looks up a header by its name.
    pub(super) fn holds(&self, value_of: &dyn Fn(&str) -> Option<String>) -> bool {
        self.when.iter().all(|condition| condition.holds(value_of))
    }

    fn validate(&self, field: &str) -> Result<(), Invalid> {
        ensure(self.name.len() <= MAX_TEXT_BYTES, &format!("{field}.name"), || {
            format!("at most {MAX_TEXT_BYTES} bytes")
        })?;
        // A rule without conditions would hold for every request, which weights say better.
        let bounded = (1..=MAX_CONDITIONS).contains(&self.when.len());
        ensure(bounded, &format!("{field}.when"), || format!("expected 1 to {MAX_CONDITIONS} conditions"))?;
        for (place, condition) in self.when.iter().enumerate() {
            condition.validate(&format!("{field}.when[{place}]"))?;
        }
        Ok(())
    }
}

/// Checks the rules of a table.
pub(super) fn validate_all(rules: &[Rule]) -> Result<(), Invalid> {
    ensure(rules.len() <= MAX_RULES, "rules", || format!("at most {MAX_RULES} rules"))?;
    rules.iter().enumerate().try_for_each(|(at, rule)| rule.validate(&format!("rules[{at}]")))
}

impl Condition {
    fn holds(&self, value_of: &dyn Fn(&str) -> Option<String>) -> bool {
        let Some(value) = value_of(&self.header).filter(|value| !value.is_empty()) else { return false };
        let listed = self.one_of.is_empty() || self.one_of.contains(&value);
        listed && self.prefix.as_ref().is_none_or(|prefix| value.starts_with(prefix))
    }

    fn validate(&self, field: &str) -> Result<(), Invalid> {
        let valid = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        let named = !self.header.is_empty() && self.header.len() <= MAX_TEXT_BYTES;
        ensure(named && self.header.chars().all(valid), &format!("{field}.header"), || {
            "expected the name of a header: letters, digits, '-', '_' and '.'".into()
        })?;
        ensure(self.one_of.len() <= MAX_VALUES, &format!("{field}.one_of"), || {
            format!("at most {MAX_VALUES} values")
        })?;
        for (at, value) in self.one_of.iter().enumerate() {
            text(value, &format!("{field}.one_of[{at}]"))?;
        }
        self.prefix.as_ref().map_or(Ok(()), |prefix| text(prefix, &format!("{field}.prefix")))
    }
}

fn text(value: &str, field: &str) -> Result<(), Invalid> {
    let valid = !value.is_empty() && value.len() <= MAX_TEXT_BYTES;
    ensure(valid, field, || format!("expected 1 to {MAX_TEXT_BYTES} bytes"))
}
