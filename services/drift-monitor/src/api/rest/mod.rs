//! REST: monitors, their windows, verdicts and actions.

mod bodies;
mod monitors;
mod windows;

use axum::Router;
use slipway_openapi::{Described, DocumentedRouter};

use crate::state::State;

const DESCRIBED: Described = Described {
    title: "Slipway drift monitor, REST v1",
    version: env!("CARGO_PKG_VERSION"),
    description: "Monitors of deployments: windows of prediction records with the scores of every column, \
        verdicts, and the actions that they led to. Errors are problem documents (RFC 9457) with a stable \
        `code`; 503 has `Retry-After`.",
    port: crate::DEFAULT_PORT,
    document: include_str!("../../../../../docs/openapi/drift-monitor.json"),
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
    DESCRIBED.router().merge(monitors::router()).merge(windows::router())
}

#[cfg(test)]
mod tests {
    use slipway_api::rest::launcher::KUBERNETES_OBJECTS;
    use slipway_openapi::check;

    use super::*;

    #[test]
    fn the_document_describes_every_route_and_every_body() {
        assert_eq!(check::defects(described), [""; 0]);
        assert_eq!(check::untyped(&slipway_openapi::document(described()), &KUBERNETES_OBJECTS), [""; 0]);
    }

    #[test]
    fn the_openapi_document_in_the_repository_is_this_one() {
        assert_eq!(check::committed(&slipway_openapi::document(described()), "drift-monitor"), Ok(()));
    }
}
