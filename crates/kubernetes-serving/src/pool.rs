//! The serving pool of a namespace, which answers for its ModelDeployments while they have no pods. It is
//! made of the same objects as they are.

use slipway_domain::Invalid;
use slipway_kubernetes_resources::model_deployment::{Replicas, Resources, Spec};

use crate::build::{Objects, build_part};
use crate::facts::Facts;
use crate::names::Part;
use crate::situation::Situation;

/// Share of the memory of a pod that loaded versions may take, in percent; the rest is for requests.
const MODELS_PERCENT: u64 = 75;

/// The objects of the pool of a namespace.
///
/// # Errors
/// None: the fields that are checked are not set.
pub fn pool(namespace: &str, facts: &Facts) -> Result<Objects, Invalid> {
    let limit_bytes = facts.pool_memory_bytes / 100 * MODELS_PERCENT;
    let spec = Spec {
        replicas: Some(Replicas { min: facts.pool_replicas, max: None }),
        resources: Some(Resources { memory_bytes: Some(facts.pool_memory_bytes), ..Resources::default() }),
        env: [
            ("SLIPWAY_SERVING_MEMORY_LIMIT_BYTES".to_owned(), limit_bytes.to_string()),
            // Requests come by the names of all Services of the namespace.
            ("SLIPWAY_ALLOWED_HOSTS".to_owned(), "*".to_owned()),
            // One version that does not load is not to keep the others from being answered.
            ("SLIPWAY_SERVING_STRICT_READINESS".to_owned(), "false".to_owned()),
        ]
        .into(),
        ..Spec::default()
    };
    build_part(&Part::pool(namespace), &spec, facts, &Situation::default())
}
