//! Scaling to zero: what is seen of the requests of an object, and the serving pools of namespaces.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use slipway_api::rest::rollouts::Phase;
use slipway_api::traffic::Target;
use slipway_kubernetes_resources::model_deployment::{Activity, Deployed, ModelDeployment, Pods};
use slipway_kubernetes_serving::{Owner, Situation, pool};

use super::applied::{Basis, Built};
use super::follower::{Error, Follower};
use crate::replicas::load::Requested;

impl Follower {
    /// What is seen of an object that may scale to zero, or has; `None` for any other.
    pub(super) fn activity(
        &self,
        object: &ModelDeployment,
        owner: &Owner,
        deployed: Option<&Deployed>,
        pods: Option<&Pods>,
    ) -> Option<Activity> {
        let deployed = deployed?;
        let deployment = &deployed.deployment;
        let pool = deployment.traffic.pool.map(Into::into);
        if pool.is_none() && !object.may_scale_to_zero() {
            return None;
        }
        let spec = object.parsed().ok()?;
        let zero_after = spec.scaling.as_ref().and_then(|scaling| scaling.scale_to_zero_after_s);
        let requested = self.state.replicas.loads.requested(&deployment.name);
        // Where nobody reports, it is not known whether there are requests.
        let unknown =
            Requested { quiet_for: Duration::ZERO, asked_for: Duration::ZERO, pool_quiet_for: Duration::MAX };
        let Requested { quiet_for, asked_for, pool_quiet_for } = requested.unwrap_or(unknown);
        let stable = deployment.traffic.stable.as_ref();
        let target =
            stable.map(|stable| Target { version: stable.version.clone(), digest: stable.digest.clone() });
        let (pool_replicas, pool_ready) =
            target.as_ref().map_or((0, 0), |target| self.state.replicas.pool(&deployment.name, target));
        let is_moving = deployed.rollout.as_ref().is_some_and(|rollout| !Phase::is_final(rollout.phase));
        Some(Activity {
            zero_after: zero_after.map(|seconds| Duration::from_secs(seconds.into())),
            pool,
            is_pooled: self.children.is_pooled(owner),
            quiet_for,
            asked_for,
            pool_quiet_for,
            pool_replicas,
            pool_ready,
            ready_pods: pods.map_or(0, |pods| pods.ready),
            min_pods: i32::try_from(spec.replicas().min).unwrap_or(i32::MAX),
            is_settled: target.is_some() && !is_moving,
        })
    }

    /// Makes the pools of namespaces in which an object may scale to zero, and removes those that are not
    /// needed any more.
    pub(super) async fn follow_pools(&self, objects: &[Arc<ModelDeployment>]) -> Result<(), Error> {
        let scaling = objects.iter().filter(|object| object.may_scale_to_zero());
        let needed: BTreeSet<&str> = scaling.map(|object| object.namespace()).collect();
        for namespace in &needed {
            let owner = Owner::pool_of(namespace);
            let make = |_: &Situation| pool(namespace, &self.facts);
            if let Built::Refused(reason) = self.apply(&owner, Basis::default(), make).await? {
                tracing::warn!(namespace, reason, "the serving pool cannot be made");
            }
        }
        for owner in self.children.pools() {
            if !needed.contains(owner.namespace.as_str()) {
                self.remove(&owner).await?;
            }
        }
        Ok(())
    }
}
