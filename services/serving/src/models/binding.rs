//! Ensembles against the models that are here: bound anew whenever one of those may have changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use slipway_api::traffic::{Target, VersionState};
use slipway_inference::Signature;

use super::deployment::Deployment;
use super::served::Described;
use super::slots::Slot;
use crate::ensemble::{Bound, Definition, Models, Unbound, bind};

/// A deployment's version, as an ensemble finds it.
enum Known {
    Model(Arc<Described>),
    Ensemble(Arc<Definition>),
    Loading,
    Missing(String),
}

/// What every deployment and version is at one moment.
struct Here {
    /// By name of the deployment: what its traffic mostly goes to.
    representatives: BTreeMap<String, Known>,
    /// By name and version.
    versions: HashMap<(String, String), Known>,
}

/// Binds every ensemble of `slots` to what the deployments hold now.
pub(super) fn bind_all(deployments: &BTreeMap<String, Deployment>, slots: &mut HashMap<String, Slot>) {
    if slots.values().all(|slot| slot.ensemble.is_none()) {
        return;
    }
    let here = Here::of(deployments, slots);
    let mut bound: Vec<(String, Result<Signature, Unbound>)> = Vec::new();
    for (name, deployment) in deployments {
        for (target, _) in deployment.targets() {
            let ensemble = slots.get(&target.digest).and_then(|slot| slot.ensemble.as_ref());
            if let Some((definition, _)) = ensemble {
                bound.push((target.digest.clone(), bind(name, definition, &here)));
            }
        }
    }
    for (digest, bound) in bound {
        if let Some(slot) = slots.get_mut(&digest) {
            slot.bound(bound);
        }
    }
}

impl Here {
    fn of(deployments: &BTreeMap<String, Deployment>, slots: &HashMap<String, Slot>) -> Self {
        let mut representatives = BTreeMap::new();
        let mut versions = HashMap::new();
        for (name, deployment) in deployments {
            let table = &deployment.active;
            let candidate = table.candidates.first().map(|entry| &entry.target);
            let known = match table.stable.as_ref().or(candidate) {
                Some(target) => known(target, slots),
                None => Known::Missing("it has no version yet".to_owned()),
            };
            representatives.insert(name.clone(), known);
            for (target, _) in deployment.targets() {
                versions
                    .entry((name.clone(), target.version.clone()))
                    .or_insert_with(|| self::known(target, slots));
            }
        }
        Self { representatives, versions }
    }
}

fn known(target: &Target, slots: &HashMap<String, Slot>) -> Known {
    let Some(slot) = slots.get(&target.digest) else { return Known::Loading };
    if let Some((definition, _)) = &slot.ensemble {
        return Known::Ensemble(Arc::clone(definition));
    }
    match (slot.state, slot.resident.described()) {
        (VersionState::Ready, Some(described)) => Known::Model(described),
        (VersionState::Failed, _) => {
            let reason = slot.reason.as_deref().unwrap_or("its log has the cause");
            Known::Missing(format!("version {} does not load: {reason}", target.version))
        }
        _ => Known::Loading,
    }
}

impl Models for Here {
    fn find(&self, model: &str, version: Option<&str>) -> Bound<'_> {
        let Some(representative) = self.representatives.get(model) else {
            return Bound::Missing(format!("there is no model '{model}'"));
        };
        let known = match version {
            None => representative,
            Some(version) => match self.versions.get(&(model.to_owned(), version.to_owned())) {
                Some(known) => known,
                None => return Bound::Missing(format!("there is no version {version} of it here")),
            },
        };
        match known {
            Known::Model(described) => Bound::Model(&described.signature),
            Known::Ensemble(definition) => Bound::Ensemble(definition),
            Known::Loading => Bound::Loading,
            Known::Missing(reason) => Bound::Missing(reason.clone()),
        }
    }
}
