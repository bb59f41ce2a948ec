//! A walk through a model's bytes: every tensor, however deep it lies in the bodies of loops and branches, and every operator.
//!
//! Runtimes follow references to files from anywhere in a graph, so all of it is read.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use prost::Message;

use super::model::{Attribute, Function, Graph, Model, Node, OpsetVersions, Tensor};
use super::wire::{FIXED32, LENGTH, Seekable, Source, Stream, VARINT, Wire};
use super::{Fault, ValueInfo, malformed};

/// Inputs and outputs of all graphs together.
const MAX_VALUES: usize = 10_000;
/// Files that hold weights.
const MAX_EXTERNAL_FILES: usize = 10_000;
/// Graphs within graphs.
const MAX_DEPTH: usize = 32;
/// Memory of what is kept of a graph, in bytes; real graphs take a few kilobytes to some megabytes.
const MAX_KEPT_BYTES: usize = 128 * 1024 * 1024;
/// Numbers of a constant that are kept: shapes and the like. Longer ones are weights.
const MAX_NUMBERS: usize = 64;
/// Entries of an attribute's list that are kept; longer ones are the nodes of trees.
const MAX_LIST: usize = 1024;
/// Names of classes that are kept.
const MAX_CLASSES: usize = 65_536;
/// Largest tensor that few bytes of a file may unpack to.
pub(crate) const MAX_UNPACKED_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// Bytes of the widest element.
pub(crate) const ELEMENT_BYTES: u64 = 8;
/// What strings and lists take in memory, in addition to their contents.
const OVERHEAD_BYTES: usize = 32;

const FLOAT: i32 = 1;
/// Element types whose few numbers are kept: INT32, INT64 and BOOL.
const INTEGERS: [i32; 3] = [6, 7, 9];

/// Reads a model from a stream of `size_bytes`.
///
/// # Errors
/// The bytes are not an ONNX model, or the source fails.
pub fn read(source: impl BufRead, size_bytes: u64) -> Result<Model, Fault> {
    read_model(Stream(source), size_bytes)
}

/// Reads a model from a file, whose weights are jumped over.
///
/// # Errors
/// As [`read`].
pub fn read_file(path: &Path) -> Result<Model, Fault> {
    let file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    read_model(Seekable(BufReader::with_capacity(32 * 1024, file)), size_bytes)
}

fn read_model(source: impl Source, size_bytes: u64) -> Result<Model, Fault> {
    let mut reader =
        Reader { wire: Wire { source, at: 0 }, model: Model::default(), values: 0, kept_bytes: 0 };
    let (mut has_graph, mut ir_version, mut opsets) = (false, 0, 0);
    while reader.wire.at < size_bytes {
        match reader.wire.tag(size_bytes)? {
            (1, VARINT) => ir_version = reader.wire.varint(size_bytes)?,
            (7, LENGTH) => {
                has_graph = true;
                let end = reader.wire.enter(size_bytes)?;
                // Protobuf merges a message that comes twice.
                let mut graph = std::mem::take(&mut reader.model.graph);
                reader.graph_into(&mut graph, end, 0)?;
                reader.model.graph = graph;
            }
            (8, LENGTH) => {
                opsets += 1;
                let end = reader.wire.enter(size_bytes)?;
                let (domain, version) = reader.opset(end)?;
                reader.model.opsets.insert(domain, version);
            }
            (25, LENGTH) => {
                let end = reader.wire.enter(size_bytes)?;
                let function = reader.function(end)?;
                reader.model.functions.push(function);
            }
            (_, kind) => reader.wire.skip(kind, size_bytes)?,
        }
    }
    if !has_graph || ir_version == 0 || opsets == 0 {
        return Err(malformed("it has no graph, no IR version or no operator set, so it is no ONNX model"));
    }
    if reader.model.graph.outputs.is_empty() {
        return Err(malformed("its graph has no outputs"));
    }
    Ok(reader.model)
}

struct Reader<R> {
    wire: Wire<R>,
    model: Model,
    values: usize,
    kept_bytes: usize,
}

impl<R: Source> Reader<R> {
    /// Counts what is about to be kept.
    fn keep(&mut self, bytes: usize) -> Result<(), Fault> {
        self.kept_bytes = self.kept_bytes.saturating_add(bytes);
        if self.kept_bytes > MAX_KEPT_BYTES {
            return Err(malformed(format!(
                "its graph takes more than {MAX_KEPT_BYTES} bytes without its weights"
            )));
        }
        Ok(())
    }

