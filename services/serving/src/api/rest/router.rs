//! The routes.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use http::{Method, Uri};

use super::described::described;
use crate::api::access;
use crate::api::paths::is_own;
use crate::failure::{Failure, Kind};
use crate::state::ServingState;

/// All routes.
pub(crate) fn router(state: ServingState) -> Router {
    let guard = state.access.clone();
    let router = routes().method_not_allowed_fallback(method_not_allowed).with_state(state);
    if guard.is_on() { router.layer(from_fn_with_state(guard, access::rest::guard)) } else { router }
}

/// The routes without the guard.
pub(crate) fn routes() -> Router<ServingState> {
    slipway_openapi::mount(described())
        .route("/v2/{*rest}", any(no_such_route))
        .route("/v1/{*rest}", any(no_such_route))
}

async fn no_such_route(uri: Uri) -> Failure {
    Failure::not_found(format!("{} is not served here", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    if is_own(uri.path()) {
        slipway_openapi::method_not_allowed(method, uri).await.into_response()
    } else {
        Failure::new(Kind::MethodNotAllowed, "Method Not Allowed").into_response()
    }
}
