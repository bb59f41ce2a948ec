//! ZipMap nodes, which skl2onnx and onnxmltools put behind a classifier by default: they turn the tensor of
//! probabilities into a sequence of maps, `class → probability`, which the inference protocol cannot carry.
//!
//! In its place the model returns the tensor; the node's list of classes names its columns. The file of the
//! version stays as it is: [`without`] rewrites the bytes that the runtime gets.

use std::collections::BTreeMap;

use slipway_domain::datatype::Datatype;

use super::{Fault, Graph, Model, Node, TensorSpec, ValueKind, malformed};

/// ONNX operator domain of ZipMap.
const DOMAIN: &str = "ai.onnx.ml";
/// Version of `ai.onnx` that is imported for Identity, where the model imports none.
const OPSET_VERSION: u64 = 13;
/// ONNX's number of FP32.
const FLOAT: u64 = 1;

/// A map that the graph returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapOutput {
    /// Output of the graph.
    pub name: String,
    /// The tensor that the map is made of.
    pub probabilities: String,
    /// Keys of the map, in the order of the tensor's columns.
    pub classes: Vec<String>,
}

impl MapOutput {
    pub(crate) fn spec(&self) -> TensorSpec {
        let columns = i64::try_from(self.classes.len()).unwrap_or(-1);
        TensorSpec {
            name: self.name.clone(),
            datatype: Datatype::Fp32,
            shape: vec![-1, columns],
            classes: self.classes.clone(),
        }
    }
}

/// The maps that a graph returns directly from a ZipMap node, by output.
pub fn outputs(graph: &Graph) -> BTreeMap<&str, MapOutput> {
    let maps = graph.outputs.iter().filter(|value| value.kind == ValueKind::SequenceOfMaps);
    maps.filter_map(|value| {
        let makes_it = |node: &&Node| node.outputs.first() == Some(&value.name);
        let node = graph.nodes.iter().filter(|node| is_zip_map(node)).find(makes_it)?;
        let (probabilities, classes) = (node.inputs.first()?.clone(), classes(node)?);
        Some((value.name.as_str(), MapOutput { name: value.name.clone(), probabilities, classes }))
    })
    .collect()
}

/// Whether a node is a ZipMap of `ai.onnx.ml`.
pub(crate) fn is_zip_map(node: &Node) -> bool {
    node.domain == DOMAIN && node.operator == "ZipMap"
}

/// Names of the classes; `None` where there are none, or more than are kept.
fn classes(node: &Node) -> Option<Vec<String>> {
    let lists = ["classlabels_strings", "classlabels_int64s"].map(|name| node.attributes.get(name));
    let found = lists.into_iter().flatten().find(|list| list.count > 0 && list.is_whole())?;
    let numbers = found.ints.iter().map(i64::to_string);
    Some(found.strings.iter().cloned().chain(numbers).collect())
}

/// The model's bytes with each ZipMap whose map is an output replaced by Identity; `None` where there is
/// nothing to replace.
///
/// # Errors
/// The bytes are not those of `model`.
pub fn without(bytes: &[u8], model: &Model) -> Result<Option<Vec<u8>>, Fault> {
    let maps = outputs(&model.graph);
    if maps.is_empty() {
        return Ok(None);
    }
    let mut written = Vec::with_capacity(bytes.len() + 256);
    for part in Parts(bytes) {
        let part = part?;
        match (part.field, part.body) {
            (7, Some(graph)) => put(&mut written, 7, &graph_without(graph, &maps)?),
            _ => written.extend_from_slice(part.whole),
        }
    }
    if !model.opsets.contains_key("") {
        let mut opset = Vec::new();
        put_number(&mut opset, 2, OPSET_VERSION);
        put(&mut written, 8, &opset);
    }
    Ok(Some(written))
}

