//! What objects depend on beside their spec.

use slipway_kubernetes_resources::model_deployment::{Placement, Share};

/// What is so at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Situation {
    /// Who answers.
    pub placement: Placement,
    /// Where each version has pods of its own: the versions that answer. The Service leads to the first one.
    pub shares: Vec<Share>,
    /// Pods that a version needs for its share, at least, where it has pods of its own.
    pub least_pods: u32,
}
