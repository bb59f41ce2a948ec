//! The deployments that this replica answers for, and the names under which it does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use slipway_api::traffic::{POOL_PATTERN, Pool, Target, TrafficTable, Weighted};

/// See the module. The default: every deployment that is not dedicated, under its own name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// `None`: all that are not dedicated.
    only: Option<BTreeSet<String>>,
    /// Deployments by further names of theirs.
    aliases: BTreeMap<String, String>,
    /// Beginning of the names of the deployments of a pool. A client may leave it out.
    pool: Option<String>,
    /// The only version that is served.
    version: Option<String>,
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

    /// The same for one version alone.
    #[must_use]
    pub(crate) fn of_version(self, version: Option<&str>) -> Self {
        Self { version: version.filter(|version| !version.is_empty()).map(str::to_owned), ..self }
    }

    /// The only version that is served; `None`: all that a table names.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The part of a table that this replica follows. A replica of one version answers all requests that
    /// reach it, whatever its weight is: the routes in front of it follow the table a moment later.
    pub(crate) fn part_of(&self, table: TrafficTable) -> TrafficTable {
        let Some(version) = &self.version else { return table };
        let own = |target: &&Target| target.version == *version;
        let stable = table.stable.iter().find(own).cloned();
        let candidate = table.candidates.iter().map(|weighted| &weighted.target).find(own).cloned();
        let idle = table.targets().find(own).filter(|_| stable.is_none() && candidate.is_none()).cloned();
        let all = |target: Target| Weighted { target, weight_percent: 100 };
        TrafficTable {
            stable,
            candidates: candidate.or_else(|| idle.clone()).map(all).into_iter().collect(),
            shadows: Vec::new(),
            warm: idle.into_iter().collect(),
            rules: Vec::new(),
            ..table
        }
    }

    /// What a replica of one version follows after a table that names the version no longer: the part before,
    /// until nobody leads requests to it any more and it is ended.
    pub(crate) fn kept(&self, part: TrafficTable, before: &TrafficTable) -> TrafficTable {
        if self.version.is_none() || part.targets().next().is_some() {
            return part;
        }
        let (stable, candidates) = (before.stable.clone(), before.candidates.clone());
        TrafficTable { warm: before.targets().take(1).cloned().collect(), stable, candidates, ..part }
    }

    /// Whether clients are to leave this replica: the deployment has replicas of its own again, and this one
    /// is of the pool, or another version than that of this replica is to answer them.
    pub(crate) fn is_left(&self, part: &TrafficTable) -> bool {
        (self.is_pool() && part.pool == Some(Pool::Leaving))
            || (self.version.is_some() && !part.warm.is_empty())
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
    fn a_replica_of_one_version_has_its_role_with_all_of_the_traffic() {
        let target = |version: &str| Target { version: version.to_owned(), digest: "sha256:0".to_owned() };
        let table = TrafficTable {
            stable: Some(target("1")),
            candidates: vec![Weighted { target: target("2"), weight_percent: 10 }],
            warm: vec![target("3")],
            ..table("ml_fraud", true)
        };
        let part = |version: &str| {
            let selection = parsed(&["fraud=ml_fraud"]).unwrap().of_version(Some(version));
            let part = selection.part_of(table.clone());
            part.validate().unwrap();
            (part.stable.clone(), part.candidates.clone(), selection.is_left(&part))
        };
        let all = |version: &str| Weighted { target: target(version), weight_percent: 100 };
        assert_eq!(part("1"), (Some(target("1")), vec![], false));
        assert_eq!(part("2"), (None, vec![all("2")], false));
        assert_eq!(part("3"), (None, vec![all("3")], true));
        assert_eq!(part("4"), (None, vec![], false));
        assert_eq!(parsed(&[]).unwrap().part_of(table.clone()), table);
    }

    #[test]
    fn a_replica_of_one_version_goes_on_after_the_table_has_dropped_it() {
        let target = |version: &str| Target { version: version.to_owned(), digest: "sha256:0".to_owned() };
        let stable =
            |version: &str| TrafficTable { stable: Some(target(version)), ..table("ml_fraud", true) };
        let selection = parsed(&["fraud=ml_fraud"]).unwrap().of_version(Some("1"));
        let part = selection.part_of(stable("1"));
        let kept = selection.kept(selection.part_of(stable("2")), &part);
        kept.validate().unwrap();
        assert_eq!((&kept.stable, selection.is_left(&kept)), (&Some(target("1")), true));
        let again = selection.kept(selection.part_of(stable("1")), &kept);
        assert_eq!((&again.stable, selection.is_left(&again)), (&Some(target("1")), false));
        let all = parsed(&["fraud=ml_fraud"]).unwrap();
        assert_eq!(all.kept(all.part_of(stable("2")), &part).stable, Some(target("2")));
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
