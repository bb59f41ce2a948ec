//! Custom resources of Slipway on Kubernetes: their schemas, what they mean as REST bodies, and what a
//! controller does with them. Everything here is a function of its arguments; nothing talks to a cluster.
//!
//! Schemas come from the types of the REST API, so that a field of a job is a field of the resource, with
//! the same description. Names follow the conventions of Kubernetes: see [`naming`].

mod condition;
mod definition;
pub mod inference_service;
pub mod model_deployment;
mod naming;
mod object;
mod shape;
pub mod training_job;

pub use condition::Condition;
pub use object::{Kind, NotRead, Object};

/// Group of the resources.
pub const GROUP: &str = "slipway.dev";
/// Version of the resources.
pub const VERSION: &str = "v1alpha1";
/// Group and version.
pub const API_VERSION: &str = "slipway.dev/v1alpha1";
