//! ModelDeployments whose versions have pods of their own: a set of objects for each version that the traffic
//! table names, and the shares of the traffic for the routes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use slipway_kubernetes_resources::model_deployment::{
    Deployed, ModelDeployment, Pods, Share, Spec, least_pods, shares, versions,
};
use slipway_kubernetes_serving::{
    Owner, Situation, build_version, owner_of, pods, pods_of_versions, version_name,
};

use super::applied::{Basis, Built};
use super::follower::{Error, Follower, Version};

fn owner(object: &ModelDeployment, version: &str) -> Owner {
    Owner { namespace: object.namespace().to_owned(), name: version_name(object.name(), version) }
}

impl Follower {
    /// The versions of an object that have pods of their own, and their shares of the traffic.
    pub(super) fn versions(
        &self,
        object: &ModelDeployment,
        deployed: Option<&Deployed>,
    ) -> (Vec<Version>, Vec<Share>) {
        let Some(deployed) = deployed.filter(|_| object.is_separate()) else { return Default::default() };
        let table = &deployed.deployment.traffic;
        let ready = |version: &str| {
            let deployment = self.children.deployment(&owner(object, version));
            let status = deployment.as_ref().and_then(|deployment| deployment.status.as_ref());
            let ready = status.and_then(|status| status.ready_replicas).unwrap_or_default();
            u32::try_from(ready).unwrap_or_default()
        };
        let of = |version: String| Version {
            owner: owner(object, &version),
            least_pods: least_pods(table, &version, ready),
            version,
        };
        let shares = shares(table, ready, &object.status.traffic);
        (versions(table).into_iter().map(of).collect(), shares)
    }

    /// Their pods; `None` where the versions of an object have no pods of their own.
    pub(super) fn pods_of_versions(
        &self,
        object: &ModelDeployment,
        deployed: Option<&Deployed>,
        own_pods: &[Arc<Pod>],
    ) -> Option<Pods> {
        if !object.is_separate() {
            return None;
        }
        let of = |part: &Owner| {
            let deployment = self.children.deployment(part)?;
            let is_own = |pod: &&Arc<Pod>| owner_of(&pod.metadata).as_ref() == Some(part);
            Some(pods(&deployment, own_pods.iter().filter(is_own).map(AsRef::as_ref)))
        };
        let stable = deployed.and_then(|deployed| deployed.deployment.stable_version.as_deref());
        let stable = stable.and_then(|stable| of(&owner(object, stable)));
        let all = self.children.versions(&Owner::from(object)).iter().filter_map(of).collect();
        Some(pods_of_versions(stable, all))
    }

    /// Applies the objects of each version that has pods of its own.
    pub(super) async fn build_versions(
        &self,
        object: &ModelDeployment,
        spec: &Spec,
        needed: &[Version],
    ) -> Result<Vec<Built>, Error> {
        let mut built = Vec::with_capacity(needed.len());
        for Version { version, owner, least_pods } in needed {
            let situation = Situation { least_pods: *least_pods, ..Situation::default() };
            let make = |situation: &Situation| build_version(object, spec, &self.facts, version, situation);
            built.push(self.apply(owner, Basis::of(object, situation), make).await?);
        }
        Ok(built)
    }

    /// Removes the objects of versions that the traffic table names no longer, after the routes have been led
    /// away from them; whether there were none.
    pub(super) async fn remove_versions(&self, owner: &Owner, needed: &[Version]) -> Result<bool, Error> {
        let mut is_done = true;
        let is_needed = |found: &Owner| needed.iter().any(|version| version.owner == *found);
        for gone in self.children.versions(owner).into_iter().filter(|found| !is_needed(found)) {
            self.remove(&gone).await?;
            self.remove(&gone.peers()).await?;
            is_done = false;
        }
        Ok(is_done)
    }
}
