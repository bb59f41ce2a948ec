//! The OpenAPI document of serving: one handler may have several paths, and the protocols have a shape of
//! errors of their own.

use slipway_openapi::{Described, DocumentedRouter};

use super::{config, control, deployments, infer, labels, memory, models, v1};
use crate::state::ServingState;

const DESCRIBED: Described = Described {
    title: "Slipway serving",
    version: env!("CARGO_PKG_VERSION"),
    description: "The Open Inference Protocol v2 with Triton's extensions, KServe's v1 protocol, and \
        Slipway's own routes under `/api/v1`. A model's name is the name of a deployment. Errors of the \
        protocols are `{\"error\"}`; those of all other routes are problem documents (RFC 9457). `/metrics` \
        is also on a port of its own (8002), and only there while access control is on.",
    port: 8000,
    document: include_str!("../../../../../docs/openapi/serving.json"),
};

/// The routes together with their description.
pub(crate) fn described() -> DocumentedRouter<ServingState> {
    DESCRIBED
        .router()
        .merge(models::router())
        .merge(infer::router())
        .merge(config::router())
        .merge(control::router())
        .merge(memory::router())
        .merge(v1::router())
        .merge(labels::router())
        .merge(deployments::router())
}

#[cfg(test)]
mod tests {
    use slipway_api::rest::serving::InferError;
    use slipway_openapi::{check, set_errors};
    use utoipa::ToSchema as _;
    use utoipa::openapi::OpenApi;

    use super::*;
    use crate::api::paths::is_own;

    /// Rows of KServe's v1 protocol, and labels, are any JSON that fits the model.
    const FREE: [&str; 3] = ["PredictRequest.instances", "PredictResponse.predictions", "Label.label"];

    fn documented() -> DocumentedRouter<ServingState> {
        described().adjusted(describe_errors)
    }

    fn describe_errors(document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let schema = <InferError as utoipa::PartialSchema>::schema();
        components.schemas.insert(InferError::name().into_owned(), schema);
        set_errors(document, &InferError::name(), |path| !is_own(path));
    }

    #[test]
    fn the_document_describes_every_route_and_every_body() {
        assert_eq!(check::defects(documented), [""; 0]);
        assert_eq!(check::untyped(&slipway_openapi::document(documented()), &FREE), [""; 0]);
    }

    #[test]
    fn the_openapi_document_in_the_repository_is_this_one() {
        assert_eq!(check::committed(&slipway_openapi::document(documented()), "serving"), Ok(()));
    }
}
