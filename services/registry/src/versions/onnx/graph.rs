//! A walk through the graph: every tensor, however deep it lies in the bodies of loops and branches, and every operator.
//!
//! Runtimes follow references to files from anywhere in a graph, so nothing short of all of it is looked at.

use std::collections::BTreeSet;

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
/// A sparse tensor is unpacked where it is loaded; beyond this it takes the machine down.
const MAX_UNPACKED_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes of the widest element.
const ELEMENT_BYTES: u64 = 8;

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
    /// Why it may not be loaded.
    bomb: Option<String>,
}

impl Graph {
    pub(super) fn into_header(self) -> Result<Header, Fault> {
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
                    let name = read_tensor(wire, inner, graph).await?;
                    if depth == 0 {
                        graph.weights.insert(name);
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
    let (mut operator, mut set) = (String::new(), String::new());
    while wire.at < end {
        match wire.tag(end).await? {
            (4, LENGTH) => operator = text(wire, end).await?,
            (7, LENGTH) => set = text(wire, end).await?,
            (5, LENGTH) => {
                let inner = wire.enter(end).await?;
                read_attribute(wire, inner, depth, graph).await?;
            }
            (_, kind) => wire.skip(kind, end).await?,
        }
    }
    if !BUILT_IN.contains(&set.as_str()) && graph.foreign.len() < MAX_FOREIGN {
        graph.foreign.insert(format!("{set}::{operator}"));
    }
    Ok(())
}

/// Reads an `AttributeProto`, which may hold tensors and graphs.
async fn read_attribute<R: AsyncBufRead + Unpin + Send>(
    wire: &mut Wire<R>,
    end: u64,
    depth: usize,
    graph: &mut Graph,
) -> Result<(), Fault> {
    while wire.at < end {
        match wire.tag(end).await? {
            (5 | 10, LENGTH) => {
                let inner = wire.enter(end).await?;
                read_tensor(wire, inner, graph).await?;
            }
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
    Ok(())
}

/// Reads a `SparseTensorProto`; its name is that of its values.
async fn read_sparse<R: AsyncBufRead + Unpin + Send>(
    wire: &mut Wire<R>,
    end: u64,
    graph: &mut Graph,
) -> Result<String, Fault> {
    let (mut name, mut elements) = (String::new(), 1_u64);
    while wire.at < end {
        match wire.tag(end).await? {
            (field @ (1 | 2), LENGTH) => {
                let inner = wire.enter(end).await?;
                let read = read_tensor(wire, inner, graph).await?;
                if field == 1 {
                    name = read;
                }
            }
            // Dimensions, one by one or packed.
            (3, VARINT) => elements = elements.saturating_mul(wire.varint(end).await?),
            (3, LENGTH) => {
                let inner = wire.enter(end).await?;
                while wire.at < inner {
                    elements = elements.saturating_mul(wire.varint(inner).await?);
                }
            }
            (_, kind) => wire.skip(kind, end).await?,
        }
    }
    if elements.saturating_mul(ELEMENT_BYTES) > MAX_UNPACKED_BYTES {
        graph.bomb.get_or_insert(format!(
            "a sparse tensor of it has {elements} elements when it is unpacked, more than {MAX_UNPACKED_BYTES} bytes hold"
        ));
    }
    Ok(name)
}

/// Reads a `TensorProto` but for its numbers; answers with its name.
async fn read_tensor<R: AsyncBufRead + Unpin + Send>(
    wire: &mut Wire<R>,
    end: u64,
    graph: &mut Graph,
) -> Result<String, Fault> {
    let mut name = String::new();
    while wire.at < end {
        match wire.tag(end).await? {
            (8, LENGTH) => name = text(wire, end).await?,
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
    Ok(name)
}

#[derive(Clone, PartialEq, Message)]
struct StringEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}
