//! A walk through a model's bytes: every tensor, however deep it lies in the bodies of loops and branches,
//! and every operator.
//!
//! Runtimes follow references to files from anywhere in a graph, so all of it is read.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::external::shown;
use super::model::{Attribute, Function, Graph, Model, Node, OpsetVersions};
use super::wire::{FIXED32, LENGTH, Seekable, Source, Stream, VARINT, Wire};
use super::{Fault, ValueInfo, calls, malformed};

/// Inputs and outputs of all graphs together.
const MAX_VALUES: usize = 10_000;
/// Graphs within graphs.
const MAX_DEPTH: usize = 32;
/// Memory of what is kept of a graph, in bytes; real graphs take a few kilobytes to some megabytes.
const MAX_KEPT_BYTES: usize = 128 * 1024 * 1024;
/// Entries of an attribute's list that are kept; longer ones are the nodes of trees.
const MAX_LIST: usize = 1024;
/// Names of classes that are kept.
const MAX_CLASSES: usize = 65_536;
/// What strings and lists take in memory, in addition to their contents.
pub(crate) const OVERHEAD_BYTES: usize = 32;

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
            (20, LENGTH) => {
                let end = reader.wire.enter(size_bytes)?;
                reader.training(end)?;
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
    reader.model.ir_version = ir_version;
    if let Some(reason) = calls::check(&reader.model) {
        reader.hazard(reason);
    }
    Ok(reader.model)
}

pub(crate) struct Reader<R> {
    pub(crate) wire: Wire<R>,
    pub(crate) model: Model,
    values: usize,
    kept_bytes: usize,
}

impl<R: Source> Reader<R> {
    /// Notes what makes the model unsafe to load; the first reason stays.
    pub(crate) fn hazard(&mut self, reason: String) {
        self.model.hazard.get_or_insert(reason);
    }

    /// Counts what is about to be kept.
    pub(crate) fn keep(&mut self, bytes: usize) -> Result<(), Fault> {
        self.kept_bytes = self.kept_bytes.saturating_add(bytes);
        if self.kept_bytes > MAX_KEPT_BYTES {
            return Err(malformed(format!(
                "its graph takes more than {MAX_KEPT_BYTES} bytes without its weights"
            )));
        }
        Ok(())
    }

    pub(crate) fn text(&mut self, end: u64) -> Result<String, Fault> {
        let text = self.wire.text(end)?;
        self.keep(text.len() + OVERHEAD_BYTES)?;
        Ok(text)
    }

    /// Reads a `GraphProto`; `depth` is 0 for the model's own.
    fn graph_into(&mut self, graph: &mut Graph, end: u64, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(malformed(format!("its graphs lie more than {MAX_DEPTH} deep in one another")));
        }
        let mut names: HashSet<String> =
            graph.initializers.iter().map(|tensor| tensor.name.clone()).collect();
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (1, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    let node = self.node(inner, depth)?;
                    graph.nodes.push(node);
                }
                (field @ (5 | 15), LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    let tensor = if field == 5 { self.tensor(inner)? } else { self.sparse(inner)? };
                    self.keep(tensor.name.len() + OVERHEAD_BYTES)?;
                    if !names.insert(tensor.name.clone()) {
                        self.hazard(format!("it has two initializers of the name '{}'", shown(&tensor.name)));
                    }
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

    /// Reads a `TrainingInfoProto`, of which nothing is kept. Runtimes for inference ignore it, and others of
    /// its tensors may not.
    fn training(&mut self, end: u64) -> Result<(), Fault> {
        while self.wire.at < end {
            match self.wire.tag(end)? {
                (1 | 2, LENGTH) => {
                    let inner = self.wire.enter(end)?;
                    self.graph_into(&mut Graph::default(), inner, 1)?;
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
                (13, LENGTH) => function.overload = self.text(end)?,
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
                (8, LENGTH) => node.overload = self.text(end)?,
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        Ok(node)
    }

    /// Reads an `AttributeProto`, which may hold tensors and graphs.
    fn attribute(&mut self, end: u64, depth: usize) -> Result<(String, Attribute), Fault> {
        self.keep(size_of::<Attribute>())?;
        let (mut name, mut attribute) = (String::new(), Attribute::default());
        let (mut limit, mut seen) = (MAX_LIST, [false; 3]);
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
                (field @ (5 | 10), LENGTH) => {
                    once(field == 5, &mut seen[0])?;
                    let inner = self.wire.enter(end)?;
                    attribute.tensor = Some(self.tensor(inner)?);
                }
                (field @ (6 | 11), LENGTH) => {
                    once(field == 6, &mut seen[1])?;
                    let inner = self.wire.enter(end)?;
                    let mut graph = Graph::default();
                    self.keep(size_of::<Graph>())?;
                    self.graph_into(&mut graph, inner, depth + 1)?;
                    attribute.graphs.push(graph);
                }
                (7, kind @ (FIXED32 | LENGTH)) => self.float_entries(&mut attribute, limit, kind, end)?,
                (8, kind @ (VARINT | LENGTH)) => self.int_entries(&mut attribute, limit, kind, end)?,
                (9, LENGTH) => self.text_entry(&mut attribute, limit, end)?,
                (21, LENGTH) => attribute.of_caller = Some(self.text(end)?),
                (field @ (22 | 23), LENGTH) => {
                    once(field == 22, &mut seen[2])?;
                    let inner = self.wire.enter(end)?;
                    attribute.tensor = Some(self.sparse(inner)?);
                }
                (_, kind) => self.wire.skip(kind, end)?,
            }
        }
        Ok((name, attribute))
    }

    /// Reads a list of floats, or one entry of it.
    fn float_entries(
        &mut self,
        attribute: &mut Attribute,
        limit: usize,
        kind: u64,
        end: u64,
    ) -> Result<(), Fault> {
        let inner = if kind == FIXED32 { self.wire.at + 4 } else { self.wire.enter(end)? };
        while self.wire.at < inner {
            let number = f32::from_le_bytes(self.wire.fixed32(inner.min(end))?);
            self.entry(attribute, limit, |list| list.floats.push(number))?;
        }
        Ok(())
    }

    /// Reads a list of integers, or one entry of it.
    fn int_entries(
        &mut self,
        attribute: &mut Attribute,
        limit: usize,
        kind: u64,
        end: u64,
    ) -> Result<(), Fault> {
        let inner = if kind == VARINT { end } else { self.wire.enter(end)? };
        while self.wire.at < inner {
            let number = self.wire.varint(inner)?.cast_signed();
            self.entry(attribute, limit, |list| list.ints.push(number))?;
            if kind == VARINT {
                break;
            }
        }
        Ok(())
    }

    /// Reads one text of a list; texts over the limit are counted only.
    fn text_entry(&mut self, attribute: &mut Attribute, limit: usize, end: u64) -> Result<(), Fault> {
        if attribute.count >= limit {
            attribute.count += 1;
            return self.wire.skip(LENGTH, end);
        }
        let text = self.text(end)?;
        self.entry(attribute, limit, |list| list.strings.push(text))
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
}

/// The empty domain has a name, too.
fn standard(domain: String) -> String {
    if domain == "ai.onnx" { String::new() } else { domain }
}

/// Refuses a message that comes twice where there can be one: protobuf would merge the two, and each alone
/// says less than both.
pub(crate) fn once(single: bool, seen: &mut bool) -> Result<(), Fault> {
    if single && std::mem::replace(seen, true) {
        return Err(malformed("a part of it that there can be once comes twice"));
    }
    Ok(())
}
