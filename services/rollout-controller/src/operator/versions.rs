//! ModelDeployments whose versions have pods of their own: a set of objects for each version that the traffic
//! table names, and the shares of the traffic for the routes.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use slipway_api::rest::rollouts::TrafficTable;
use slipway_kubernetes_resources::model_deployment::{Deployed, ModelDeployment, Pods, Spec};
use slipway_kubernetes_serving::{Owner, build_version, pods, pods_of_versions, version_name};

use super::children::Refusal;
use super::follow::{Error, Follower, WATCH_LAG, is_separate};

/// The versions that a table names.
fn versions(table: &TrafficTable) -> Vec<String> {
    let candidates = table.candidates.iter().map(|weighted| &weighted.target);
    let shadows = table.shadows.iter().map(|shadow| &shadow.target);
    let targets = table.stable.iter().chain(candidates).chain(shadows).chain(&table.warm);
    let mut versions: Vec<String> = targets.map(|target| target.version.clone()).collect();
    versions.sort();
    versions.dedup();
    versions
}

/// Which share of the traffic each version receives. That of a version without a ready pod goes to the first
/// version with one: a replica may tell that it has loaded a version before Kubernetes leads requests to it.
fn shares(table: &TrafficTable, is_ready: impl Fn(&str) -> bool) -> Vec<(String, u8)> {
    let candidates = table.candidates.iter().map(|weighted| (&weighted.target, weighted.weight_percent));
    let candidates: Vec<_> = candidates.filter(|(target, _)| is_ready(&target.version)).collect();
    let rest = 100 - candidates.iter().map(|(_, percent)| percent).sum::<u8>();
    let stand_ins = candidates.iter().map(|(target, _)| *target).chain(&table.warm);
    let first = table.stable.iter().chain(stand_ins).find(|target| is_ready(&target.version));
    let Some(first) = first.or(table.stable.as_ref()) else { return Vec::new() };
    let mut shares = vec![(first.version.clone(), rest)];
    for (target, percent) in candidates {
        match shares.iter_mut().find(|(version, _)| *version == target.version) {
            Some((_, share)) => *share += percent,
            None => shares.push((target.version.clone(), percent)),
        }
    }
    shares
}

fn part(owner: &Owner, version: &str) -> Owner {
    Owner { namespace: owner.namespace.clone(), name: version_name(&owner.name, version) }
}

impl Follower {
    /// The shares of the versions of an object that have pods of their own, the first of them for the
    /// Service.
    pub(super) fn shares(&self, object: &ModelDeployment, deployed: Option<&Deployed>) -> Vec<(String, u8)> {
        let Some(deployed) = deployed.filter(|_| is_separate(object)) else { return Vec::new() };
        let owner = Owner::from(object);
        let is_ready = |version: &str| {
            let deployment = self.children.deployment(&part(&owner, version));
            let status = deployment.as_ref().and_then(|deployment| deployment.status.as_ref());
            status.and_then(|status| status.ready_replicas).is_some_and(|ready| ready > 0)
        };
        shares(&deployed.deployment.traffic, is_ready)
    }

    /// Their pods.
    pub(super) fn pods_of_versions(
        &self,
        object: &ModelDeployment,
        deployed: Option<&Deployed>,
        own_pods: &[Arc<Pod>],
    ) -> Pods {
        let owner = Owner::from(object);
        let of = |part: &Owner| {
            let deployment = self.children.deployment(part)?;
            let is_own =
                |pod: &&Arc<Pod>| slipway_kubernetes_serving::owner_of(&pod.metadata).as_ref() == Some(part);
            Some(pods(&deployment, own_pods.iter().filter(is_own).map(AsRef::as_ref)))
        };
        let stable = deployed.and_then(|deployed| deployed.deployment.stable_version.as_deref());
        let stable = stable.and_then(|stable| of(&part(&owner, stable)));
        let all = self.children.versions(&owner).iter().filter_map(of).collect();
        pods_of_versions(stable, all)
    }

