//! What the handlers of both protocols share.

use std::sync::Arc;

use slipway_event_bus::EventBus;
use slipway_service_kit::health::Readiness;

use crate::api::access::Access;
use crate::api::settings::Settings;
use crate::metrics::ServingMetrics;
use crate::models::routing::Routing;
use crate::predict::Predictor;

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ServingState {
    /// Current routes.
    pub routing: Arc<Routing>,
    /// Answers predictions.
    pub predictor: Predictor,
    /// Takes labels; without a NATS address there is none.
    pub bus: Option<EventBus>,
    /// What is logged and traced.
    pub settings: Arc<Settings>,
    /// Who may call what.
    pub access: Access,
    /// What the replica waits for.
    pub readiness: Readiness,
    /// Counts labels.
    pub counted: ServingMetrics,
    /// Largest body of a prediction, packed or unpacked.
    pub max_body_bytes: usize,
}
