//! Why a runtime must not get a model, as far as its bytes tell.

use std::collections::{BTreeMap, BTreeSet};

use super::element::INT64;
use super::tensor::{ELEMENT_BYTES, MAX_UNPACKED_BYTES, product, unpacked};
use super::{Model, crashes};

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

/// Newest version of the file format that the tested versions of ONNX Runtime read.
const MAX_IR_VERSION: u64 = 13;
/// Newest version of `ai.onnx` that they have.
const MAX_OPSET: i64 = 26;
/// Nodes of `com.microsoft` that stand for a compiled part of a model, which a device's library reads from
/// the node or from a file and runs.
const COMPILED: &str = "EPContext";

impl Model {
    /// Why the model must not be loaded; `None` where nothing is wrong with its bytes.
    pub fn unsafe_to_load(&self) -> Option<String> {
        self.bomb
            .clone()
            .or_else(|| self.hazard.clone())
            .or_else(|| self.filled())
            .or_else(|| self.foreign())
            .or_else(|| self.compiled())
            .or_else(|| self.too_new())
            .or_else(|| crashes::check(self))
    }

    /// Why the files of weights cannot be read; `size_bytes` gives the size of a file of the model's folder,
    /// by its path there.
    pub fn weights_in(&self, size_bytes: impl Fn(&str) -> Option<u64>) -> Option<String> {
        self.external_data.iter().find_map(|(path, needed)| match size_bytes(path) {
            None => Some(format!("its weights lie in '{path}', and its folder has no such file")),
            Some(size) if size < *needed => Some(format!(
                "its weights lie in '{path}' up to byte {needed}, and the file has {size} bytes"
            )),
            Some(_) => None,
        })
    }

    fn compiled(&self) -> Option<String> {
        let found = self.nodes().into_iter().any(|node| node.operator == COMPILED);
        found.then(|| format!("it has a node {COMPILED}, which holds code for a device"))
    }

    /// A version that no tested runtime reads.
    fn too_new(&self) -> Option<String> {
        if self.ir_version > MAX_IR_VERSION {
            return Some(format!(
                "it has IR version {}; ONNX Runtime reads versions up to {MAX_IR_VERSION}",
                self.ir_version
            ));
        }
        let opset = self.opsets.get("")?;
        (!(1..=MAX_OPSET).contains(opset)).then(|| {
            format!("it needs version {opset} of the operators; ONNX Runtime has versions up to {MAX_OPSET}")
        })
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
            "it needs the operator '{domain}::{operator}'{more}, which would have to be loaded as code of \
             its own"
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
            for tensor in graph.initializers.iter().filter(|tensor| tensor.element == INT64) {
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
