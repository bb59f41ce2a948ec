//! What a model takes and returns as the inference protocol sees it, and whether it can be served at all.

use std::collections::{BTreeMap, BTreeSet};

use slipway_domain::datatype::Datatype;

use super::model::{Graph, walk_nodes};
use super::read::{ELEMENT_BYTES, MAX_UNPACKED_BYTES, product, unpacked};
use super::values::{ValueInfo, ValueKind, datatype};
use super::{Fault, Model, malformed, zip_map};

/// Longest constant that is taken for a shape.
const MAX_SHAPE_NUMBERS: usize = 32;

/// Operator sets that ONNX Runtime has built in.
const BUILT_IN: [&str; 6] = [
    "",
    "ai.onnx.ml",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft",
    "com.microsoft.nchwc",
];

/// An input or output as a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the graph.
    pub name: String,
    /// Type of its elements.
    pub datatype: Datatype,
    /// -1 for a dimension that varies.
    pub shape: Vec<i64>,
    /// Names of the classes along the last dimension, where a ZipMap node says them.
    pub classes: Vec<String>,
}

/// Inputs and outputs of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// In the graph's order, without initializers.
    pub inputs: Vec<TensorSpec>,
    /// In the graph's order.
    pub outputs: Vec<TensorSpec>,
    /// Why the model cannot be served.
    pub unservable: Option<String>,
}

impl Model {
    /// Its interface; maps that ZipMap makes are the tensors that they are made of.
    ///
    /// # Errors
    /// An input or output has no name.
    pub fn interface(&self) -> Result<Interface, Fault> {
        let mut interface =
            Interface { unservable: self.bomb.clone().or_else(|| self.filled()), ..Interface::default() };
        if interface.unservable.is_none() {
            interface.unservable = self.foreign();
        }
        // Models below IR version 4 list their initializers among the inputs.
        let initializers: BTreeSet<&str> =
            self.graph.initializers.iter().map(|tensor| tensor.name.as_str()).collect();
        let given = self.graph.inputs.iter().filter(|value| !initializers.contains(value.name.as_str()));
        let maps = zip_map::outputs(&self.graph);
        let sides = [("input", given.collect::<Vec<_>>()), ("output", self.graph.outputs.iter().collect())];
        for (side, values) in sides {
            for value in values {
                if value.name.is_empty() {
                    return Err(malformed(format!("an {side} of its graph has no name")));
                }
                let spec = match maps.get(value.name.as_str()) {
                    Some(map) => Ok(map.spec()),
                    None => tensor(side, value),
                };
                match spec {
                    Ok(spec) if side == "input" => interface.inputs.push(spec),
                    Ok(spec) => interface.outputs.push(spec),
                    Err(reason) => {
                        interface.unservable.get_or_insert(reason);
                    }
                }
            }
        }
        Ok(interface)
    }

    fn walk<'model>(&'model self, visit: &mut dyn FnMut(&'model Graph)) {
        self.graph.walk(visit);
        for function in &self.functions {
            walk_nodes(&function.nodes, visit);
        }
    }

    /// All nodes, wherever they are.
    fn nodes(&self) -> Vec<&super::Node> {
        let mut nodes: Vec<&super::Node> =
            self.functions.iter().flat_map(|function| &function.nodes).collect();
        self.walk(&mut |graph| nodes.extend(&graph.nodes));
        nodes
    }

    /// Why an operator is not available, where one is not.
    fn foreign(&self) -> Option<String> {
        let defined: BTreeSet<(&str, &str)> = self
            .functions
            .iter()
            .map(|function| (function.domain.as_str(), function.name.as_str()))
            .collect();
        let used: BTreeSet<(&str, &str)> =
            self.nodes().into_iter().map(|node| (node.domain.as_str(), node.operator.as_str())).collect();
        let missing: Vec<_> = used
            .into_iter()
            .filter(|operator| !BUILT_IN.contains(&operator.0) && !defined.contains(operator))
            .collect();
        let (domain, operator) = missing.first()?;
        let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
        Some(format!(
            "it needs the operator '{domain}::{operator}'{more}, which would have to be loaded as code of its own"
        ))
    }

    /// A constant that makes an operator fill more than memory holds.
    fn filled(&self) -> Option<String> {
        let mut shapes: BTreeMap<&str, u64> = BTreeMap::new();
        let mut add = |name, numbers: &[i64]| {
            if (1..=MAX_SHAPE_NUMBERS).contains(&numbers.len()) {
                shapes.insert(name, product(numbers));
            }
        };
        self.walk(&mut |graph| {
            for tensor in graph.initializers.iter().filter(|tensor| tensor.element == 7) {
                add(tensor.name.as_str(), tensor.ints.as_deref().unwrap_or_default());
            }
        });
        let nodes = self.nodes();
        for node in nodes.iter().filter(|node| node.operator == "Constant") {
            let Some(output) = node.outputs.first() else { continue };
            for attribute in node.attributes.values() {
                let of_tensor = attribute.tensor.as_ref().and_then(|tensor| tensor.ints.as_deref());
                add(output.as_str(), of_tensor.unwrap_or(&attribute.ints));
            }
        }
        nodes.into_iter().find_map(|node| {
            let shape = match node.operator.as_str() {
                "ConstantOfShape" => node.inputs.first(),
                "Expand" => node.inputs.get(1),
                _ => None,
            }?;
            let elements = *shapes.get(shape.as_str())?;
            let what = format!("its operator {} makes a tensor", node.operator);
            (elements.saturating_mul(ELEMENT_BYTES) > MAX_UNPACKED_BYTES).then(|| unpacked(&what, elements))
        })
    }
}

/// A value as a tensor, or why clients cannot send or read it.
fn tensor(side: &str, value: &ValueInfo) -> Result<TensorSpec, String> {
    let name = &value.name;
    let (element, shape) = match &value.kind {
        ValueKind::Tensor { element, shape } => (*element, shape),
        ValueKind::SequenceOfMaps => {
            return Err(format!(
                "{side} '{name}' is a sequence of maps that does not come from a ZipMap node of the main graph; the inference \
                 protocol carries tensors only, so export the model without maps (skl2onnx: options={{'zipmap': False}})"
            ));
        }
        ValueKind::Other(kind) if kind.is_empty() => return Err(format!("{side} '{name}' has no type")),
        ValueKind::Other(kind) => return Err(not_a_tensor(side, name, kind)),
    };
    let datatype = datatype(element).ok_or_else(|| {
        format!("{side} '{name}' has element type {element}, which the inference protocol has no name for")
    })?;
    let shape = shape.iter().flatten().map(|size| size.unwrap_or(-1)).collect();
    Ok(TensorSpec { name: name.clone(), datatype, shape, classes: Vec::new() })
}

/// Why a value of this type is not served, and what to change.
fn not_a_tensor(side: &str, name: &str, kind: &str) -> String {
    let advice = if kind.starts_with("seq(tensor") {
        "return the tensors as outputs of their own, or join them with ConcatFromSequence"
    } else if kind.starts_with("optional(") {
        "export the model without optional values"
    } else if kind.starts_with("map(") {
        "give each key an input of its own in place of DictVectorizer or CastMap"
    } else {
        "export the model with tensors only"
    };
    format!("{side} '{name}' is {kind}, and the inference protocol carries tensors only: {advice}")
}
