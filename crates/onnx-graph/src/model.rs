//! What is kept of a model.

use std::collections::BTreeMap;

use super::ValueInfo;

/// Versions of the operator sets that a model imports, by domain; `ai.onnx` is the empty domain.
pub type OpsetVersions = BTreeMap<String, i64>;

/// A model without its weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    /// Operator sets.
    pub opsets: OpsetVersions,
    /// The main graph.
    pub graph: Graph,
    /// Operators that the model defines by others.
    pub functions: Vec<Function>,
    /// Version of the file format.
    pub ir_version: u64,
    /// Files that hold weights, wherever in the model they are named: path within the model's folder, and
    /// bytes that the file has to have at least.
    pub external_data: BTreeMap<String, u64>,
    /// What makes the model unsafe to load.
    pub(crate) hazard: Option<String>,
    /// A sparse tensor that unpacks to more than memory holds.
    pub(crate) bomb: Option<String>,
}

/// A graph: the main one, or the body of a branch or loop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// In the order in which they run.
    pub nodes: Vec<Node>,
    /// Weights and other constants, without their numbers where these are many.
    pub initializers: Vec<Tensor>,
    /// As the file lists them, initializers included.
    pub inputs: Vec<ValueInfo>,
    /// As the file lists them.
    pub outputs: Vec<ValueInfo>,
}

/// A call of an operator.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Its name; often empty.
    pub name: String,
    /// Name of the operator.
    pub operator: String,
    /// Domain of the operator; empty for `ai.onnx`.
    pub domain: String,
    /// Which of several functions of one name it calls; mostly empty.
    pub overload: String,
    /// Names of values; an empty name is an optional input that is left out.
    pub inputs: Vec<String>,
    /// Names of values; an empty name is an optional output that is left out.
    pub outputs: Vec<String>,
    /// By name.
    pub attributes: BTreeMap<String, Attribute>,
}

/// A setting of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attribute {
    /// A float.
    pub float: Option<f32>,
    /// An integer.
    pub int: Option<i64>,
    /// A string.
    pub text: Option<String>,
    /// A constant; of a list of them, the last one.
    pub tensor: Option<Tensor>,
    /// The first of a list of integers.
    pub ints: Vec<i64>,
    /// The first of a list of floats.
    pub floats: Vec<f32>,
    /// The first of a list of strings.
    pub strings: Vec<String>,
    /// Numbers, or strings, in the list, of which not all may be kept.
    pub count: usize,
    /// Bodies of branches and loops.
    pub graphs: Vec<Graph>,
    /// Within a function: the function's own attribute that this one takes its value from.
    pub of_caller: Option<String>,
}

/// A constant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tensor {
    /// Its name, where it is an initializer.
    pub name: String,
    /// ONNX's number of the element type.
    pub element: i32,
    /// Its shape.
    pub shape: Vec<i64>,
    /// All of its numbers, where they are few and of an integer type or BOOL.
    pub ints: Option<Vec<i64>>,
    /// All of its numbers, where they are few and FP32.
    pub floats: Option<Vec<f32>>,
}

/// An operator that the model defines by others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its domain.
    pub domain: String,
    /// Tells functions of one name apart; mostly empty.
    pub overload: String,
    /// Names of its inputs in the nodes.
    pub inputs: Vec<String>,
    /// Names of its outputs in the nodes.
    pub outputs: Vec<String>,
    /// In the order in which they run.
    pub nodes: Vec<Node>,
    /// Attributes with defaults.
    pub defaults: BTreeMap<String, Attribute>,
    /// Operator sets of its nodes.
    pub opsets: OpsetVersions,
}

impl Attribute {
    /// Whether all of its list is kept.
    pub fn is_whole(&self) -> bool {
        self.count == self.ints.len().max(self.floats.len()).max(self.strings.len())
    }
}

impl Node {
    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attributes.get(name)?.int
    }

    /// A string attribute.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.text.as_deref()
    }

    /// A list of integers, where it is there and all of it is kept.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attributes.get(name).filter(|attribute| attribute.is_whole()).map(|found| found.ints.as_slice())
    }

    /// Entries of a list, 0 where it is absent.
    pub fn count(&self, name: &str) -> usize {
        self.attributes.get(name).map_or(0, |attribute| attribute.count)
    }

    /// What people see of it: its name, or else that of its first output.
    pub fn label(&self) -> &str {
        if self.name.is_empty() { self.outputs.first().map_or("", String::as_str) } else { &self.name }
    }
}

impl Graph {
    /// Calls `visit` with this graph and all within it.
    pub(crate) fn walk<'graph>(&'graph self, visit: &mut dyn FnMut(&'graph Self)) {
        visit(self);
        walk_nodes(&self.nodes, visit);
    }
}

/// Calls `visit` with every graph within these nodes.
pub(crate) fn walk_nodes<'graph>(nodes: &'graph [Node], visit: &mut dyn FnMut(&'graph Graph)) {
    for node in nodes {
        for graph in node.attributes.values().flat_map(|attribute| &attribute.graphs) {
            graph.walk(visit);
        }
    }
}
