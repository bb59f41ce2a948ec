//! Inputs and outputs of a graph.

use prost::Message;

use super::{Fault, element, malformed};

/// Type of a graph's input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueKind {
    /// A tensor.
    Tensor {
        /// ONNX's number of the element type.
        element: i32,
        /// `None` for a dimension that varies; no shape at all where the model does not say.
        shape: Option<Vec<Option<i64>>>,
    },
    /// `seq(map(int64 or string, float))`, as ZipMap makes it.
    SequenceOfMaps,
    /// Another type, in ONNX's notation where it has one.
    Other(String),
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueInfo {
    /// Name in the graph.
    pub name: String,
    /// Its type.
    pub kind: ValueKind,
}

impl ValueInfo {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let read = Described::decode(bytes)
            .map_err(|error| malformed(format!("an input or output of its graph does not parse: {error}")))?;
        Ok(Self { name: read.name, kind: read.kind.unwrap_or_default().kind() })
    }
}

#[derive(Clone, PartialEq, Message)]
struct Described {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeInfo {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
    #[prost(message, optional, boxed, tag = "4")]
    sequence: Option<Box<Inner>>,
    #[prost(message, optional, boxed, tag = "5")]
    map: Option<Box<Map>>,
    #[prost(bytes = "vec", optional, tag = "8")]
    sparse: Option<Vec<u8>>,
    #[prost(message, optional, boxed, tag = "9")]
    optional: Option<Box<Inner>>,
}

#[derive(Clone, PartialEq, Message)]
struct Inner {
    #[prost(message, optional, boxed, tag = "1")]
    element: Option<Box<TypeInfo>>,
}

#[derive(Clone, PartialEq, Message)]
struct Map {
    #[prost(int32, tag = "1")]
    key: i32,
    #[prost(message, optional, boxed, tag = "2")]
    value: Option<Box<TypeInfo>>,
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

impl TypeInfo {
    fn kind(self) -> ValueKind {
        let notation = self.notation();
        if let Some(tensor) = self.tensor {
            let sizes = |shape: Shape| {
                let size = |dimension: &Dimension| dimension.value.filter(|size| *size > 0);
                shape.dimensions.iter().map(size).collect()
            };
            return ValueKind::Tensor { element: tensor.element, shape: tensor.shape.map(sizes) };
        }
        match notation.as_str() {
            "seq(map(int64,tensor(float)))" | "seq(map(string,tensor(float)))" => ValueKind::SequenceOfMaps,
            _ => ValueKind::Other(notation),
        }
    }

    /// As the operator documentation of ONNX writes types.
    fn notation(&self) -> String {
        let inner = |inner: &Inner| inner.element.as_deref().map(Self::notation).unwrap_or_default();
        if let Some(tensor) = &self.tensor {
            format!("tensor({})", element_name(tensor.element))
        } else if let Some(sequence) = &self.sequence {
            format!("seq({})", inner(sequence))
        } else if let Some(optional) = &self.optional {
            format!("optional({})", inner(optional))
        } else if let Some(map) = &self.map {
            let value = map.value.as_deref().map(Self::notation).unwrap_or_default();
            format!("map({},{value})", element_name(map.key))
        } else if self.sparse.is_some() {
            "sparse_tensor".to_owned()
        } else {
            String::new()
        }
    }
}

fn element_name(number: i32) -> String {
    element::of(number).map_or_else(|| number.to_string(), |element| element.name.to_owned())
}
