//! Ensembles against the models that are here: bound again whenever one of those may have changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use slipway_api::traffic::{Target, VersionState};
use slipway_domain::ensemble::Definition;

use super::deployment::Deployment;
use super::labels::Labels;
use super::served::Described;
use super::slots::{Binding, Slot};
use crate::models::ensemble::{Bound, Models, bind};

/// A deployment's version, as an ensemble finds it.
enum Known {
    Model(Arc<Described>),
    Ensemble(Arc<Definition>),
    Loading,
    Missing(String),
    Broken(String),
}

/// What every deployment and version is at one moment.
struct Here {
    /// By name of the deployment: what its traffic mostly goes to.
    representatives: BTreeMap<String, Known>,
    /// By name and version.
    versions: HashMap<(String, String), Known>,
}

/// Binds every ensemble of `slots` to what the deployments hold now. Only where `all_known` does a deployment
/// that is not among them miss.
pub(super) fn bind_all(
    deployments: &BTreeMap<String, Deployment>,
    all_known: bool,
    slots: &mut HashMap<String, Slot>,
) {
    if slots.values().all(|slot| slot.ensemble.is_none()) {
        return;
    }
    let here = Here::of(deployments, slots);
    let mut bound: Vec<(String, Binding)> = Vec::new();
    for (name, deployment) in deployments {
        for (target, _) in deployment.targets() {
            let ensemble = slots.get(&target.digest).and_then(|slot| slot.ensemble.as_ref());
            if let Some((definition, beside)) = ensemble {
                let labels = || here.labels(definition, &beside.labels);
                let signature = bind(name, definition, &here).map(|signature| (signature, labels()));
                bound.push((target.digest.clone(), signature));
            }
        }
    }
    for (digest, bound) in bound {
        if let Some(slot) = slots.get_mut(&digest) {
            slot.bound(bound, all_known);
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
            Known::Broken(format!("version {} does not load: {reason}", target.version))
        }
        _ => Known::Loading,
    }
}

impl Here {
    /// The deployment, or its version.
    fn known(&self, model: &str, version: Option<&str>) -> Result<&Known, String> {
        let representative = self.representatives.get(model);
        let representative = representative.ok_or_else(|| format!("there is no model '{model}'"))?;
        let Some(version) = version else { return Ok(representative) };
        let known = self.versions.get(&(model.to_owned(), version.to_owned()));
        known.ok_or_else(|| format!("there is no version {version} of it here"))
    }

    /// The labels of an ensemble: its own, and for other outputs those of the models that give them.
    fn labels(&self, definition: &Definition, own: &Labels) -> Labels {
        let mut labels = own.clone();
        for step in &definition.steps {
            let Ok(Known::Model(described)) = self.known(&step.model, step.version.as_deref()) else {
                continue;
            };
            for (theirs, tensor) in &step.outputs {
                if definition.outputs.iter().any(|output| output.name == *tensor) {
                    labels.inherit(tensor, &described.beside.labels, theirs);
                }
            }
        }
        labels
    }
}

impl Models for Here {
    fn find(&self, model: &str, version: Option<&str>) -> Bound<'_> {
        match self.known(model, version) {
            Ok(Known::Model(described)) => Bound::Model(&described.signature),
            Ok(Known::Ensemble(definition)) => Bound::Ensemble(definition),
            Ok(Known::Loading) => Bound::Loading,
            Ok(Known::Missing(reason)) => Bound::Missing(reason.clone()),
            Ok(Known::Broken(reason)) => Bound::Broken(reason.clone()),
            Err(reason) => Bound::Missing(reason),
        }
    }
}
