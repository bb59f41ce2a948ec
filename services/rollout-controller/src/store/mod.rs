//! All SQL of the rollout controller.

pub(crate) mod deployments;
pub(crate) mod rollouts;