    fn text(&mut self, end: u64) -> Result<String, Fault> {
        let text = self.wire.text(end)?;
        self.keep(text.len() + OVERHEAD_BYTES)?;
        Ok(text)
    }

    /// Reads a `GraphProto`; `depth` is 0 for the model's own.
    fn graph_into(&mut self, graph: &mut Graph, end: u64, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(malformed(format!("its graphs lie more than {MAX_DEPTH} deep in one another")));
        }
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (1, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    let node = self.node(inner, depth)?;
                    graph.nodes.push(node);
                }
                (5, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    let tensor = self.tensor(inner)?;
                    graph.initializers.push(tensor);
                }
                (15, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    let tensor = self.sparse(inner)?;
                    graph.initializers.push(tensor);
                }
                (field @ (11 | 12), LENGTH) => {
                    let bytes = self.wire.bytes(end)?;
                    self.values += 1;
                    if self.values > MAX_VALUES {
                        return Err(malformed(format!(
                            "its graph has more than {MAX_VALUES} inputs and outputs"
                        )));
                    }
                    self.keep(bytes.len() + OVERHEAD_BYTES)?;
                    let value = ValueInfo::decode(&bytes)?;
                    if field == 11 { graph.inputs.push(value) } else { graph.outputs.push(value) }
                }
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        Ok(())
    }

    /// Reads an `OperatorSetIdProto`.
    fn opset(&mut self, end: u64) -> Result<(String, i64), Fault> {
        let (mut domain, mut version) = (String::new(), 0);
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (1, LENGTH) => domain = self.text(end)?,
                (2, VARINT) => version = self.wire.varint(end)?.cast_signed(),
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        self.keep(size_of::<OpsetVersions>())?;
        Ok((standard(domain), version))
    }

    /// Reads a `FunctionProto`.
    fn function(&mut self, end: u64) -> Result<Function, Fault> {
        self.keep(size_of::<Function>())?;
        let mut function = Function::default();
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (1, LENGTH) => function.name = self.text(end)?,
                (4, LENGTH) => function.inputs.push(self.text(end)?),
                (5, LENGTH) => function.outputs.push(self.text(end)?),
                (7, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    function.nodes.push(self.node(inner, 0)?);
                }
                (9, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    let (domain, version) = self.opset(inner)?;
                    function.opsets.insert(domain, version);
                }
                (10, LENGTH) => function.domain = standard(self.text(end)?),
                (11, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    let (name, attribute) = self.attribute(inner, 0)?;
                    function.defaults.insert(name, attribute);
                }
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        Ok(function)
    }

    /// Reads a `NodeProto`.
    fn node(&mut self, end: u64, depth: usize) -> Result<Node, Fault> {
        self.keep(size_of::<Node>())?;
        let mut node = Node::default();
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (1, LENGTH) => node.inputs.push(self.text(end)?),
                (2, LENGTH) => node.outputs.push(self.text(end)?),
                (3, LENGTH) => node.name = self.text(end)?,
                (4, LENGTH) => node.operator = self.text(end)?,
                (5, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    let (name, attribute) = self.attribute(inner, depth)?;
                    node.attributes.insert(name, attribute);
                }
                (7, LENGTH) => node.domain = standard(self.text(end)?),
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        Ok(node)
    }

    /// Reads an `AttributeProto`, which may hold tensors and graphs.
    fn attribute(&mut self, end: u64, depth: usize) -> Result<(String, Attribute), Fault> {
        self.keep(size_of::<Attribute>())?;
        let (mut name, mut attribute) = (String::new(), Attribute::default());
        let mut limit = MAX_LIST;
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (1, LENGTH) => {
                    name = self.text(end)?;
                    if name.starts_with("classlabels") {
                        limit = MAX_CLASSES;
                    }
                }
                (2, FIXED32) => attribute.float = Some(f32::from_le_bytes(self.wire.fixed32(end)?)),
                (3, VARINT) => attribute.int = Some(self.wire.varint(end)?.cast_signed()),
                (4, LENGTH) => attribute.text = Some(self.text(end)?),
                (5 | 10, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    attribute.tensor = Some(self.tensor(inner)?);
                }
                (6 | 11, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    let mut graph = Graph::default();
                    self.keep(size_of::<Graph>())?;
                    self.graph_into(&mut graph, inner, depth + 1)?;
                    attribute.graphs.push(graph);
                }
                (7, kind @ (FIXED32 | LENGTH)) => {
                    let inner = if kind == FIXED32 { self.wire.at + 4 } else { self.wire.enter(end)? };
                    while self.wire.at < inner {
                        let number = f32::from_le_bytes(self.wire.fixed32(inner.min(end))?);
                        self.entry(&mut attribute, limit, |list| list.floats.push(number))?;
                    }
                }
                (8, kind @ (VARINT | LENGTH)) => {
                    let inner = if kind == VARINT { end } else { self.wire.enter(end)? };
                    while self.wire.at < inner {
                        let number = self.wire.varint(inner)?.cast_signed();
                        self.entry(&mut attribute, limit, |list| list.ints.push(number))?;
                        if kind == VARINT {
                            break;
                        }
                    }
                }
                (9, LENGTH) => {
                    if attribute.count < limit {
                        let text = self.text(end)?;
                        self.entry(&mut attribute, limit, |list| list.strings.push(text))?;
                    } else {
                        attribute.count += 1;
                        self.wire.skip(LENGTH, end)?;
                    }
                }
                (21, LENGTH) => attribute.of_caller = Some(self.text(end)?),
                (22 | 23, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    attribute.tensor = Some(self.sparse(inner)?);
                }
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        Ok((name, attribute))
    }

    /// Counts an entry of a list, and keeps it where it is one of the first.
    fn entry(
        &mut self,
        attribute: &mut Attribute,
        limit: usize,
        push: impl FnOnce(&mut Attribute),
    ) -> Result<(), Fault> {
        if attribute.count < limit {
            self.keep(size_of::<u64>())?;
            push(attribute);
        }
        attribute.count += 1;
        Ok(())
    }

    /// Reads a `SparseTensorProto`; its name is that of its values, and none of its numbers are kept.
    fn sparse(&mut self, end: u64) -> Result<Tensor, Fault> {
        let (mut values, mut shape) = (Tensor::default(), Vec::new());
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (field @ (1 | 2), LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    let read = self.tensor(inner)?;
                    if field == 1 {
                        values = read;
                    }
                }
                (3, kind @ (VARINT | LENGTH)) => self.dimensions(kind, end, &mut shape)?,
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        let elements = product(&shape);
        if elements.saturating_mul(ELEMENT_BYTES) > MAX_UNPACKED_BYTES {
            self.model.bomb.get_or_insert(unpacked("a sparse tensor of it unpacks to one", elements));
        }
        Ok(Tensor { shape, ints: None, floats: None, ..values })
    }

    fn dimensions(&mut self, kind: u64, end: u64, shape: &mut Vec<i64>) -> Result<(), Fault> {
        let inner = if kind == VARINT { end } else { self.wire.enter(end)? };
        while self.wire.at < inner {
            self.keep(size_of::<i64>())?;
            shape.push(self.wire.varint(inner)?.cast_signed());
            if kind == VARINT {
                break;
            }
        }
        Ok(())
    }

    /// Reads a `TensorProto`; of its numbers only few integers or floats.
    fn tensor(&mut self, end: u64) -> Result<Tensor, Fault> {
        self.keep(size_of::<Tensor>())?;
        let mut tensor = Tensor::default();
        let mut numbers = Numbers::default();
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (1, kind @ (VARINT | LENGTH)) => {
                    let mut shape = std::mem::take(&mut tensor.shape);
                    self.dimensions(kind, end, &mut shape)?;
                    tensor.shape = shape;
                }
                (2, VARINT) => tensor.element = i32::try_from(self.wire.varint(end)?).unwrap_or(0),
                (4, kind @ (FIXED32 | LENGTH)) => {
                    let inner = if kind == FIXED32 { self.wire.at + 4 } else { self.wire.enter(end)? };
                    if inner - self.wire.at > (MAX_NUMBERS * size_of::<f32>()) as u64 || numbers.is_full() {
                        numbers.floats.count = usize::MAX;
                        self.wire.pass(inner)?;
                    }
                    while self.wire.at < inner {
                        numbers.floats.push(f32::from_le_bytes(self.wire.fixed32(inner.min(end))?));
                    }
                }
                (5 | 7, kind @ (VARINT | LENGTH)) => {
                    let inner = if kind == VARINT { end } else { self.wire.enter(end)? };
                    while self.wire.at < inner {
                        numbers.ints.push(self.wire.varint(inner)?.cast_signed());
                        if kind == VARINT {
                            break;
                        }
                    }
                }
                (8, LENGTH) => tensor.name = self.text(end)?,
                (9, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    if inner - self.wire.at > (MAX_NUMBERS * size_of::<u64>()) as u64 {
                        self.wire.pass(inner)?;
                    } else {
                        numbers.raw = Some(self.wire.take(inner)?);
                    }
                }
                (13, LENGTH) => self.external(end)?,
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        numbers.put_into(&mut tensor);
        self.keep(numbers_bytes(&tensor))?;
        Ok(tensor)
    }

    fn external(&mut self, end: u64) -> Result<(), Fault> {
        let bytes = self.wire.bytes(end)?;
        let entry = StringEntry::decode(bytes.as_slice()).map_err(|error| {
            malformed(format!("a reference to a file of weights does not parse: {error}"))
        })?;
        if entry.key == "location" {
            self.keep(entry.value.len() + OVERHEAD_BYTES)?;
            self.model.external_data.insert(entry.value);
        }
        if self.model.external_data.len() > MAX_EXTERNAL_FILES {
            return Err(malformed(format!("its weights lie in more than {MAX_EXTERNAL_FILES} files")));
        }
        Ok(())
    }
}

