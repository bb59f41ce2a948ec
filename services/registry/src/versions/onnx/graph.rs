//! A walk through the graph: every tensor, however deep it lies in the bodies of loops and branches, and every operator.
//!
//! Runtimes follow references to files from anywhere in a graph, so nothing short of all of it is looked at.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use prost::Message;
use tokio::io::AsyncBufRead;

use super::values::ValueInfo;
use super::wire::{LENGTH, VARINT, Wire};
use super::{Fault, Header, malformed};

/// Inputs and outputs together.
const MAX_VALUES: usize = 10_000;
/// Files that hold weights.
const MAX_EXTERNAL_FILES: usize = 10_000;
/// Graphs within graphs.
const MAX_DEPTH: usize = 32;
/// Operators of other sets that are remembered.
const MAX_FOREIGN: usize = 1_000;
/// Few bytes of a file may stand for many: a sparse tensor is unpacked where it is loaded, a shape is filled. Beyond this that takes the
/// machine down.
const MAX_UNPACKED_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// Shapes are lists of this many numbers at most; longer ones are weights.
const MAX_SHAPE_NUMBERS: usize = 32;
/// Shapes that are remembered, and operators that fill one.
const MAX_SHAPES: usize = 100_000;
/// Bytes of the widest element.
const ELEMENT_BYTES: u64 = 8;

/// ONNX's number for tensors of whole numbers.
const INT64: u64 = 7;

/// Sets of operators that ONNX Runtime has built in.
const BUILT_IN: [&str; 7] = [
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft",
    "com.microsoft.nchwc",
];

/// What the walk found.
#[derive(Default)]
pub(super) struct Graph {
    inputs: Vec<ValueInfo>,
    pub(super) outputs: Vec<ValueInfo>,
    weights: BTreeSet<String>,
    external_data: BTreeSet<String>,
    /// Operators of sets that are not built in, as `set::operator`.
    foreign: BTreeSet<String>,
    /// Functions that the model brings along, which stand for operators.
    functions: BTreeSet<String>,
    /// Elements of the tensors that constants are the shape of, by the constant's name.
    shapes: BTreeMap<String, u64>,
    /// Operators that fill a shape, with the name of that.
    fills: Vec<(String, String)>,
    /// Why it may not be loaded.
    bomb: Option<String>,
}

/// What is read of a tensor.
#[derive(Default)]
struct Tensor {
    name: String,
    /// The product of its numbers, where it could be a shape.
    elements: Option<u64>,
}

impl Graph {
    pub(super) fn into_header(mut self) -> Result<Header, Fault> {
        for (operator, shape) in std::mem::take(&mut self.fills) {
            let elements = self.shapes.get(&shape).copied().unwrap_or_default();
            self.unpacked(&format!("its operator {operator} makes a tensor"), elements);
        }
        let mut header =
            Header { external_data: self.external_data, unservable: self.bomb, ..Header::default() };
        let missing: Vec<&str> = self.foreign.difference(&self.functions).map(String::as_str).collect();
        if let Some(first) = missing.first() {
            let more =
                if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
            header.unservable.get_or_insert(format!(
                "it needs the operator '{first}'{more}, which would have to be loaded as code of its own"
            ));
        }
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

    /// Takes note of a tensor that would be made of so many elements.
    fn unpacked(&mut self, what: &str, elements: u64) {
        if elements.saturating_mul(ELEMENT_BYTES) > MAX_UNPACKED_BYTES {
            self.bomb.get_or_insert(format!(
                "{what} of {elements} elements, more than {MAX_UNPACKED_BYTES} bytes hold"
            ));
        }
    }

    /// A constant that may be a shape.
    fn shape(&mut self, name: &str, elements: Option<u64>) {
        if let Some(elements) = elements.filter(|_| self.shapes.len() < MAX_SHAPES) {
            self.shapes.insert(name.to_owned(), elements);
        }
    }

    fn value(&mut self, field: u64, bytes: &[u8]) -> Result<(), Fault> {
        let value = ValueInfo::decode(bytes)
            .map_err(|error| malformed(format!("an input or output of its graph does not parse: {error}")))?;
        if self.inputs.len() + self.outputs.len() == MAX_VALUES {
            return Err(malformed(format!("its graph has more than {MAX_VALUES} inputs and outputs")));
        }
        if field == 11 {
            self.inputs.push(value);
        } else {
            self.outputs.push(value);
        }
        Ok(())
    }
}

/// Reads a `GraphProto`; `depth` is 0 for the model's own. Boxed, since the body of a loop is one, too.
pub(super) fn read_graph<'walk, R: AsyncBufRead + Unpin + Send>(
    wire: &'walk mut Wire<R>,
    end: u64,
    depth: usize,
    graph: &'walk mut Graph,
) -> BoxFuture<'walk, Result<(), Fault>> {
    Box::pin(async move {
        if depth > MAX_DEPTH {
            return Err(malformed(format!("its graphs lie more than {MAX_DEPTH} deep in one another")));
        }
        while wire.at < end {
            match wire.tag(end).await? {
                (1, LENGTH) => {
                    let inner = wire.enter(end).await?;
                    read_node(wire, inner, depth, graph).await?;
                }
                (5, LENGTH) => {
                    let inner = wire.enter(end).await?;
                    let tensor = read_tensor(wire, inner, graph).await?;
                    graph.shape(&tensor.name, tensor.elements);
                    if depth == 0 {
                        graph.weights.insert(tensor.name);
                    }
                }
                (15, LENGTH) => {
                    let inner = wire.enter(end).await?;
                    let name = read_sparse(wire, inner, graph).await?;
                    if depth == 0 {
                        graph.weights.insert(name);
                    }
                }
                (field @ (11 | 12), LENGTH) if depth == 0 => {
                    let bytes = wire.bytes(end).await?;
                    graph.value(field, &bytes)?;
                }
                (_, kind) => wire.skip(kind, end).await?,
            }
        }
        Ok(())
    })
}

