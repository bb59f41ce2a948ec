//! Who answers whatever the weights say: rules by header, and the kill switch.

use super::rules::{Frozen, KillMode, Rule, Variant};
use super::{TrafficTable, Weighted};

impl TrafficTable {
    /// Who answers a request by the first rule that holds for it; `value_of` looks up a header by its name.
    pub fn ruled(&self, value_of: &dyn Fn(&str) -> Option<String>) -> Option<Variant> {
        let is_there = |variant| match variant {
            Variant::Stable => self.stable.is_some(),
            Variant::Candidate => !self.on_trial().is_empty(),
        };
        let holds = |rule: &&Rule| is_there(rule.to) && rule.holds(value_of);
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
}

#[cfg(test)]
mod tests {
    use super::super::rules::{Condition, KillSwitch, MAX_RULES};
    use super::super::{Draw, Shadow, Target, choose, shadows_for};
    use super::*;

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
