//! What a model takes and returns as the inference protocol sees it, and whether it can be served at all.

use std::collections::BTreeSet;

use super::element::datatype;
use super::model::{Graph, walk_nodes};
use super::values::{ValueInfo, ValueKind};
use super::{Fault, Model, TensorSpec, malformed, zip_map};

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
        let mut interface = Interface { unservable: self.unsafe_to_load(), ..Interface::default() };
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

    pub(crate) fn walk<'model>(&'model self, visit: &mut dyn FnMut(&'model Graph)) {
        self.graph.walk(visit);
        for function in &self.functions {
            walk_nodes(&function.nodes, visit);
        }
    }

    /// All nodes, wherever they are.
    pub(crate) fn nodes(&self) -> Vec<&super::Node> {
        let mut nodes: Vec<&super::Node> =
            self.functions.iter().flat_map(|function| &function.nodes).collect();
        self.walk(&mut |graph| nodes.extend(&graph.nodes));
        nodes
    }
}

/// A value as a tensor, or why clients cannot send or read it.
fn tensor(side: &str, value: &ValueInfo) -> Result<TensorSpec, String> {
    let name = &value.name;
    let (element, shape) = match &value.kind {
        ValueKind::Tensor { element, shape } => (*element, shape),
        ValueKind::SequenceOfMaps => {
            return Err(format!(
                "{side} '{name}' is a sequence of maps that does not come from a ZipMap node of the main \
                 graph; the inference protocol carries tensors only, so export the model without maps \
                 (skl2onnx: options={{'zipmap': False}})"
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
