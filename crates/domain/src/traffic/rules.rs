//! Who answers whatever the weights say: rules by header, and the kill switch.

use serde::{Deserialize, Serialize};

use super::{TrafficTable, Variant, Weighted};
use crate::{Invalid, invalid::ensure};

/// Rules of a table.
const MAX_RULES: usize = 32;
/// Conditions of a rule.
const MAX_CONDITIONS: usize = 8;
/// Values of a condition: a segment may be a list of users.
const MAX_VALUES: usize = 1_000;
/// Longest name, header and value.
const MAX_TEXT_BYTES: usize = 256;

/// Requests that one version is to answer, told by their headers: a tenant, a group of users, one's own tests.
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
#[error("the kill switch of deployment `{deployment}` is on{}, and no version gains traffic until it is turned off with \
    `slipway deployments revive {deployment}` (DELETE /api/v1/deployments/{deployment}/kill-switch)", .switch.because())]
pub struct Frozen {
    deployment: String,
    switch: KillSwitch,
}

impl KillSwitch {
    /// Its mode and reason, for an error message.
    fn because(&self) -> String {
        let mode = self.mode.as_str();
        if self.reason.is_empty() { format!(" ({mode})") } else { format!(" ({mode}: {})", self.reason) }
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

impl Condition {
    fn holds(&self, value_of: &dyn Fn(&str) -> Option<String>) -> bool {
        let Some(value) = value_of(&self.header).filter(|value| !value.is_empty()) else { return false };
        let listed = self.one_of.is_empty() || self.one_of.contains(&value);
        listed && self.prefix.as_ref().is_none_or(|prefix| value.starts_with(prefix))
    }

    fn validate(&self, field: &str) -> Result<(), Invalid> {
        let lawful = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        let named = !self.header.is_empty() && self.header.len() <= MAX_TEXT_BYTES;
        ensure(named && self.header.chars().all(lawful), &format!("{field}.header"), || {
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
    let lawful = !value.is_empty() && value.len() <= MAX_TEXT_BYTES;
    ensure(lawful, field, || format!("expected 1 to {MAX_TEXT_BYTES} bytes"))
}

impl TrafficTable {
    /// Who answers a request by the first rule that holds for it; `value_of` looks up a header by its name.
    pub fn ruled(&self, value_of: &dyn Fn(&str) -> Option<String>) -> Option<Variant> {
        let is_there = |variant| match variant {
            Variant::Stable => self.stable.is_some(),
            Variant::Candidate => !self.on_trial().is_empty(),
        };
        let holds =
            |rule: &&Rule| is_there(rule.to) && rule.when.iter().all(|condition| condition.holds(value_of));
        self.rules.iter().find(holds).map(|rule| rule.to)
    }

    /// The candidates that may answer: none once the kill switch leaves the stable version alone.
    pub fn on_trial(&self) -> &[Weighted] {
        if self.is_stable_only() { &[] } else { &self.candidates }
    }

    /// Whether only the stable version may answer.
    pub fn is_stable_only(&self) -> bool {
        self.kill_switch.as_ref().is_some_and(|switch| switch.mode == KillMode::StableOnly)
    }

    /// Whether versions may gain traffic.
    ///
    /// # Errors
    /// The kill switch is on, in either mode.
    pub fn thawed(&self) -> Result<(), Frozen> {
        match &self.kill_switch {
            Some(switch) => Err(Frozen { deployment: self.deployment.clone(), switch: switch.clone() }),
            None => Ok(()),
        }
    }

    /// Why no request is answered, where that is so; may be empty.
    pub fn refusal(&self) -> Option<&str> {
        let switch = self.kill_switch.as_ref().filter(|switch| switch.mode == KillMode::Refuse)?;
        Some(&switch.reason)
    }

    pub(super) fn validate_rules(&self) -> Result<(), Invalid> {
        ensure(self.rules.len() <= MAX_RULES, "rules", || format!("at most {MAX_RULES} rules"))?;
        for (at, rule) in self.rules.iter().enumerate() {
            let field = format!("rules[{at}]");
            ensure(rule.name.len() <= MAX_TEXT_BYTES, &format!("{field}.name"), || {
                format!("at most {MAX_TEXT_BYTES} bytes")
            })?;
            // A rule without conditions would hold for every request, which weights say better.
            let bounded = (1..=MAX_CONDITIONS).contains(&rule.when.len());
            ensure(bounded, &format!("{field}.when"), || {
                format!("expected 1 to {MAX_CONDITIONS} conditions")
            })?;
            for (place, condition) in rule.when.iter().enumerate() {
                condition.validate(&format!("{field}.when[{place}]"))?;
            }
        }
        let reason_bytes = self.kill_switch.as_ref().map_or(0, |switch| switch.reason.len());
        ensure(reason_bytes <= MAX_TEXT_BYTES, "kill_switch.reason", || {
            format!("at most {MAX_TEXT_BYTES} bytes")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Draw, Target, choose, shadows_for};
    use super::*;
    use crate::traffic::Shadow;

    fn target(version: &str) -> Target {
        Target { version: version.to_owned(), digest: format!("sha256:{version}") }
    }

    fn condition(header: &str, one_of: &[&str], prefix: Option<&str>) -> Condition {
        let one_of = one_of.iter().map(|value| (*value).to_owned()).collect();
        Condition { header: header.to_owned(), one_of, prefix: prefix.map(str::to_owned) }
    }

    fn table(rules: Vec<Rule>) -> TrafficTable {
        TrafficTable {
            stable: Some(target("1")),
            candidates: vec![Weighted { target: target("2"), weight_percent: 30 }],
            shadows: vec![Shadow { target: target("3"), sample_percent: 100 }],
            rules,
            ..TrafficTable::empty("d", "m")
        }
    }

    fn rule(when: Vec<Condition>, to: Variant) -> Rule {
        Rule { name: String::new(), when, to }
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let table = table(vec![
            rule(vec![condition("x-tenant", &["banks"], None)], Variant::Stable),
            rule(
                vec![condition("x-user", &["ann", "bob"], None), condition("x-beta", &[], None)],
                Variant::Candidate,
            ),
            rule(vec![condition("x-tenant", &[], Some("test-"))], Variant::Candidate),
        ]);
        table.validate().unwrap();
        let ruled = |headers: &[(&str, &str)]| {
            table.ruled(&|name| {
                headers.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(ruled(&[]), None);
        assert_eq!(ruled(&[("x-user", "ann")]), None);
        assert_eq!(ruled(&[("x-user", "ann"), ("x-beta", "")]), None);
        assert_eq!(ruled(&[("x-user", "ann"), ("x-beta", "1")]), Some(Variant::Candidate));
        assert_eq!(ruled(&[("x-user", "eve"), ("x-beta", "1")]), None);
        assert_eq!(ruled(&[("x-tenant", "test-7")]), Some(Variant::Candidate));
        let both = [("x-tenant", "banks"), ("x-user", "bob"), ("x-beta", "1")];
        assert_eq!(ruled(&both), Some(Variant::Stable));
        let without = TrafficTable { candidates: Vec::new(), ..table.clone() };
        assert_eq!(without.ruled(&|name| (name == "x-tenant").then(|| "test-7".to_owned())), None);
        assert_eq!(choose(&table, Draw::Ruled(Variant::Candidate)).unwrap().target, &target("2"));
        assert_eq!(choose(&table, Draw::Ruled(Variant::Stable)).unwrap().target, &target("1"));
    }

    #[test]
    fn a_killed_trial_leaves_the_stable_version_alone() {
        let kill_switch = Some(KillSwitch { mode: KillMode::StableOnly, reason: "why".into() });
        let killed = TrafficTable { kill_switch, ..table(Vec::new()) };
        killed.validate().unwrap();
        for draw in [Draw::Uniform(0.99), Draw::Sticky("k"), Draw::Ruled(Variant::Candidate)] {
            assert_eq!(choose(&killed, draw).unwrap().target, &target("1"), "{draw:?}");
        }
        assert_eq!(killed.weights(), [(target("1"), 100)]);
        assert_eq!(shadows_for(&killed, &target("1"), 7), Vec::<&Target>::new());
        assert_eq!((killed.is_stable_only(), killed.refusal()), (true, None));
        let refusing = KillSwitch { mode: KillMode::Refuse, reason: "why".into() };
        let refusing = TrafficTable { kill_switch: Some(refusing), ..killed };
        assert_eq!((refusing.is_stable_only(), refusing.refusal()), (false, Some("why")));
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_place() {
        let refused = |rules| table(rules).validate().unwrap_err().field;
        let fine = || condition("x-user", &[], None);
        assert_eq!(refused(vec![rule(Vec::new(), Variant::Stable)]), "rules[0].when");
        assert_eq!(
            refused(vec![rule(vec![fine(), condition("x user", &[], None)], Variant::Stable)]),
            "rules[0].when[1].header"
        );
        assert_eq!(
            refused(vec![rule(vec![condition("x-user", &["a", ""], None)], Variant::Stable)]),
            "rules[0].when[0].one_of[1]"
        );
        assert_eq!(
            refused(vec![rule(vec![condition("x-user", &[], Some(""))], Variant::Stable)]),
            "rules[0].when[0].prefix"
        );
        assert_eq!(refused(vec![rule(vec![fine()], Variant::Stable); MAX_RULES + 1]), "rules");
    }
}