fn graph_without(bytes: &[u8], maps: &BTreeMap<&str, MapOutput>) -> Result<Vec<u8>, Fault> {
    let mut written = Vec::with_capacity(bytes.len());
    for part in Parts(bytes) {
        let part = part?;
        let replaced = match (part.field, part.body) {
            (1, Some(node)) => identity_for(node, maps)?,
            (12, Some(value)) => {
                let name = first_text(value, 1)?.unwrap_or_default();
                maps.get(name.as_str()).map(value_info)
            }
            _ => None,
        };
        match replaced {
            Some(body) => put(&mut written, part.field, &body),
            None => written.extend_from_slice(part.whole),
        }
    }
    Ok(written)
}

/// An Identity in place of a node that makes one of the maps.
fn identity_for(node: &[u8], maps: &BTreeMap<&str, MapOutput>) -> Result<Option<Vec<u8>>, Fault> {
    let (operator, output) = (first_text(node, 4)?, first_text(node, 2)?.unwrap_or_default());
    let Some(map) = maps.get(output.as_str()).filter(|_| operator.as_deref() == Some("ZipMap")) else {
        return Ok(None);
    };
    let mut identity = Vec::new();
    put(&mut identity, 1, map.probabilities.as_bytes());
    put(&mut identity, 2, map.name.as_bytes());
    if let Some(name) = first_text(node, 3)? {
        put(&mut identity, 3, name.as_bytes());
    }
    put(&mut identity, 4, b"Identity");
    Ok(Some(identity))
}

/// `ValueInfoProto` of a FP32 tensor with a column for each class.
fn value_info(map: &MapOutput) -> Vec<u8> {
    let (mut rows, mut columns) = (Vec::new(), Vec::new());
    put(&mut rows, 2, b"rows");
    put_number(&mut columns, 1, map.classes.len() as u64);
    let mut shape = Vec::new();
    put(&mut shape, 1, &rows);
    put(&mut shape, 1, &columns);
    let mut tensor = Vec::new();
    put_number(&mut tensor, 1, FLOAT);
    put(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    put(&mut kind, 1, &tensor);
    let mut value = Vec::new();
    put(&mut value, 1, map.name.as_bytes());
    put(&mut value, 2, &kind);
    value
}

/// One field of a message.
struct Part<'bytes> {
    field: u64,
    /// Tag included.
    whole: &'bytes [u8],
    /// Of a field that has a length.
    body: Option<&'bytes [u8]>,
}

/// The fields of a message, in their order.
struct Parts<'bytes>(&'bytes [u8]);

impl<'bytes> Iterator for Parts<'bytes> {
    type Item = Result<Part<'bytes>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = split(self.0);
        self.0 = part.as_ref().map_or(&[], |(_, rest)| rest);
        Some(part.map(|(part, _)| part).ok_or_else(|| malformed("a field in it does not parse")))
    }
}

fn split(bytes: &[u8]) -> Option<(Part<'_>, &[u8])> {
    let (tag, mut rest) = number(bytes)?;
    let mut body = None;
    match tag & 7 {
        0 => rest = number(rest)?.1,
        1 => rest = rest.get(8..)?,
        2 => {
            let (length, after) = number(rest)?;
            let length = usize::try_from(length).ok()?;
            body = Some(after.get(..length)?);
            rest = after.get(length..)?;
        }
        5 => rest = rest.get(4..)?,
        _ => return None,
    }
    let whole = bytes.get(..bytes.len() - rest.len())?;
    Some((Part { field: tag >> 3, whole, body }, rest))
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

fn first_text(message: &[u8], field: u64) -> Result<Option<String>, Fault> {
    for part in Parts(message) {
        let part = part?;
        if let (true, Some(body)) = (part.field == field, part.body) {
            return Ok(Some(String::from_utf8_lossy(body).into_owned()));
        }
    }
    Ok(None)
}

fn put(bytes: &mut Vec<u8>, field: u64, body: &[u8]) {
    put_varint(bytes, field << 3 | 2);
    put_varint(bytes, body.len() as u64);
    bytes.extend_from_slice(body);
}

fn put_number(bytes: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(bytes, field << 3);
    put_varint(bytes, number);
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
