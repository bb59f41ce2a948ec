//! The head of the OpenAPI document, and the document and its page under the path of the API, in addition to
//! those at the root, which every service has.

use std::sync::LazyLock;

use axum::response::Response;
use slipway_api::rest::registry::JsonObject;
use slipway_openapi::{Described, DocumentedRouter, Published, routes};

use crate::state::Registry;

pub(super) const DESCRIBED: Described = Described {
    title: "Slipway registry, REST v1",
    version: env!("CARGO_PKG_VERSION"),
    description: "Experiments, runs, models and everything that belongs to them. MLflow's own API is on the \
        same port under /api/2.0/mlflow. Errors are problem documents (RFC 9457) with a stable `code`; 503 \
        has `Retry-After`.",
    port: crate::DEFAULT_PORT,
    document: include_str!("../../../../../docs/openapi/registry.json"),
};

static PUBLISHED: LazyLock<Published> = LazyLock::new(|| Published::new(&DESCRIBED));

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(document)).routes(routes!(page))
}

/// Returns this document, under the path of the API.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "description",
    responses((status = 200, description = "An OpenAPI 3.1 document", body = JsonObject)))]
async fn document() -> Response {
    PUBLISHED.document()
}

/// Shows this document as a page, under the path of the API.
#[utoipa::path(get, path = "/api/v1/docs", tag = "description",
    responses((status = 200, description = "A page without scripts", body = String,
        content_type = "text/html")))]
async fn page() -> Response {
    PUBLISHED.page()
}

#[cfg(test)]
mod tests {
    use slipway_openapi::check;

    use super::super::described;

    /// Described elsewhere: facts of events by type, Sigstore bundles, logged signatures, this document.
    const FREE: [&str; 1] = ["JsonObject"];

    #[test]
    fn the_document_describes_every_route_and_every_body() {
        assert_eq!(check::defects(described), [""; 0]);
        assert_eq!(check::untyped(&slipway_openapi::document(described()), &FREE), [""; 0]);
    }

    #[test]
    fn the_openapi_document_in_the_repository_is_this_one() {
        assert_eq!(check::committed(&slipway_openapi::document(described()), "registry"), Ok(()));
    }
}
