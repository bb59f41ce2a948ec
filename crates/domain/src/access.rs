//! Who may do what: roles, what they are granted on, and the one decision over them.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Invalid;

/// What a token is known by: SHA-256 of its text, or of its secret part. Tokens are long and random, so one
/// round is enough to keep.
pub fn token_digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// What a caller may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Writes experiments, runs, artifacts, models and versions.
    Editor,
    /// Also takes decisions with consequences: aliases, stages, names of models, their removal.
    Deployer,
    /// Also purges, and sets policies, tokens and grants.
    Admin,
}

impl Role {
    const ALL: [Self; 4] = [Self::Viewer, Self::Editor, Self::Deployer, Self::Admin];

    /// Name on the wire and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            Invalid::new("role", format!("expected viewer, editor, deployer or admin, got '{text}'"))
        })
    }
}

/// What a role is granted on, as text `*`, `experiment:<id>` or `model:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// All experiments and models, also those to come.
    Everything,
    /// One experiment with its runs, logged models and artifacts.
    Experiment(i64),
    /// One registered model with its versions and aliases; it need not exist yet.
    Model(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => formatter.write_str("*"),
            Self::Experiment(id) => write!(formatter, "experiment:{id}"),
            Self::Model(name) => write!(formatter, "model:{name}"),
        }
    }
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = || {
            Invalid::new("scope", format!("expected *, experiment:<number> or model:<name>, got '{text}'"))
        };
        match text.split_once(':') {
            None if text == "*" => Ok(Self::Everything),
            // One spelling for each: a grant is found by its text.
            Some(("experiment", id)) => match id.parse() {
                Ok(number @ 0..) if id == format!("{number}") => Ok(Self::Experiment(number)),
                _ => Err(refuse()),
            },
            Some(("model", name)) if !name.is_empty() => Ok(Self::Model(name.to_owned())),
            _ => Err(refuse()),
        }
    }
}

/// What a refusal says: which role is missing, on what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is needed on {}; this caller has {}", a_role(.needed), plain(.scope),
    .has.map_or("none there".to_owned(), |role| a_role(&role)))]
pub struct Denied {
    /// The least role that may do it.
    pub needed: Role,
    /// Where it would have to hold.
    pub scope: Scope,
    /// What the caller has there.
    pub has: Option<Role>,
}

fn a_role(role: &Role) -> String {
    format!("the role {role}")
}

fn plain(scope: &Scope) -> String {
    match scope {
        Scope::Everything => "everything".to_owned(),
        Scope::Experiment(id) => format!("experiment {id}"),
        Scope::Model(name) => format!("the registered model '{name}'"),
    }
}

/// What a list shows of one kind of thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible<T> {
    /// All of it.
    All,
    /// These alone.
    These(Vec<T>),
}

impl<T> Visible<T> {
    /// The things that alone are shown; `None` where all are.
    pub fn only(&self) -> Option<&[T]> {
        match self {
            Self::All => None,
            Self::These(these) => Some(these),
        }
    }
}

/// All that one caller was granted, under its own name and through its groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    everything: Option<Role>,
    experiments: HashMap<i64, Role>,
    models: HashMap<String, Role>,
}

impl FromIterator<(Scope, Role)> for Grants {
    /// Of several roles on one thing the greatest holds.
    fn from_iter<I: IntoIterator<Item = (Scope, Role)>>(granted: I) -> Self {
        let mut grants = Self::default();
        for (scope, role) in granted {
            match scope {
                Scope::Everything => grants.everything = grants.everything.max(Some(role)),
                Scope::Experiment(id) => raise(grants.experiments.entry(id).or_insert(role), role),
                Scope::Model(name) => raise(grants.models.entry(name).or_insert(role), role),
            }
        }
        grants
    }
}

fn raise(held: &mut Role, role: Role) {
    *held = (*held).max(role);
}

impl Grants {
    /// May do everything.
    pub fn full() -> Self {
        Self { everything: Some(Role::Admin), ..Self::default() }
    }

    /// The role held there: the one on that thing or the one on everything, whichever is greater.
    pub fn role_on(&self, scope: &Scope) -> Option<Role> {
        let own = match scope {
            Scope::Everything => None,
            Scope::Experiment(id) => self.experiments.get(id).copied(),
            Scope::Model(name) => self.models.get(name).copied(),
        };
        own.max(self.everything)
    }

