//! Paths of predictions: by them trace settings find the model of a request.

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
}
