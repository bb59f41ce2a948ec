//! All SQL of the rollout controller.

pub(crate) mod deployments;
pub(crate) mod drills;
pub(crate) mod identity;
pub(crate) mod notices;
pub(crate) mod rollouts;
