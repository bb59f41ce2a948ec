//! REST: deployments and rollouts.

pub(crate) mod bodies;
mod deployments;
mod drills;
mod rollouts;

use axum::Router;
use slipway_openapi::{Described, DocumentedRouter};

use crate::state::State;

const DESCRIBED: Described = Described {
    title: "Slipway rollout controller, REST v1",
    version: env!("CARGO_PKG_VERSION"),
    description: "Deployments, rollouts, and the decisions about them. Responses to changes of the traffic \
        have `acknowledgement`: the replicas that route by the new traffic table. Errors are problem \
        documents (RFC 9457) with a stable `code`; 503 has `Retry-After`.",
    port: crate::DEFAULT_PORT,
    document: include_str!("../../../../../docs/openapi/rollout-controller.json"),
};

/// All routes.
pub(crate) fn router(state: State) -> Router {
    slipway_openapi::reject_other_methods(routes()).with_state(state)
}

pub(super) fn routes() -> Router<State> {
    slipway_openapi::mount(described())
}

/// The routes together with their description.
fn described() -> DocumentedRouter<State> {
    DESCRIBED.router().merge(deployments::router()).merge(drills::router()).merge(rollouts::router())
}

#[cfg(test)]
mod tests {
    use slipway_openapi::check;

    use super::*;

    #[test]
    fn the_document_describes_every_route_and_every_body() {
        assert_eq!(check::defects(described), [""; 0]);
        assert_eq!(check::untyped(&slipway_openapi::document(described()), &[]), [""; 0]);
    }

    #[test]
    fn the_openapi_document_in_the_repository_is_this_one() {
        assert_eq!(check::committed(&slipway_openapi::document(described()), "rollout-controller"), Ok(()));
    }
}
