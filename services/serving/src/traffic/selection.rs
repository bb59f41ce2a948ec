//! The deployments that this replica answers for, and the names under which it does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use slipway_api::traffic::{POOL_PATTERN, TrafficTable};

/// See the module. The default: every deployment that is not dedicated, under its own name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// `None`: all that are not dedicated.
    only: Option<BTreeSet<String>>,
    /// Deployments by further names of theirs.
    aliases: BTreeMap<String, String>,
    /// Beginning of the names of the deployments of a pool. A client may leave it out.
    pool: Option<String>,
}

impl Selection {
    /// Reads `NAME` or `ALIAS=NAME` for each deployment, or `*=PREFIX*` for a pool; none of them: the
    /// default.
    ///
    /// # Errors
    /// A name is missing, an alias stands for two deployments, or a pool is not alone.
    pub(crate) fn parse(entries: &[String]) -> anyhow::Result<Self> {
        let mut selection = Self::default();
        for entry in entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()) {
            let (alias, name) = match entry.split_once('=') {
                Some((alias, name)) => (Some(alias), name),
                None => (None, entry),
            };
            if let Some(prefix) = name.strip_suffix(POOL_PATTERN) {
                anyhow::ensure!(
                    alias == Some("*") && !prefix.is_empty() && entries.len() == 1,
                    "--deployments: expected `*=PREFIX*` alone for a pool, got `{}`",
                    entries.join(",")
                );
                return Ok(Self { only: Some(BTreeSet::new()), pool: Some(prefix.to_owned()), ..selection });
            }
            anyhow::ensure!(
                !name.is_empty() && alias != Some("") && alias != Some("*"),
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
        match (&self.pool, &self.only) {
            (Some(prefix), _) => table.pool.is_some() && table.deployment.starts_with(prefix),
            (None, Some(only)) => only.contains(&table.deployment),
            (None, None) => !table.dedicated,
        }
    }

    /// Whether the replica may answer for a deployment whose table is not known.
    pub(crate) fn may_take(&self, deployment: &str) -> bool {
        match (&self.pool, &self.only) {
            (Some(prefix), _) => deployment.starts_with(prefix),
            (None, only) => only.as_ref().is_none_or(|only| only.contains(deployment)),
        }
    }

    /// The only deployments that it answers for, as its status has them; `None`: all that are not dedicated.
    pub(crate) fn only(&self) -> Option<Vec<String>> {
        let pool = || self.pool.as_ref().map(|prefix| vec![format!("{prefix}{POOL_PATTERN}")]);
        pool().or_else(|| self.only.as_ref().map(|only| only.iter().cloned().collect()))
    }

    /// Whether it is a replica of a pool.
    pub(crate) const fn is_pool(&self) -> bool {
        self.pool.is_some()
    }

    /// The deployment that a client means.
    pub(crate) fn resolve<'name>(&'name self, asked: &'name str) -> Cow<'name, str> {
        match &self.pool {
            Some(prefix) if !asked.starts_with(prefix) => Cow::Owned(format!("{prefix}{asked}")),
            _ => Cow::Borrowed(self.aliases.get(asked).map_or(asked, String::as_str)),
        }
    }

    /// The name of a deployment in lists: its alias, where it has one.
    pub(crate) fn shown<'name>(&'name self, deployment: &'name str) -> &'name str {
        let of_pool = self.pool.as_ref().and_then(|prefix| deployment.strip_prefix(prefix));
        let alias =
            || self.aliases.iter().find(|(_, name)| *name == deployment).map(|(alias, _)| alias.as_str());
        of_pool.or_else(alias).unwrap_or(deployment)
    }
}

#[cfg(test)]
mod tests {
    use slipway_api::traffic::Pool;

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
    fn a_pool_answers_for_the_deployments_of_its_prefix_that_ask_for_it() {
        let pool = parsed(&["*=ml_*"]).unwrap();
        let asks = TrafficTable { pool: Some(Pool::Answering), ..table("ml_fraud", true) };
        assert!(pool.takes(&asks) && pool.may_take("ml_fraud") && pool.is_pool());
        assert!(!pool.takes(&table("ml_fraud", true)), "it has replicas of its own");
        assert!(!pool.takes(&TrafficTable { deployment: "other_fraud".to_owned(), ..asks.clone() }));
        assert!(!parsed(&[]).unwrap().takes(&asks));
        assert_eq!((&*pool.resolve("fraud"), &*pool.resolve("ml_fraud")), ("ml_fraud", "ml_fraud"));
        assert_eq!((pool.shown("ml_fraud"), pool.only().unwrap()), ("fraud", vec!["ml_*".to_owned()]));
        for entries in [&["*=ml_*", "a"][..], &["ml_*"], &["*=*"], &["a=ml_*"], &["*=ml"]] {
            assert!(parsed(entries).is_err(), "{entries:?}");
        }
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