    /// Applies the objects of each version that has pods of its own; whether they were as they are to be.
    pub(super) async fn build_versions(
        &self,
        object: &ModelDeployment,
        owner: &Owner,
        spec: &Spec,
        deployed: Option<&Deployed>,
    ) -> Result<bool, Error> {
        let Some(deployed) = deployed.filter(|_| spec.is_separate()) else { return Ok(true) };
        let needed = versions(&deployed.deployment.traffic);
        let mut is_done = true;
        for version in &needed {
            is_done &= self.build_one(object, &part(owner, version), spec, version).await?;
        }
        Ok(is_done)
    }

    /// Removes the objects of versions that the traffic table names no longer, after the routes have been led
    /// away from them; whether there were none.
    pub(super) async fn remove_versions(
        &self,
        owner: &Owner,
        spec: &Spec,
        deployed: Option<&Deployed>,
    ) -> Result<bool, Error> {
        let Some(deployed) = deployed.filter(|_| spec.is_separate()) else { return Ok(true) };
        let needed = versions(&deployed.deployment.traffic);
        let parts: Vec<Owner> = needed.iter().map(|version| part(owner, version)).collect();
        let mut is_done = true;
        for gone in self.children.versions(owner).iter().filter(|found| !parts.contains(found)) {
            self.known().versions.remove(gone);
            match self.children.remove(gone).await {
                Err(Refusal::ForNow(error)) => return Err(error.into()),
                Ok(()) | Err(Refusal::Finally(_)) => is_done = false,
            }
        }
        Ok(is_done)
    }

    async fn build_one(
        &self,
        object: &ModelDeployment,
        part: &Owner,
        spec: &Spec,
        version: &str,
    ) -> Result<bool, Error> {
        let known = self.known().versions.get(part).copied();
        if let Some((_, marks, at)) = known.filter(|(generation, ..)| *generation == object.generation()) {
            let is_same = self.children.are_as_applied(part, &marks);
            if is_same || at.elapsed() < WATCH_LAG {
                return Ok(is_same);
            }
        }
        let objects = match build_version(object, spec, &self.facts, version) {
            Ok(objects) => objects,
            Err(invalid) => {
                self.refuse(object, invalid.to_string(), true);
                return Ok(true);
            }
        };
        match self.children.apply(part, &objects).await {
            Ok(marks) => {
                let applied = (object.generation(), marks, Instant::now());
                self.known().versions.insert(part.clone(), applied);
                Ok(false)
            }
            Err(Refusal::Finally(reason)) => {
                self.refuse(object, reason, true);
                Ok(true)
            }
            Err(Refusal::ForNow(error)) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use slipway_api::rest::rollouts::{Target, Weighted};

    use super::*;

    fn target(version: &str) -> Target {
        Target { version: version.to_owned(), digest: String::new() }
    }

    #[test]
    fn what_a_version_without_ready_pods_would_receive_goes_to_one_that_has_some() {
        let empty = TrafficTable::from(slipway_api::traffic::TrafficTable::empty("fraud", "fraud-model"));
        let canary = TrafficTable {
            stable: Some(target("1")),
            candidates: vec![Weighted { target: target("2"), weight_percent: 20 }],
            ..empty.clone()
        };
        let promoted = TrafficTable { stable: Some(target("2")), warm: vec![target("1")], ..empty.clone() };
        let of = |table: &TrafficTable, ready: &[&str]| shares(table, |version| ready.contains(&version));
        let share = |version: &str, percent: u8| (version.to_owned(), percent);
        assert_eq!(of(&canary, &["1", "2"]), [share("1", 80), share("2", 20)]);
        assert_eq!(of(&canary, &["1"]), [share("1", 100)]);
        assert_eq!(of(&canary, &["2"]), [share("2", 100)]);
        assert_eq!(of(&canary, &[]), [share("1", 100)]);
        assert_eq!(of(&promoted, &["1", "2"]), [share("2", 100)]);
        assert_eq!(of(&promoted, &["1"]), [share("1", 100)]);
        assert_eq!(of(&empty, &[]), []);
    }
}
