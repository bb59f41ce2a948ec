//! The OpenAPI document of serving: one handler may have several paths, and the protocols have a shape of
//! errors of their own.

use slipway_openapi::{Described, set_errors};
use utoipa::ToSchema as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use slipway_api::rest::serving::InferError;

use super::{config, control, deployments, infer, labels, memory, models, v1};
use crate::state::ServingState;

const DESCRIBED: Described = Described {
    title: "Slipway serving",
    version: env!("CARGO_PKG_VERSION"),
    description: "The Open Inference Protocol v2 with Triton's extensions, KServe's v1 protocol, and \
        Slipway's own routes under `/api/v1`. A model's name is the name of a deployment. Errors of the \
        protocols are `{\"error\"}`; those of `/api/v1` are problem documents (RFC 9457).",
    port: 8000,
};

/// The routes together with their description.
pub(crate) fn described() -> OpenApiRouter<ServingState> {
    let mut router = DESCRIBED
        .router()
        .merge(models::router())
        .merge(infer::router())
        .merge(config::router())
        .merge(control::router())
        .merge(memory::router())
        .merge(v1::router())
        .merge(labels::router())
        .merge(deployments::router());
    describe_errors(router.get_openapi_mut());
    router
}

fn describe_errors(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert(InferError::name().into_owned(), <InferError as utoipa::PartialSchema>::schema());
    set_errors(document, &InferError::name(), |path| !is_own(path));
}

/// Whether errors of a route are problem documents.
pub(crate) fn is_own(path: &str) -> bool {
    path.starts_with("/api/v1/") || path.starts_with("/v1/deployments/")
}

#[cfg(test)]
mod tests {
    use slipway_openapi::check;

    use super::*;

    /// Rows of KServe's v1 protocol, and labels, are any JSON that fits the model.
    const FREE: [&str; 3] = ["PredictRequest.instances", "PredictResponse.predictions", "Label.label"];

    #[test]
    fn the_document_describes_every_route_and_every_body() {
        assert_eq!(check::defects(described), [""; 0]);
        assert_eq!(check::untyped(&slipway_openapi::document(described()), &FREE), [""; 0]);
    }

    #[test]
    fn the_openapi_document_in_the_repository_is_this_one() {
        assert_eq!(check::committed(&slipway_openapi::document(described()), "serving"), Ok(()));
    }
}
