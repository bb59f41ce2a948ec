//! Access control as a service sets it up: one call when it starts, and one layer over its routes.

use axum::Router;
use axum::middleware::from_fn_with_state;
use slipway_event_bus::EventBus;
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::{Drain, Tasks};

use crate::audit::{CallSender, calls};
use crate::policy::{Policy, Rule};
use crate::{CheckConfig, Gate, Resolve, Switch, Verifier, follow, guard};

/// Access control of a service.
#[derive(Debug)]
pub struct AccessControl {
    gate: Gate,
    verifier: Option<Verifier>,
    sender: CallSender,
}

impl AccessControl {
    /// Access control of `service`, e.g. `launcher`, by the table of its routes.
    pub fn new(
        service: &'static str,
        config: &CheckConfig,
        rules: &'static [Rule],
        metrics: &Metrics,
    ) -> Self {
        let (calls, sender) = calls(service, metrics);
        let verifier = (config.auth == Switch::On).then(|| Verifier::new(config));
        if let Some(verifier) = &verifier {
            verifier.register(metrics);
        }
        Self { gate: Gate::new(Policy::new(rules), verifier.clone(), calls), verifier, sender }
    }

    /// With roles on models and experiments for what belongs to one.
    #[must_use]
    pub fn resolving(self, resolve: impl Resolve + 'static) -> Self {
        Self { gate: self.gate.resolving(resolve), ..self }
    }

    /// Puts the guard in front of these routes, and starts what it needs until the last request is answered.
    pub fn protect(
        self,
        routes: Router,
        bus: &EventBus,
        tasks: &mut Tasks,
        readiness: &Readiness,
        drain: &Drain,
    ) -> Router {
        if let Some(verifier) = self.verifier {
            let over = drain.over();
            tasks.spawn("access", follow(bus.clone(), verifier, readiness.clone(), over.clone()));
            tasks.spawn("access-audit", self.sender.run(bus.clone(), over.clone()));
        }
        routes.layer(from_fn_with_state(self.gate, guard))
    }
}
