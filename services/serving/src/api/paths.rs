//! Paths: those of predictions, by which trace settings find the model of a request, and Slipway's own.

use slipway_http_server::health;

/// The gRPC call that is answered by thousands. Its model is in the message.
pub(crate) const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// The path that predictions of a model have over REST, by which the settings of a model are found.
pub(crate) fn path_of(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

/// The model in a path; `None` where there is none.
pub(crate) fn model_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v2/models/").or_else(|| path.strip_prefix("/v1/models/"))?;
    rest.split(['/', ':']).next()
}

/// Whether errors of a route are problem documents: of `/api/v1`, and of what every service of Slipway has.
pub(crate) fn is_own(path: &str) -> bool {
    path.starts_with("/api/v1/")
        || path.starts_with("/v1/deployments/")
        || matches!(path, "/openapi.json" | "/docs")
        || health::PATHS.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_a_path_is_found() {
        for (path, expected) in [
            ("/v2/models/m/infer", Some("m")),
            ("/v2/models/m/versions/3/infer", Some("m")),
            ("/v1/models/m:predict", Some("m")),
            ("/v2/health/live", None),
        ] {
            assert_eq!(model_of(path), expected, "{path}");
        }
        assert_eq!(model_of(&path_of("m")), Some("m"));
    }

    #[test]
    fn routes_of_the_protocols_are_not_own() {
        for path in ["/api/v1/deployments", "/v1/deployments/d/labels", "/openapi.json", "/docs", "/healthz"]
        {
            assert!(is_own(path), "{path}");
        }
        for path in ["/v2/models/m/infer", "/v1/models/m:predict", "/v2", "/v2/health/live"] {
            assert!(!is_own(path), "{path}");
        }
    }
}
