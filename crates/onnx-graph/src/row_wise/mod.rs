//! Whether a model answers row by row: whether, for any values and any number of rows, row *i* of each output
//! depends on row *i* of the inputs alone, and in the same way for every *i*. Only then may rows of different
//! requests share a run.
//!
//! The graph is followed from its inputs, whose first dimension is the batch. Of each tensor it is known
//! whether it is constant, has rows along one axis, or is a list of sizes that the number of rows may be part
//! of ([`value::Tensor`]). An operator has a rule that derives the outputs, or refuses. Whatever no rule
//! allows is refused: operators without a rule, bodies of branches and loops, shapes that cannot be followed.
//! "Constant" includes what depends on the further dimensions of the inputs, e.g. the length of sequences:
//! requests are joined only where these agree.
//!
//! Results of floating-point operations may still differ in their last digits, because sums of more rows may
//! be made in another order.

mod call;
mod contrib;
mod elementwise;
mod index;
mod ml;
mod normalize;
mod product;
mod quantize;
mod recurrent;
mod reduce;
mod reshape;
mod shape;
mod size;
mod text;
mod value;
mod window;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use self::call::{Call, Derived, Symbols};
use self::size::Size;
use self::value::Tensor;
use super::{Attribute, Function, Model, Node, OpsetVersions, ValueKind};

/// Oldest version of `ai.onnx` whose broadcasting is that of today.
const MIN_OPSET_VERSION: i64 = 7;
/// Nodes that are followed, calls of functions included.
const MAX_NODES: usize = 1_000_000;
/// Functions that call functions.
const MAX_DEPTH: usize = 16;

/// Operators whose results are drawn at random.
const RANDOM: [&str; 6] =
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"];

/// Why rows of a model may not share a run with rows of other requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Name of the node, or else of its first output; empty where no node is at fault.
    pub node: String,
    /// Operator of the node.
    pub operator: String,
    /// What it does.
    pub reason: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.operator.is_empty() {
            return formatter.write_str(&self.reason);
        }
        write!(formatter, "node '{}' ({}): {}", self.node, self.operator, self.reason)
    }
}

impl Obstacle {
    fn of_model(reason: impl Into<String>) -> Self {
        Self { node: String::new(), operator: String::new(), reason: reason.into() }
    }

    fn of_node(node: &Node, reason: String) -> Self {
        let operator = match node.domain.as_str() {
            "" => node.operator.clone(),
            domain => format!("{domain}.{}", node.operator),
        };
        Self { node: node.label().to_owned(), operator, reason }
    }
}

/// Proves that a model answers row by row, with the batch as the first dimension of all inputs and outputs.
///
/// # Errors
/// What stands in the way: the first node on the way to an output that has no such proof.
pub fn check(model: &Model) -> Result<(), Obstacle> {
    let version = model.opsets.get("").copied();
    if let Some(version) = version.filter(|version| *version < MIN_OPSET_VERSION) {
        return Err(Obstacle::of_model(format!(
            "its operator set has version {version}; the analysis covers versions from {MIN_OPSET_VERSION}"
        )));
    }
    let mut walk = Walk::new(model);
    let graph = &model.graph;
    let mut scope: Scope<'_> = graph
        .initializers
        .iter()
        .map(|tensor| (Cow::Borrowed(tensor.name.as_str()), Value::Known(Tensor::of(tensor))))
        .collect();
    let mut given = 0;
    for input in &graph.inputs {
        if scope.contains_key(input.name.as_str()) {
            continue;
        }
        let tensor = rows_of_input(&input.name, &input.kind, &mut walk.symbols)?;
        scope.insert(Cow::Borrowed(&input.name), Value::Known(tensor));
        given += 1;
    }
    if given == 0 {
        return Err(Obstacle::of_model("it has no inputs"));
    }
    walk.nodes(&graph.nodes, &model.opsets, &mut scope, 0)?;
    for output in &graph.outputs {
        let refused = |reason: &str| Obstacle::of_model(format!("output '{}' {reason}", output.name));
        match scope.get(output.name.as_str()) {
            None => return Err(refused("is made by no node")),
            Some(Value::Unknown(obstacle)) => return Err(walk.obstacles[*obstacle].clone()),
            Some(Value::Known(tensor)) => match (tensor.axis, &tensor.dims) {
                (Some(0), Some(dims)) if dims.first() == Some(&Size::rows()) => {}
                (Some(0), _) => {
                    return Err(refused("has several entries of the first dimension for each row"));
                }
                (Some(axis), _) => {
                    return Err(refused(&format!("has the rows along dimension {axis}, not the first")));
                }
                (None, _) => return Err(refused("does not depend on the rows")),
            },
        }
    }
    Ok(())
}