/// Reads a `FunctionProto`: an operator that the model defines by others.
pub(super) async fn read_function<R: AsyncBufRead + Unpin + Send>(
    wire: &mut Wire<R>,
    end: u64,
    graph: &mut Graph,
) -> Result<(), Fault> {
    let (mut name, mut set) = (String::new(), String::new());
    while wire.at < end {
        match wire.tag(end).await? {
            (1, LENGTH) => name = text(wire, end).await?,
            (10, LENGTH) => set = text(wire, end).await?,
            (7, LENGTH) => {
                let inner = wire.enter(end).await?;
                read_node(wire, inner, 0, graph).await?;
            }
            (11, LENGTH) => {
                let inner = wire.enter(end).await?;
                read_attribute(wire, inner, 0, graph).await?;
            }
            (_, kind) => wire.skip(kind, end).await?,
        }
    }
    if graph.functions.len() < MAX_FOREIGN {
        graph.functions.insert(format!("{set}::{name}"));
    }
    Ok(())
}

async fn text<R: AsyncBufRead + Unpin + Send>(wire: &mut Wire<R>, end: u64) -> Result<String, Fault> {
    Ok(String::from_utf8_lossy(&wire.bytes(end).await?).into_owned())
}

/// Reads a `NodeProto`.
async fn read_node<R: AsyncBufRead + Unpin + Send>(
    wire: &mut Wire<R>,
    end: u64,
    depth: usize,
    graph: &mut Graph,
) -> Result<(), Fault> {
    let (mut operator, mut set, mut output) = (String::new(), String::new(), String::new());
    let (mut inputs, mut constant) = (Vec::new(), None);
    while wire.at < end {
        match wire.tag(end).await? {
            // Of many inputs only the first two can be a shape.
            (1, LENGTH) if inputs.len() < 2 => inputs.push(text(wire, end).await?),
            (2, LENGTH) => output = text(wire, end).await?,
            (4, LENGTH) => operator = text(wire, end).await?,
            (7, LENGTH) => set = text(wire, end).await?,
            (5, LENGTH) => {
                let inner = wire.enter(end).await?;
                constant = read_attribute(wire, inner, depth, graph).await?.or(constant);
            }
            (_, kind) => wire.skip(kind, end).await?,
        }
    }
    let shape = match operator.as_str() {
        "Constant" => {
            graph.shape(&output, constant);
            None
        }
        "ConstantOfShape" => inputs.first(),
        "Expand" => inputs.get(1),
        _ => None,
    };
    if let Some(shape) = shape.filter(|_| graph.fills.len() < MAX_SHAPES) {
        graph.fills.push((operator.clone(), shape.clone()));
    }
    if !BUILT_IN.contains(&set.as_str()) && graph.foreign.len() < MAX_FOREIGN {
        graph.foreign.insert(format!("{set}::{operator}"));
    }
    Ok(())
}

