//! Whether a model works on text, which ONNX Runtime moves differently from numbers.

use crate::element::STRING;
use crate::model::{Graph, walk_nodes};
use crate::{Model, Node, ValueKind};

/// Whether any tensor of the model may hold strings.
pub(super) fn has_text(model: &Model) -> bool {
    let is_text = |kind: &ValueKind| matches!(kind, ValueKind::Tensor { element: STRING, .. });
    if model.graph.inputs.iter().any(|input| is_text(&input.kind)) {
        return true;
    }
    let mut found = model.functions.iter().any(|function| function.nodes.iter().any(makes_text));
    let mut look = |graph: &Graph| {
        found |= graph.initializers.iter().any(|tensor| tensor.element == STRING)
            || graph.nodes.iter().any(makes_text);
    };
    model.graph.walk(&mut look);
    for function in &model.functions {
        walk_nodes(&function.nodes, &mut look);
    }
    found
}

/// Whether a node may make strings of something else: constants, casts, and the tables of `ai.onnx.ml`.
fn makes_text(node: &Node) -> bool {
    let is_cast =
        matches!(node.operator.as_str(), "Cast" | "CastLike") && node.int("to") == Some(STRING.into());
    is_cast
        || node.attributes.iter().any(|(name, attribute)| {
            let is_table = name.ends_with("_strings") || name == "value_string";
            is_table || attribute.tensor.as_ref().is_some_and(|tensor| tensor.element == STRING)
        })
}