/// An input of the graph: the batch is its first dimension.
fn rows_of_input(name: &str, kind: &ValueKind, symbols: &mut Symbols) -> Result<Tensor, Obstacle> {
    let refused = |reason: &str| Obstacle::of_model(format!("input '{name}' {reason}"));
    let ValueKind::Tensor { shape, .. } = kind else { return Err(refused("is not a tensor")) };
    let shape = shape.as_deref().ok_or_else(|| refused("has no shape"))?;
    match shape.first() {
        None => return Err(refused("has no dimension for a batch")),
        Some(Some(_)) => return Err(refused("has a first dimension of a fixed size")),
        Some(None) => {}
    }
    // Two dimensions of one name may still differ at a run.
    let rest = shape.iter().skip(1).map(|size| match size.and_then(|size| u64::try_from(size).ok()) {
        Some(size) => Size::fixed(size),
        None => symbols.fresh(),
    });
    let dims = std::iter::once(Size::rows()).chain(rest).collect();
    Ok(Tensor::new(dims, Some(0)))
}

#[derive(Debug, Clone)]
enum Value {
    Known(Tensor),
    /// Index of what stands in the way.
    Unknown(usize),
}

type Scope<'model> = HashMap<Cow<'model, str>, Value>;

struct Walk<'model> {
    functions: HashMap<(&'model str, &'model str), &'model Function>,
    /// Whether tensors of the model may hold strings.
    has_text: bool,
    symbols: Symbols,
    obstacles: Vec<Obstacle>,
    walked: usize,
}

impl<'model> Walk<'model> {
    fn new(model: &'model Model) -> Self {
        let functions = model.functions.iter();
        Self {
            functions: functions
                .map(|function| ((function.domain.as_str(), function.name.as_str()), function))
                .collect(),
            has_text: text::has_text(model),
            symbols: Symbols::default(),
            obstacles: Vec::new(),
            walked: 0,
        }
    }

    fn nodes(
        &mut self,
        nodes: &[Node],
        opsets: &OpsetVersions,
        scope: &mut Scope<'_>,
        depth: usize,
    ) -> Result<(), Obstacle> {
        for node in nodes {
            self.walked += 1;
            if self.walked > MAX_NODES {
                return Err(Obstacle::of_model(format!("it has more than {MAX_NODES} nodes")));
            }
            let values = self.node(node, opsets, scope, depth)?;
            for (name, value) in node.outputs.iter().zip(values).filter(|(name, _)| !name.is_empty()) {
                scope.insert(Cow::Owned(name.clone()), value);
            }
        }
        Ok(())
    }

