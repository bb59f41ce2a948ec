//! The objects of Kubernetes that a ModelDeployment needs, and what their status says about it. Everything
//! here is a function of its arguments; nothing talks to a cluster.
//!
//! A ModelDeployment has pods of its own, which serve all of its versions together: a canary needs no second
//! set of pods, and which version answers is decided in each pod by the traffic table.

mod build;
mod container;
mod delivery;
mod edge;
mod envoy;
mod facts;
mod names;
mod observe;
mod pod;
mod pool;
mod ports;
mod scaling;
mod situation;
mod template;
mod volumes;

pub use build::{Objects, build, build_peers, build_version};
pub use delivery::{Delivery, DeliverySource, S3Secret};
pub use edge::{GrpcRoute, HttpRoute, ServiceMonitor};
pub use facts::Facts;
pub use names::{
    MANAGED_BY, OWNER_LABEL, Owner, POOL, POOLED_LABEL, base_of, owner_of, pod_selector, selector,
    version_name,
};
pub use observe::{pods, pods_of_versions, unscheduled, waits};
pub use pool::pool;
pub use scaling::{PodMetric, Scale};
pub use situation::Situation;
