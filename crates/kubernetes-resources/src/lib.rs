//! Custom resources of Slipway on Kubernetes: their schemas, what they mean as REST bodies, and what a
//! controller does with them. Everything here is a function of its arguments; nothing talks to a cluster.
//!
//! Schemas come from the types of the REST API, so that a field of a job is a field of the resource, with
//! the same description. Names follow the conventions of Kubernetes: see [`naming`].

mod naming;
mod shape;
pub mod training_job;

/// Group of the resources.
pub const GROUP: &str = "slipway.dev";