    /// The outputs of a node.
    fn node(
        &mut self,
        node: &Node,
        opsets: &OpsetVersions,
        scope: &Scope<'_>,
        depth: usize,
    ) -> Result<Vec<Value>, Obstacle> {
        let count = node.outputs.len();
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            match scope.get(name.as_str()) {
                _ if name.is_empty() => inputs.push(None),
                Some(Value::Known(tensor)) => inputs.push(Some(tensor)),
                Some(Value::Unknown(obstacle)) => return Ok(vec![Value::Unknown(*obstacle); count]),
                None => {
                    return Ok(self.refuse(node, format!("its input '{name}' is made by no node before it")));
                }
            }
        }
        if let Some(function) = self.functions.get(&(node.domain.as_str(), node.operator.as_str())).copied() {
            let inputs: Vec<Option<Tensor>> = inputs.into_iter().map(Option::<&Tensor>::cloned).collect();
            return self.function(node, function, &inputs, depth);
        }
        let Some(version) = opsets.get(&node.domain).copied() else {
            return Ok(self.refuse(node, "its operator set is not imported".to_owned()));
        };
        let (symbols, has_text) = (&mut self.symbols, self.has_text);
        let mut call = Call { node, inputs, version, has_text, symbols };
        match derive(&mut call) {
            Ok(tensors) => {
                let known = tensors.into_iter().map(Value::Known);
                let values: Vec<Value> = known.take(count).collect();
                if values.len() == count {
                    return Ok(values);
                }
                Ok(self.refuse(node, "it has more outputs than expected".to_owned()))
            }
            Err(reason) => Ok(self.refuse(node, reason)),
        }
    }

    fn refuse(&mut self, node: &Node, reason: String) -> Vec<Value> {
        self.obstacles.push(Obstacle::of_node(node, reason));
        vec![Value::Unknown(self.obstacles.len() - 1); node.outputs.len()]
    }

    /// The outputs of a function that the model defines, whose nodes are followed as if they stood in its
    /// place.
    fn function(
        &mut self,
        node: &Node,
        function: &Function,
        inputs: &[Option<Tensor>],
        depth: usize,
    ) -> Result<Vec<Value>, Obstacle> {
        if depth >= MAX_DEPTH {
            return Ok(self.refuse(node, format!("its functions call each other more than {MAX_DEPTH} deep")));
        }
        let given = function.inputs.iter().zip(inputs);
        let mut scope: Scope<'_> = given
            .filter_map(|(name, tensor)| Some((Cow::Borrowed(name.as_str()), Value::Known(tensor.clone()?))))
            .collect();
        let nodes: Vec<Node> =
            function.nodes.iter().map(|inner| bound(inner, &node.attributes, &function.defaults)).collect();
        self.nodes(&nodes, &function.opsets, &mut scope, depth + 1)?;
        let output = |name: &String| scope.get(name.as_str()).cloned();
        let values: Option<Vec<Value>> = function.outputs.iter().map(output).collect();
        let values = values.filter(|values| values.len() >= node.outputs.len());
        Ok(values.unwrap_or_else(|| self.refuse(node, "its function does not make all outputs".to_owned())))
    }
}

/// A node of a function with the attributes that its caller gives.
fn bound(node: &Node, given: &BTreeMap<String, Attribute>, defaults: &BTreeMap<String, Attribute>) -> Node {
    let mut node = node.clone();
    let attributes = std::mem::take(&mut node.attributes);
    let bind = |(name, attribute): (String, Attribute)| match &attribute.of_caller {
        None => Some((name, attribute)),
        // Without a value and a default the attribute is absent.
        Some(caller) => Some((name, given.get(caller).or_else(|| defaults.get(caller))?.clone())),
    };
    node.attributes = attributes.into_iter().filter_map(bind).collect();
    node
}

/// The outputs of an operator, or why they have no rows of their own.
fn derive(call: &mut Call<'_>) -> Derived {
    let node = call.node;
    if node.attributes.values().any(|attribute| !attribute.graphs.is_empty()) {
        return Err("bodies of branches and loops are not followed".to_owned());
    }
    if node.attributes.values().any(|attribute| attribute.of_caller.is_some()) {
        return Err("an attribute of it has no value".to_owned());
    }
    let constant = call.inputs.iter().flatten().all(|tensor| tensor.is_constant());
    let counts = call.inputs.iter().flatten().any(|tensor| tensor.counts_rows());
    if counts && !(node.domain.is_empty() && shape::takes_sizes(&node.operator)) {
        return Err("it computes with the number of rows of the run".to_owned());
    }
    let derived = match node.domain.as_str() {
        "" if RANDOM.contains(&node.operator.as_str()) => {
            return Err("it draws random numbers".to_owned());
        }
        // In training mode it draws random numbers, too.
        "" if node.operator == "Dropout" => return elementwise::dropout(call),
        "" => standard(call),
        "ai.onnx.ml" => ml::derive(call),
        "com.microsoft" => contrib::derive(call),
        _ => None,
    };
    match derived {
        // What no rule knows is still the same for all rows where its inputs are; contributed operators
        // promise nothing.
        None | Some(Err(_)) if constant && matches!(node.domain.as_str(), "" | "ai.onnx.ml") => {
            Ok(vec![Tensor::constant(None); node.outputs.len()])
        }
        None => Err("there is no rule that it works row by row".to_owned()),
        Some(derived) => derived,
    }
}

/// The rule of an operator of `ai.onnx`; `None` where there is none.
fn standard(call: &mut Call<'_>) -> Option<Derived> {
    shape::derive(call)
        .or_else(|| elementwise::derive(call))
        .or_else(|| reshape::derive(call))
        .or_else(|| index::derive(call))
        .or_else(|| reduce::derive(call))
        .or_else(|| normalize::derive(call))
        .or_else(|| product::derive(call))
        .or_else(|| window::derive(call))
        .or_else(|| quantize::derive(call))
        .or_else(|| recurrent::derive(call))
}
