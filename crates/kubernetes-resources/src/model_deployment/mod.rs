//! `ModelDeployment`: a deployment with serving replicas of its own, by an object of the cluster.
//!
//! The object's name and namespace make the name of the deployment ([`ModelDeployment::deployment`]); its
//! UID is the deployment's origin, so an object is one deployment whatever is cut off, and one that is
//! deleted and created again is another. Rollouts, analyses and rollbacks are those of every deployment: the
//! object says which version is wanted, and its status what became of it.

mod change;
mod definition;
mod shares;
mod spec;
mod status;
mod step;
mod zero;

pub use change::{Change, Move, change};
pub use definition::definition;
pub use shares::{Share, least_pods, shares, versions};
pub use spec::{
    Access, Envoy, Gateway, Ingress, Layout, Metric, ModelRef, Monitor, Records, Replicas, Resources, Route,
    Scaling, Spec, Tls,
};
pub use status::{Observed, Pods, Status, status};
pub use step::{Step, step};
pub use zero::{Activity, Placement, placement, pool};

use slipway_api::rest::rollouts::{Deployment, Rollout};

use crate::{Kind, Object};

/// The kind `ModelDeployment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelDeploymentKind;

impl Kind for ModelDeploymentKind {
    const KIND: &'static str = "ModelDeployment";
    const PLURAL: &'static str = "modeldeployments";
    const FINALIZER: &'static str = "slipway.dev/drain";
    type Status = Status;
}

/// A deployment as an object of the cluster.
pub type ModelDeployment = Object<ModelDeploymentKind>;

impl ModelDeployment {
    /// Name of its deployment. No other object has it: names in Kubernetes have no `_`.
    pub fn deployment(&self) -> String {
        format!("{}_{}", self.namespace(), self.name())
    }

    /// Whether it asks to scale to zero.
    pub fn may_scale_to_zero(&self) -> bool {
        !self.is_deleted() && self.spec["scaling"]["scaleToZeroAfterSeconds"].is_number()
    }

    /// Whether each of its versions has pods of its own.
    pub fn is_separate(&self) -> bool {
        self.spec["placement"] == "separate"
    }

    /// Number of its spec: a spec that is changed has the next one.
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }
}

/// The deployment of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployed {
    /// The deployment.
    pub deployment: Deployment,
    /// Its newest rollout.
    pub rollout: Option<Rollout>,
    /// Generation of the object that was applied last.
    pub generation: i64,
}