/// The numbers of a tensor while it is read.
#[derive(Default)]
struct Numbers {
    ints: Few<i64>,
    floats: Few<f32>,
    raw: Option<Vec<u8>>,
}

/// Numbers of which only so many are kept as make a shape.
struct Few<T> {
    kept: Vec<T>,
    count: usize,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), count: 0 }
    }
}

impl<T> Few<T> {
    fn push(&mut self, number: T) {
        if self.kept.len() < MAX_NUMBERS {
            self.kept.push(number);
        }
        self.count = self.count.saturating_add(1);
    }

    /// All of them, where there are `expected`.
    fn whole(self, expected: usize) -> Option<Vec<T>> {
        (self.count == expected && self.kept.len() == expected).then_some(self.kept)
    }
}

impl Numbers {
    fn is_full(&self) -> bool {
        self.floats.kept.len() >= MAX_NUMBERS
    }

    fn put_into(self, tensor: &mut Tensor) {
        let Ok(expected) = usize::try_from(product(&tensor.shape)) else { return };
        if expected > MAX_NUMBERS {
            return;
        }
        if tensor.element == FLOAT {
            let of_raw = |raw: Vec<u8>| {
                raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>()
            };
            let floats = self.raw.map(of_raw).filter(|floats| floats.len() == expected);
            tensor.floats = floats.or_else(|| self.floats.whole(expected));
        } else if INTEGERS.contains(&tensor.element) {
            let ints = self.raw.and_then(|raw| ints_of(tensor.element, &raw));
            let ints = ints.filter(|ints| ints.len() == expected);
            tensor.ints = ints.or_else(|| self.ints.whole(expected));
        }
    }
}

fn ints_of(element: i32, raw: &[u8]) -> Option<Vec<i64>> {
    match element {
        6 => Some(raw.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect()),
        7 => Some(raw.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
        9 => Some(raw.iter().map(|byte| i64::from(*byte)).collect()),
        _ => None,
    }
}

fn numbers_bytes(tensor: &Tensor) -> usize {
    let count = tensor.ints.as_ref().map_or(0, Vec::len) + tensor.floats.as_ref().map_or(0, Vec::len);
    count * size_of::<i64>()
}

/// Elements of a tensor of this shape; dimensions below 0 count as 1.
pub(crate) fn product(shape: &[i64]) -> u64 {
    shape.iter().fold(1_u64, |product, size| product.saturating_mul(u64::try_from(*size).unwrap_or(1)))
}

pub(crate) fn unpacked(what: &str, elements: u64) -> String {
    format!("{what} of {elements} elements, more than {MAX_UNPACKED_BYTES} bytes hold")
}

/// The empty domain has a name, too.
fn standard(domain: String) -> String {
    if domain == "ai.onnx" { String::new() } else { domain }
}

#[derive(Clone, PartialEq, Message)]
struct StringEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}
