//! The Services by which the Envoys of pods find all pods that answer alike: those of a ModelDeployment, or
//! where its versions have pods of their own, those of each version.

use slipway_kubernetes_resources::model_deployment::{ModelDeployment, Spec};
use slipway_kubernetes_serving::{Owner, Situation, build_peers};

use super::applied::{Basis, Built};
use super::follower::{Error, Follower, Seen, Version};

/// Of whom there are to be such Services: the names of the pods' objects, and the version.
fn parts<'seen>(
    object: &ModelDeployment,
    owner: &Owner,
    versions: &'seen [Version],
) -> Vec<(Owner, Option<&'seen str>)> {
    let of = |version: &'seen Version| (version.owner.clone(), Some(version.version.as_str()));
    match object.is_separate() {
        true => versions.iter().map(of).collect(),
        false => vec![(owner.clone(), None)],
    }
}

impl Follower {
    /// Applies them, or removes them where no pod has an Envoy any more.
    pub(super) async fn build_peers(
        &self,
        object: &ModelDeployment,
        owner: &Owner,
        spec: &Spec,
        seen: &Seen,
    ) -> Result<Vec<Built>, Error> {
        let are_replaced = seen.pods.as_ref().is_some_and(|pods| pods.updated >= pods.replicas);
        let mut built = Vec::new();
        for (owner, version) in parts(object, owner, &seen.versions) {
            let peers = owner.peers();
            if spec.envoy.is_some() {
                let make = |_: &Situation| Ok(build_peers(object, version));
                built.push(self.apply(&peers, Basis::of(object, Situation::default()), make).await?);
            } else if self.children.are_there(&peers) {
                if are_replaced && self.are_as_applied(&owner) {
                    self.remove(&peers).await?;
                }
                built.push(Built::Changed);
            }
        }
        Ok(built)
    }

    /// Whether they are as they were applied.
    pub(super) fn are_peers_as_applied(&self, object: &ModelDeployment, versions: &[Version]) -> bool {
        let mut parts = parts(object, &Owner::from(object), versions).into_iter();
        !object.spec["envoy"].is_object() || parts.all(|(owner, _)| self.are_as_applied(&owner.peers()))
    }
}
