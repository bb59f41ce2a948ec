//! The `MLmodel` file: which file the ONNX model is, and the signature.

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;

/// What the registry reads of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct MlModel {
    /// File or folder of the ONNX flavour.
    pub(crate) onnx_data: Option<String>,
    /// Names of all flavours.
    pub(crate) flavors: Vec<String>,
    /// The signature as JSON.
    pub(crate) signature: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    flavors: serde_json::Map<String, Value>,
    #[serde(default)]
    signature: Option<Value>,
}

/// Reads the file's text.
pub(crate) fn parse(text: &str) -> Result<MlModel, Error> {
    let document: Document = serde_saphyr::from_str(text).map_err(|error| {
        Error::invalid("source", format!("the file MLmodel of the model's source is not valid YAML: {error}"))
    })?;
    let onnx_data = document
        .flavors
        .get("onnx")
        .map(|onnx| onnx.get("data").and_then(Value::as_str).unwrap_or("model.onnx").to_owned());
    Ok(MlModel {
        onnx_data,
        flavors: document.flavors.keys().cloned().collect(),
        signature: document
            .signature
            .filter(|signature| !signature.is_null())
            .map(|signature| signature.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "artifact_path: mlflow-artifacts:/1/models/m-1/artifacts\nflavors:\n  onnx:\n    \
        code: null\n    \
        data: model.onnx\n    onnx_version: 1.19.0\n    providers:\n    - CPUExecutionProvider\n  \
        python_function:\n    \
        env:\n      conda: conda.yaml\nmodel_size_bytes: 318\nsignature:\n  inputs: '[{\"type\": \"tensor\", \
        \"tensor-spec\": {\"dtype\": \"float32\", \"shape\": [-1, 4]}}]'\n  outputs: null\n  params: null\n\
        utc_time_created: '2026-01-01 00:00:00.000000'\n";

    #[test]
    fn the_flavour_and_the_signature_are_found() {
        let model = parse(TEXT).unwrap();
        assert_eq!(model.onnx_data.as_deref(), Some("model.onnx"));
        assert_eq!(model.flavors, ["onnx", "python_function"]);
        let signature = slipway_domain::registry::Signature::parse(&model.signature.unwrap()).unwrap();
        assert_eq!(signature.inputs[0].shape.as_deref(), Some(&[-1, 4][..]));
    }

    #[test]
    fn what_is_no_yaml_is_refused_by_name() {
        assert!(parse("flavors: [").unwrap_err().to_string().contains("MLmodel"));
        assert_eq!(parse("flavors:\n  sklearn:\n    pickled_model: model.pkl\n").unwrap().onnx_data, None);
    }
}
