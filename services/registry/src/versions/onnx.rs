//! The header of an ONNX file: what the graph takes and gives, and which files its weights lie in.
//!
//! The file is read as a stream and weights are skipped, so a model of any size costs a few kilobytes of memory. What does
//! not read to its end as an ONNX model is refused. Field numbers are those of
//! <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>.

use std::collections::BTreeSet;

use prost::Message;
use slipway_domain::registry::TensorSpec;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// A description of one value, or a name, is this long at most.
const MAX_FIELD_BYTES: u64 = 1024 * 1024;
/// Inputs and outputs together.
const MAX_VALUES: usize = 10_000;
/// Files that hold weights.
const MAX_EXTERNAL_FILES: usize = 10_000;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Header {
    /// In the graph's order, without those that weights stand for.
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<TensorSpec>,
    /// Files of weights, relative to the model's folder.
    pub(crate) external_data: BTreeSet<String>,
    /// Why the graph cannot be called with tensors alone.
    pub(crate) unservable: Option<String>,
}

/// Why a file is no ONNX model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    Read(#[from] std::io::Error),
}

fn malformed(why: impl Into<String>) -> Fault {
    Fault::Malformed(why.into())
}

/// Reads a header from a file of `size_bytes`.
pub(crate) async fn read(source: impl AsyncBufRead + Unpin, size_bytes: u64) -> Result<Header, Fault> {
    let mut wire = Wire { source, at: 0 };
    let mut graph = Graph::default();
    let (mut has_graph, mut ir_version, mut opsets) = (false, 0, 0);
    while wire.at < size_bytes {
        match wire.tag(size_bytes).await? {
            (1, VARINT) => ir_version = wire.varint(size_bytes).await?,
            (7, LENGTH) => {
                has_graph = true;
                let end = wire.enter(size_bytes).await?;
                read_graph(&mut wire, end, &mut graph).await?;
            }
            (field, kind) => {
                opsets += usize::from(field == 8);
                wire.skip(kind, size_bytes).await?;
            }
        }
    }
    if !has_graph || ir_version == 0 || opsets == 0 {
        return Err(malformed("it has no graph, no IR version or no operator set, so it is no ONNX model"));
    }
    if graph.outputs.is_empty() {
        return Err(malformed("its graph has no outputs"));
    }
    graph.into_header()
}

#[derive(Default)]
struct Graph {
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    weights: BTreeSet<String>,
    external_data: BTreeSet<String>,
}

impl Graph {
    fn into_header(self) -> Result<Header, Fault> {
        let mut header = Header { external_data: self.external_data, ..Header::default() };
        // Old models list their weights among the inputs.
        let given = self.inputs.into_iter().filter(|value| !self.weights.contains(&value.name));
        for (side, values) in [("input", given.collect::<Vec<_>>()), ("output", self.outputs)] {
            for value in values {
                if value.name.is_empty() {
                    return Err(malformed(format!("an {side} of its graph has no name")));
                }
                match value.tensor(side) {
                    Ok(spec) if side == "input" => header.inputs.push(spec),
                    Ok(spec) => header.outputs.push(spec),
                    Err(reason) => {
                        header.unservable.get_or_insert(reason);
                    }
                }
            }
        }
        Ok(header)
    }
}

async fn read_graph(
    wire: &mut Wire<impl AsyncBufRead + Unpin>,
    end: u64,
    graph: &mut Graph,
) -> Result<(), Fault> {
    while wire.at < end {
        match wire.tag(end).await? {
            (5, LENGTH) => {
                let inner = wire.enter(end).await?;
                read_weight(wire, inner, graph).await?;
            }
            (field @ (11 | 12), LENGTH) => {
                let bytes = wire.bytes(end).await?;
                let value = ValueInfo::decode(bytes.as_slice()).map_err(|error| {
                    malformed(format!("an input or output of its graph does not parse: {error}"))
                })?;
                if graph.inputs.len() + graph.outputs.len() == MAX_VALUES {
                    return Err(malformed(format!(
                        "its graph has more than {MAX_VALUES} inputs and outputs"
                    )));
                }
                if field == 11 { graph.inputs.push(value) } else { graph.outputs.push(value) }
            }
            (_, kind) => wire.skip(kind, end).await?,
        }
    }
    Ok(())
}

async fn read_weight(
    wire: &mut Wire<impl AsyncBufRead + Unpin>,
    end: u64,
    graph: &mut Graph,
) -> Result<(), Fault> {
    while wire.at < end {
        match wire.tag(end).await? {
            (8, LENGTH) => {
                let name = wire.bytes(end).await?;
                graph.weights.insert(String::from_utf8_lossy(&name).into_owned());
            }
            (13, LENGTH) => {
                let bytes = wire.bytes(end).await?;
                let entry = StringEntry::decode(bytes.as_slice()).map_err(|error| {
                    malformed(format!("a reference to a file of weights does not parse: {error}"))
                })?;
                if entry.key == "location" {
                    graph.external_data.insert(entry.value);
                }
                if graph.external_data.len() > MAX_EXTERNAL_FILES {
                    return Err(malformed(format!(
                        "its weights lie in more than {MAX_EXTERNAL_FILES} files"
                    )));
                }
            }
            (_, kind) => wire.skip(kind, end).await?,
        }
    }
    Ok(())
}