    /// The decision.
    ///
    /// # Errors
    /// The role held there is less than `needed`.
    pub fn check(&self, needed: Role, scope: &Scope) -> Result<(), Denied> {
        let has = self.role_on(scope);
        if has >= Some(needed) { Ok(()) } else { Err(Denied { needed, scope: scope.clone(), has }) }
    }

    /// Experiments that a list may show; a grant is a viewer's at least.
    pub fn visible_experiments(&self) -> Visible<i64> {
        if self.everything.is_some() {
            return Visible::All;
        }
        let mut ids: Vec<i64> = self.experiments.keys().copied().collect();
        ids.sort_unstable();
        Visible::These(ids)
    }

    /// Registered models that a list may show.
    pub fn visible_models(&self) -> Visible<String> {
        if self.everything.is_some() {
            return Visible::All;
        }
        let mut names: Vec<String> = self.models.keys().cloned().collect();
        names.sort_unstable();
        Visible::These(names)
    }

    /// Whether any role is held, on whatever.
    pub fn has_any(&self) -> bool {
        self.everything.is_some() || !self.experiments.is_empty() || !self.models.is_empty()
    }

    /// Each grant, in order, for people who ask what they may do.
    pub fn list(&self) -> Vec<(Scope, Role)> {
        let everything = self.everything.map(|role| (Scope::Everything, role));
        let experiments = self.experiments.iter().map(|(id, role)| (Scope::Experiment(*id), *role));
        let models = self.models.iter().map(|(name, role)| (Scope::Model(name.clone()), *role));
        let mut listed: Vec<_> = everything.into_iter().chain(experiments).chain(models).collect();
        listed.sort_unstable();
        listed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope() -> impl Strategy<Value = Scope> {
        prop_oneof![
            Just(Scope::Everything),
            (0_i64..4).prop_map(Scope::Experiment),
            "[a-c]".prop_map(Scope::Model),
        ]
    }

    fn role() -> impl Strategy<Value = Role> {
        prop::sample::select(Role::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_grant_allows_what_it_says_there_and_nothing_elsewhere(on in scope(), held in role(),
            asked in scope(), needed in role()) {
            let grants: Grants = [(on.clone(), held)].into_iter().collect();
            let covers = on == Scope::Everything || on == asked;
            prop_assert_eq!(grants.check(needed, &asked).is_ok(), covers && held >= needed);
        }

        #[test]
        fn another_grant_never_takes_anything_away(
            granted in prop::collection::vec((scope(), role()), 0..6), more in (scope(), role()),
                asked in scope(), needed in role(),
        ) {
            let before: Grants = granted.iter().cloned().collect();
            let after: Grants = granted.into_iter().chain([more]).collect();
            prop_assert!(before.check(needed, &asked).is_err() || after.check(needed, &asked).is_ok());
        }

        #[test]
        fn a_scope_reads_as_it_is_written(scope in scope()) {
            prop_assert_eq!(scope.to_string().parse::<Scope>(), Ok(scope));
        }
    }

    #[test]
    fn a_refusal_says_which_role_is_missing_on_what() {
        let grants: Grants = [(Scope::Experiment(3), Role::Viewer)].into_iter().collect();
        let denied = grants.check(Role::Editor, &Scope::Experiment(3)).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "the role editor is needed on experiment 3; this caller has the role viewer"
        );
        let denied = grants.check(Role::Viewer, &Scope::Model("churn".into())).unwrap_err();
        assert!(denied.to_string().ends_with("'churn'; this caller has none there"), "{denied}");
        assert_eq!(grants.visible_models(), Visible::These(vec![]));
        assert!(grants.has_any() && !Grants::default().has_any() && Grants::full().has_any());
    }

    #[test]
    fn odd_scopes_are_refused() {
        for text in [
            "",
            "all",
            "experiment:",
            "experiment:x",
            "model:",
            "runs:1",
            "experiment:-1",
            "experiment:+1",
            "experiment:01",
            "experiment: 1",
        ] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
        assert_eq!("model:a:b".parse::<Scope>(), Ok(Scope::Model("a:b".into())));
    }
}
