//! The deployments that this replica answers for, and the names under which it does.

use std::collections::{BTreeMap, BTreeSet};

use slipway_api::traffic::TrafficTable;

/// See the module. The default: every deployment that is not dedicated, under its own name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// `None`: all that are not dedicated.
    only: Option<BTreeSet<String>>,
    /// Deployments by further names of theirs.
    aliases: BTreeMap<String, String>,
}

impl Selection {
    /// Reads `NAME` or `ALIAS=NAME` for each deployment; none of them: the default.
    ///
    /// # Errors
    /// A name is missing, or an alias stands for two deployments.
    pub(crate) fn parse(entries: &[String]) -> anyhow::Result<Self> {
        let mut selection = Self::default();
        for entry in entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()) {
            let (alias, name) = match entry.split_once('=') {
                Some((alias, name)) => (Some(alias), name),
                None => (None, entry),
            };
            anyhow::ensure!(
                !name.is_empty() && alias != Some(""),
                "--deployments: expected NAME or ALIAS=NAME, got `{entry}`"
            );
            selection.only.get_or_insert_default().insert(name.to_owned());
            let Some(alias) = alias else { continue };
            let earlier = selection.aliases.insert(alias.to_owned(), name.to_owned());
            anyhow::ensure!(
                earlier.as_deref().is_none_or(|earlier| earlier == name),
                "--deployments: the alias `{alias}` stands for two deployments"
            );
        }
        Ok(selection)
    }

    /// Whether the replica answers for the deployment of a table.
    pub(crate) fn takes(&self, table: &TrafficTable) -> bool {
        match &self.only {
            Some(only) => only.contains(&table.deployment),
            None => !table.dedicated,
        }
    }

    /// Whether the replica may answer for a deployment whose table is not known.
    pub(crate) fn may_take(&self, deployment: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(deployment))
    }

    /// The only deployments that it answers for; `None`: all that are not dedicated.
    pub(crate) fn only(&self) -> Option<Vec<String>> {
        self.only.as_ref().map(|only| only.iter().cloned().collect())
    }

    /// The deployment that a client means.
    pub(crate) fn resolve<'name>(&'name self, asked: &'name str) -> &'name str {
        self.aliases.get(asked).map_or(asked, String::as_str)
    }

    /// The name of a deployment in lists: its alias, where it has one.
    pub(crate) fn shown<'name>(&'name self, deployment: &'name str) -> &'name str {
        let alias = self.aliases.iter().find(|(_, name)| *name == deployment);
        alias.map_or(deployment, |(alias, _)| alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(entries: &[&str]) -> Result<Selection, String> {
        let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        Selection::parse(&entries).map_err(|error| error.to_string())
    }

    fn table(name: &str, dedicated: bool) -> TrafficTable {
        TrafficTable { dedicated, ..TrafficTable::empty(name, "model") }
    }

    #[test]
    fn a_replica_answers_for_all_but_the_dedicated_or_for_those_it_names() {
        let all = parsed(&[]).unwrap();
        assert!(all.takes(&table("a", false)) && !all.takes(&table("a", true)) && all.may_take("a"));
        assert_eq!(all.only(), None);
        let only = parsed(&["ml_a", "b=ml_b"]).unwrap();
        for (name, taken) in [("ml_a", true), ("ml_b", true), ("b", false), ("c", false)] {
            assert_eq!(only.takes(&table(name, true)), taken, "{name}");
            assert_eq!(only.takes(&table(name, false)), taken, "{name}");
        }
        assert!(only.may_take("ml_a") && !only.may_take("c"));
        assert_eq!(only.only().unwrap(), ["ml_a", "ml_b"]);
    }

    #[test]
    fn an_alias_is_another_name_of_a_deployment() {
        let aliased = parsed(&["fraud=ml_fraud"]).unwrap();
        assert_eq!(aliased.resolve("fraud"), "ml_fraud");
        assert_eq!(aliased.resolve("ml_fraud"), "ml_fraud");
        assert_eq!(aliased.resolve("other"), "other");
        assert_eq!((aliased.shown("ml_fraud"), aliased.shown("other")), ("fraud", "other"));
    }

    #[test]
    fn what_names_no_deployment_is_refused() {
        for entry in ["=a", "a="] {
            let refused = parsed(&[entry]).unwrap_err();
            assert!(refused.contains("--deployments") && refused.contains(entry), "{refused}");
        }
        assert!(parsed(&["a=b", "a=c"]).unwrap_err().contains("two deployments"));
        assert_eq!(parsed(&[""]), Ok(Selection::default()));
    }
}