/// Protobuf's wire format, from a stream.
struct Wire<R> {
    source: R,
    /// Bytes read so far.
    at: u64,
}

impl<R: AsyncBufRead + Unpin> Wire<R> {
    async fn tag(&mut self, end: u64) -> Result<(u64, u64), Fault> {
        let tag = self.varint(end).await?;
        if tag >> 3 == 0 {
            return Err(malformed("it is not a protobuf message, so it is no ONNX model"));
        }
        Ok((tag >> 3, tag & 7))
    }

    async fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.source.fill_buf().await?.first().ok_or_else(|| malformed("it ends too early"))?;
        self.source.consume(1);
        self.at += 1;
        Ok(byte)
    }

    async fn varint(&mut self, end: u64) -> Result<u64, Fault> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at >= end {
                return Err(malformed("it ends within a number"));
            }
            let byte = self.byte().await?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number in it is too long, so it is no ONNX model"))
    }

    /// Reads a length and says where what follows ends; that has to be within its parent.
    async fn enter(&mut self, end: u64) -> Result<u64, Fault> {
        let length = self.varint(end).await?;
        self.at.checked_add(length).filter(|inner| *inner <= end).ok_or_else(|| {
            malformed("a part of it is longer than the whole: it was cut off, or is no ONNX model")
        })
    }

    async fn bytes(&mut self, end: u64) -> Result<Vec<u8>, Fault> {
        let inner = self.enter(end).await?;
        let length = inner - self.at;
        if length > MAX_FIELD_BYTES {
            return Err(malformed(format!(
                "a description in it has {length} bytes, more than {MAX_FIELD_BYTES}"
            )));
        }
        let mut bytes = Vec::new();
        while self.at < inner {
            bytes.push(self.byte().await?);
        }
        Ok(bytes)
    }

    async fn skip(&mut self, kind: u64, end: u64) -> Result<(), Fault> {
        let inner = match kind {
            VARINT => return self.varint(end).await.map(drop),
            LENGTH => self.enter(end).await?,
            FIXED64 | FIXED32 => {
                let inner = self.at + if kind == FIXED64 { 8 } else { 4 };
                if inner > end {
                    return Err(malformed("it ends within a number"));
                }
                inner
            }
            _ => return Err(malformed("it is not a protobuf message, so it is no ONNX model")),
        };
        while self.at < inner {
            let available = self.source.fill_buf().await?.len();
            if available == 0 {
                return Err(malformed("it ends too early"));
            }
            let step = usize::try_from(inner - self.at).map_or(available, |left| left.min(available));
            self.source.consume(step);
            self.at += step as u64;
        }
        Ok(())
    }
}

#[derive(Clone, PartialEq, Message)]
struct StringEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
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
    fn tensor(self, side: &str) -> Result<TensorSpec, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &[u8] = include_bytes!("../../../../crates/slipway/tests/fixtures/right-1.onnx");

    async fn header(bytes: &[u8]) -> Result<Header, Fault> {
        read(bytes, bytes.len() as u64).await
    }

    #[tokio::test]
    async fn inputs_and_outputs_are_read_without_the_weights() {
        let header = header(MODEL).await.unwrap();
        let shown: Vec<_> =
            header.inputs.iter().map(|spec| (&*spec.name, &*spec.datatype, &*spec.shape)).collect();
        assert_eq!(shown, [("input", "FP32", &[-1, 2][..])]);
        let shown: Vec<_> = header.outputs.iter().map(|spec| (&*spec.name, &*spec.datatype)).collect();
        assert_eq!(shown, [("label", "INT64"), ("score", "FP32")]);
        assert_eq!(header.unservable, None);
    }

    #[tokio::test]
    async fn garbage_and_every_cut_off_model_are_refused() {
        for bytes in [&b""[..], b"this is no model at all", &[0xff; 64], &[0; 64]] {
            assert!(header(bytes).await.is_err(), "{bytes:?}");
        }
        let mut accepted = Vec::new();
        for end in 1..MODEL.len() {
            if header(&MODEL[..end]).await.is_ok() {
                accepted.push(end);
            }
        }
        // Only where every part that the header needs is whole can a cut pass, and then trailing parts are missing.
        assert!(accepted.len() <= 1, "cut at {accepted:?} of {}", MODEL.len());
    }
}