/// Reads an `AttributeProto`, which may hold tensors and graphs; answers with the elements of what its tensor is the shape of.
async fn read_attribute<R: AsyncBufRead + Unpin + Send>(
    wire: &mut Wire<R>,
    end: u64,
    depth: usize,
    graph: &mut Graph,
) -> Result<Option<u64>, Fault> {
    let mut shape = Numbers::default();
    let mut constant = None;
    while wire.at < end {
        match wire.tag(end).await? {
            (5 | 10, LENGTH) => {
                let inner = wire.enter(end).await?;
                constant = read_tensor(wire, inner, graph).await?.elements;
            }
            (8, kind @ (VARINT | LENGTH)) => shape.read(wire, kind, end).await?,
            (6 | 11, LENGTH) => {
                let inner = wire.enter(end).await?;
                read_graph(wire, inner, depth + 1, graph).await?;
            }
            (22 | 23, LENGTH) => {
                let inner = wire.enter(end).await?;
                read_sparse(wire, inner, graph).await?;
            }
            (_, kind) => wire.skip(kind, end).await?,
        }
    }
    Ok(constant.or_else(|| shape.product()))
}

/// Whole numbers that could be a shape.
#[derive(Default)]
struct Numbers {
    product: u64,
    count: usize,
}

impl Numbers {
    fn add(&mut self, number: u64) {
        // Negative ones say "as it is" where they are allowed at all.
        let number = if i64::try_from(number).is_ok() { number } else { 1 };
        self.product = if self.count == 0 { number } else { self.product.saturating_mul(number) };
        self.count += 1;
    }

    /// Reads one, or many that are packed.
    async fn read<R: AsyncBufRead + Unpin + Send>(
        &mut self,
        wire: &mut Wire<R>,
        kind: u64,
        end: u64,
    ) -> Result<(), Fault> {
        if kind == VARINT {
            self.add(wire.varint(end).await?);
            return Ok(());
        }
        let inner = wire.enter(end).await?;
        while wire.at < inner {
            self.add(wire.varint(inner).await?);
        }
        Ok(())
    }

    /// `None` for none, and for so many that they are weights.
    fn product(&self) -> Option<u64> {
        (1..=MAX_SHAPE_NUMBERS).contains(&self.count).then_some(self.product)
    }
}

/// Reads a `SparseTensorProto`; its name is that of its values.
async fn read_sparse<R: AsyncBufRead + Unpin + Send>(
    wire: &mut Wire<R>,
    end: u64,
    graph: &mut Graph,
) -> Result<String, Fault> {
    let (mut name, mut dimensions) = (String::new(), Numbers::default());
    while wire.at < end {
        match wire.tag(end).await? {
            (field @ (1 | 2), LENGTH) => {
                let inner = wire.enter(end).await?;
                let read = read_tensor(wire, inner, graph).await?;
                if field == 1 {
                    name = read.name;
                }
            }
            (3, kind @ (VARINT | LENGTH)) => dimensions.read(wire, kind, end).await?,
            (_, kind) => wire.skip(kind, end).await?,
        }
    }
    graph.unpacked("a sparse tensor of it unpacks to one", dimensions.product);
    Ok(name)
}

/// Reads a `TensorProto`; of its numbers only a few whole ones, which may be a shape.
async fn read_tensor<R: AsyncBufRead + Unpin + Send>(
    wire: &mut Wire<R>,
    end: u64,
    graph: &mut Graph,
) -> Result<Tensor, Fault> {
    let (mut name, mut kind_of_number) = (String::new(), 0);
    let (mut numbers, mut raw) = (Numbers::default(), Numbers::default());
    while wire.at < end {
        match wire.tag(end).await? {
            (2, VARINT) => kind_of_number = wire.varint(end).await?,
            (7, kind @ (VARINT | LENGTH)) => numbers.read(wire, kind, end).await?,
            (8, LENGTH) => name = text(wire, end).await?,
            (9, LENGTH) => read_raw(wire, end, &mut raw).await?,
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
    let elements = numbers.product().or_else(|| raw.product()).filter(|_| kind_of_number == INT64);
    Ok(Tensor { name, elements })
}

/// Reads the bytes of a tensor's numbers, as far as they could be a shape.
async fn read_raw<R: AsyncBufRead + Unpin + Send>(
    wire: &mut Wire<R>,
    end: u64,
    numbers: &mut Numbers,
) -> Result<(), Fault> {
    let inner = wire.enter(end).await?;
    let length = inner - wire.at;
    if length > (MAX_SHAPE_NUMBERS * size_of::<u64>()) as u64 {
        return wire.pass(inner).await;
    }
    for number in wire.take(inner).await?.as_chunks::<8>().0 {
        numbers.add(u64::from_le_bytes(*number));
    }
    Ok(())
}

#[derive(Clone, PartialEq, Message)]
struct StringEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}
