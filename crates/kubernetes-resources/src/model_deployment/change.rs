//! What a changed spec asks of the deployment.

use serde_json::{Map, Value, json};
use slipway_api::rest::rollouts::{Phase, Rule};

use super::{Deployed, Spec};

/// The changes of a deployment that make it what a spec says.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// A JSON Merge Patch of the deployment's settings; empty where none changes.
    pub settings: Map<String, Value>,
    /// The rules, where they change.
    pub rules: Option<Vec<Rule>>,
    /// How the traffic is to move.
    pub moves: Option<Move>,
}

/// How the traffic is to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// By a rollout of this version.
    To(String),
    /// Back to this version, which is still loaded: the newest rollout is undone.
    Back(String),
}

/// What `spec` changes about a deployment; `version` is the one that it asks for, by itself or by its alias.
pub fn change(spec: &Spec, deployed: &Deployed, version: &str) -> Change {
    let deployment = &deployed.deployment;
    let mut settings = Map::new();
    let strategy = spec.strategy.clone().unwrap_or_default();
    if strategy != deployment.default_strategy {
        settings.insert("default_strategy".to_owned(), json!(strategy));
    }
    if spec.sticky_key != deployment.sticky_key {
        settings.insert("sticky_key".to_owned(), json!(spec.sticky_key));
    }
    let watch_alias = spec.followed_alias(&deployment.name);
    if watch_alias != deployment.watch_alias {
        settings.insert("watch_alias".to_owned(), json!(watch_alias));
    }
    let rules = (spec.rules != deployment.rules).then(|| spec.rules.clone());
    Change { settings, rules, moves: moves(deployed, version) }
}

fn moves(deployed: &Deployed, version: &str) -> Option<Move> {
    let stable = deployed.deployment.stable_version.as_deref();
    let Some(rollout) = &deployed.rollout else { return Some(Move::To(version.to_owned())) };
    let (is_active, is_before) =
        (!rollout.phase.is_final(), rollout.from_version.as_deref() == Some(version));
    let is_on_its_way = match rollout.phase {
        Phase::RollingBack => is_before,
        _ => is_active && rollout.to_version == version,
    };
    if is_on_its_way {
        return None;
    }
    if is_active && is_before {
        return Some(Move::Back(version.to_owned()));
    }
    if stable == Some(version) && !is_active {
        return None;
    }
    let is_undone = is_before && stable == Some(&rollout.to_version);
    Some(if is_undone { Move::Back(version.to_owned()) } else { Move::To(version.to_owned()) })
}

#[cfg(test)]
mod tests {
    use slipway_api::rest::rollouts::StickyKey;

    use super::super::step::tests::{deployed, rollout};
    use super::*;

    fn spec(version: &str) -> Spec {
        serde_json::from_value(json!({"model": {"name": "fraud", "version": version}})).unwrap()
    }

    fn moves_to(phase: Phase, stable: &str, version: &str) -> Option<Move> {
        let rollout = rollout(phase, Some("1"), "2");
        change(&spec(version), &deployed(Some(stable), Some(rollout)), version).moves
    }

    #[test]
    fn the_traffic_moves_to_the_version_that_is_asked_for() {
        let (to, back) = (|version: &str| Move::To(version.to_owned()), Move::Back("1".to_owned()));
        assert_eq!(moves_to(Phase::Promoted, "2", "2"), None);
        assert_eq!(moves_to(Phase::Promoted, "2", "3"), Some(to("3")));
        assert_eq!(moves_to(Phase::Promoted, "2", "1"), Some(back.clone()), "it is still loaded");
        assert_eq!(moves_to(Phase::Progressing, "1", "2"), None);
        assert_eq!(moves_to(Phase::Progressing, "1", "3"), Some(to("3")), "it supersedes");
        assert_eq!(moves_to(Phase::Progressing, "1", "1"), Some(back));
        assert_eq!(moves_to(Phase::RollingBack, "1", "1"), None, "it is on its way");
        assert_eq!(moves_to(Phase::RollingBack, "1", "2"), Some(to("2")));
        assert_eq!(moves_to(Phase::RolledBack, "1", "1"), None);
        assert_eq!(moves_to(Phase::RolledBack, "1", "2"), Some(to("2")), "the spec was changed since");
        let new = deployed(None, None);
        assert_eq!(change(&spec("1"), &new, "1").moves, Some(to("1")));
    }

    #[test]
    fn settings_are_patched_where_they_differ() {
        let rollout = rollout(Phase::Promoted, None, "1");
        let deployed = deployed(Some("1"), Some(rollout));
        let same = change(&spec("1"), &deployed, "1");
        assert_eq!(same, Change { settings: Map::new(), rules: None, moves: None });
        let mut other = spec("1");
        other.model.alias = Some("champion".to_owned());
        other.sticky_key = Some(StickyKey { header: "x-user".to_owned() });
        let changed = change(&other, &deployed, "1").settings;
        let names: Vec<&str> = changed.keys().map(String::as_str).collect();
        assert_eq!(names, ["sticky_key", "watch_alias"]);
    }
}
