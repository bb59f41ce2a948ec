//! Predictions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// An error of the inference protocols.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InferError {
    /// What happened, and what was expected.
    pub error: String,
}

/// A request parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParameterValue {
    /// A truth value.
    Flag(bool),
    /// A number.
    Number(serde_json::Number),
    /// A text.
    Text(String),
}

/// An element of a tensor, or a row of elements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TensorValue {
    /// A truth value.
    Flag(bool),
    /// A number.
    Number(serde_json::Number),
    /// A text.
    Text(String),
    /// A value that JSON cannot hold: NaN and infinities are written as `null`.
    Missing,
    /// Elements of the next dimension.
    Row(Vec<TensorValue>),
}

impl PartialSchema for ParameterValue {
    fn schema() -> RefOr<Schema> {
        any_of("A request parameter", &[Type::Boolean, Type::Number, Type::String]).into()
    }
}

impl ToSchema for ParameterValue {}

impl PartialSchema for TensorValue {
    fn schema() -> RefOr<Schema> {
        let about = "An element of a tensor, or a row of elements; `null` stands for NaN and infinities";
        let row = ArrayBuilder::new().items(Ref::from_schema_name(Self::name()));
        let scalars = any_of(about, &[Type::Boolean, Type::Number, Type::String, Type::Null]);
        scalars.item(row).into()
    }
}

impl ToSchema for TensorValue {}

/// A value of one of these types.
pub(super) fn any_of(description: &str, types: &[Type]) -> AnyOfBuilder {
    let start = AnyOfBuilder::new().description(Some(description));
    types.iter().fold(start, |schema, kind| schema.item(ObjectBuilder::new().schema_type(kind.clone())))
}

/// A prediction request. Tensors may follow the JSON as bytes; see the header
/// `Inference-Header-Content-Length`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferRequest {
    /// ID of the request, returned in the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Parameters, such as `timeout` in microseconds, `priority`, and sticky keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Input tensors.
    pub inputs: Vec<RequestTensor>,
    /// Outputs to return [default: all].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<InferRequestedOutput>,
}

/// An input tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RequestTensor {
    /// Name.
    pub name: String,
    /// Shape.
    #[schema(example = json!([1, 2]))]
    pub shape: Vec<i64>,
    /// Datatype of the protocol.
    #[schema(example = "FP32")]
    pub datatype: String,
    /// Parameters, such as `binary_data_size`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Elements in row-major order, flat or nested; absent where they follow as bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Vec<TensorValue>>,
}

/// An output that is requested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferRequestedOutput {
    /// Name.
    pub name: String,
    /// Parameters, such as `binary_data` and `classification`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterValue>,
}

/// A prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferResponse {
    /// Deployment.
    pub model_name: String,
    /// Version of the registry that answered.
    pub model_version: String,
    /// ID of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Output tensors.
    pub outputs: Vec<InferTensor>,
}

/// An output tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferTensor {
    /// Name.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
    /// Datatype of the protocol.
    pub datatype: String,
    /// Parameters, such as `binary_data_size`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Elements in row-major order; absent where they follow as bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Vec<TensorValue>>,
}

/// A request of KServe's v1 protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PredictRequest {
    /// Rows. A row is the value of the only input, or an object with a value for each input.
    pub instances: Vec<serde_json::Value>,
}

/// A response of KServe's v1 protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PredictResponse {
    /// A prediction for each row: the value of the only output, or an object with a value for each output.
    pub predictions: Vec<serde_json::Value>,
}
