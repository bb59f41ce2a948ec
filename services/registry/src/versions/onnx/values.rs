//! Inputs and outputs of a graph, and their names in the Open Inference Protocol.

use prost::Message;
use slipway_domain::registry::TensorSpec;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfo {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeInfo {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
    #[prost(bytes = "vec", optional, tag = "4")]
    sequence: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    map: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
}

impl ValueInfo {
    /// The value as a tensor, or why it is none that a client could send or read.
    pub(super) fn tensor(self, side: &str) -> Result<TensorSpec, String> {
        let name = self.name;
        let kind = self.kind.unwrap_or_default();
        let Some(tensor) = kind.tensor else {
            let what = if kind.sequence.is_some() || kind.map.is_some() {
                "a sequence or a map"
            } else {
                "no tensor"
            };
            return Err(format!(
                "{side} '{name}' is {what}, which the inference protocol cannot carry; export the model with tensors \
                 only (skl2onnx: options={{'zipmap': False}})"
            ));
        };
        let datatype = datatype(tensor.element).ok_or_else(|| {
            format!(
                "{side} '{name}' has element type {}, which the inference protocol has no name for",
                tensor.element
            )
        })?;
        let dimensions = tensor.shape.unwrap_or_default().dimensions;
        let shape = dimensions
            .iter()
            .map(|dimension| dimension.value.filter(|size| *size > 0).unwrap_or(-1))
            .collect();
        Ok(TensorSpec { name, datatype: datatype.to_owned(), shape })
    }
}

/// Open Inference Protocol name of an ONNX element type.
const fn datatype(element: i32) -> Option<&'static str> {
    Some(match element {
        1 => "FP32",
        2 => "UINT8",
        3 => "INT8",
        4 => "UINT16",
        5 => "INT16",
        6 => "INT32",
        7 => "INT64",
        8 => "BYTES",
        9 => "BOOL",
        10 => "FP16",
        11 => "FP64",
        12 => "UINT32",
        13 => "UINT64",
        16 => "BF16",
        _ => return None,
    })
}
