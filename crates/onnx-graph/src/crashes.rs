//! Nodes with which a request can end the process that runs the model.
//!
//! ONNX Runtime divides integers with the processor's instruction, which traps (SIGFPE) at the smallest
//! integer divided by -1, and before version 1.24 at a division by 0; STFT divides by the length and step of
//! its frames. GRU and LSTM call `std::terminate` where the batch is empty, GRU also where its input has no
//! elements. None of these is an error that a caller could be told. So a model must not let the *values* of a
//! request choose an integer divisor, or the size of what a GRU or LSTM gets; sizes that follow from the
//! shapes of the request are fine, since requests without elements are refused before.
//!
//! The graph is followed from its inputs. Of each value it is known whether its numbers or its size depend on
//! numbers of the request. What is not known counts as harmless, so that no model is refused without reason.

use std::collections::HashMap;

use super::{Attribute, Function, Graph, Model, Node, Tensor, ValueKind};

/// Nodes that are followed, calls of functions included.
const MAX_NODES: usize = 1_000_000;
/// Functions and bodies within each other.
const MAX_DEPTH: usize = 64;

/// Operators whose outputs have as many entries as their inputs' numbers say.
const COUNTING: [&str; 5] = ["NonZero", "Compress", "Unique", "NonMaxSuppression", "StringSplit"];
/// Operators that take sizes or places as inputs, after the first; `Range` and `ConstantOfShape` as all of
/// them.
const SIZED: [&str; 13] = [
    "Reshape",
    "Expand",
    "Tile",
    "Slice",
    "Pad",
    "Resize",
    "Upsample",
    "TopK",
    "OneHot",
    "Split",
    "CenterCropPad",
    "Squeeze",
    "Unsqueeze",
];
/// Operators that give integers whatever they get.
const INTEGERS: [&str; 6] = ["Shape", "Size", "NonZero", "ArgMax", "ArgMin", "NonMaxSuppression"];
/// Operators whose first output has the type of their first input.
const SAME_TYPE: [&str; 38] = [
    "Identity",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Neg",
    "Abs",
    "Sign",
    "Min",
    "Max",
    "Clip",
    "Gather",
    "GatherElements",
    "GatherND",
    "ScatterElements",
    "ScatterND",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Concat",
    "Expand",
    "Tile",
    "Split",
    "Pad",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "Compress",
    "CumSum",
    "Unique",
    "TopK",
    "Range",
    "Trilu",
];
/// Operators that leave numbers as they are, and so keep them above 0.
const MOVING: [&str; 12] = [
    "Identity",
    "Cast",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Concat",
    "Expand",
    "Tile",
    "Gather",
];

/// What is known of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Fact {
    /// Whether it is known to hold integers.
    integer: bool,
    /// Whether its numbers depend on numbers of the request.
    chosen: bool,
    /// Whether it has an entry for each number of the request that fits a condition.
    counted: bool,
    /// Whether its size depends on numbers of the request in another way: it is cut or filled up to them.
    cut: bool,
    /// Whether all of its numbers are known to be above 0.
    positive: bool,
    /// Whether 0 or -1 is known to be among its numbers.
    traps: bool,
}

type Scope<'model> = HashMap<&'model str, Fact>;

/// Names the first node with which a request can end the process.
pub(crate) fn check(model: &Model) -> Option<String> {
    let functions = model.functions.iter();
    let functions =
        functions.map(|function| ((function.domain.as_str(), function.name.as_str()), function)).collect();
    let mut walk = Walk { functions, walked: 0 };
    let mut scope = Scope::new();
    for input in &model.graph.inputs {
        let integer = matches!(&input.kind, ValueKind::Tensor { element, .. } if is_integer(*element));
        scope.insert(&input.name, Fact { integer, chosen: true, ..Fact::default() });
    }
    walk.graph(&model.graph, &mut scope, 0).err()
}

const fn is_integer(element: i32) -> bool {
    // UINT8, INT8, UINT16, INT16, INT32, INT64; UINT32, UINT64.
    matches!(element, 2..=7 | 12 | 13)
}

fn of_tensor(tensor: &Tensor) -> Fact {
    let positive = tensor.ints.as_ref().is_some_and(|ints| ints.iter().all(|number| *number > 0));
    let traps = tensor.ints.as_ref().is_some_and(|ints| ints.iter().any(|number| matches!(number, 0 | -1)));
    Fact { integer: is_integer(tensor.element), positive, traps, ..Fact::default() }
}

struct Walk<'model> {
    functions: HashMap<(&'model str, &'model str), &'model Function>,
    walked: usize,
}

impl<'model> Walk<'model> {
    /// The initializers and nodes of a graph, whose inputs are in `scope`.
    fn graph(&mut self, graph: &'model Graph, scope: &mut Scope<'model>, depth: usize) -> Result<(), String> {
        for tensor in &graph.initializers {
            // Those that are inputs as well may be given with the request.
            let chosen = depth == 0 && scope.contains_key(tensor.name.as_str());
            let known = of_tensor(tensor);
            scope.insert(&tensor.name, Fact { chosen, positive: known.positive && !chosen, ..known });
        }
        self.nodes(&graph.nodes, scope, depth)
    }

    fn nodes(
        &mut self,
        nodes: &'model [Node],
        scope: &mut Scope<'model>,
        depth: usize,
    ) -> Result<(), String> {
        for node in nodes {
            self.walked += 1;
            if self.walked > MAX_NODES || depth > MAX_DEPTH {
                return Ok(());
            }
            let outputs = self.node(node, scope, depth)?;
            for (at, name) in node.outputs.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                scope.insert(name, outputs.get(at).or(outputs.last()).copied().unwrap_or_default());
            }
        }
        Ok(())
    }

    fn node(
        &mut self,
        node: &'model Node,
        scope: &mut Scope<'model>,
        depth: usize,
    ) -> Result<Vec<Fact>, String> {
        let inputs: Vec<Fact> =
            node.inputs.iter().map(|name| scope.get(name.as_str()).copied().unwrap_or_default()).collect();
        if let Some(function) = self.functions.get(&(node.domain.as_str(), node.operator.as_str())).copied() {
            return self.function(function, &inputs, depth);
        }
        let bodies: Vec<&Graph> = node.attributes.values().flat_map(|attribute| &attribute.graphs).collect();
        if !bodies.is_empty() {
            return self.bodies(&bodies, &inputs, scope, depth);
        }
        if !node.domain.is_empty() {
            return Ok(vec![Fact { integer: false, positive: false, ..joined(&inputs) }]);
        }
        refuse(node, &inputs)?;
        Ok(vec![derive(node, &inputs)])
    }

    fn function(
        &mut self,
        function: &'model Function,
        inputs: &[Fact],
        depth: usize,
    ) -> Result<Vec<Fact>, String> {
        let mut scope: Scope<'model> =
            function.inputs.iter().map(String::as_str).zip(inputs.iter().copied()).collect();
        self.nodes(&function.nodes, &mut scope, depth + 1)?;
        Ok(outputs(function.outputs.iter().map(String::as_str), &scope))
    }

    /// Branches, and loops of which each turn may get what the one before made.
    fn bodies(
        &mut self,
        bodies: &[&'model Graph],
        inputs: &[Fact],
        scope: &mut Scope<'model>,
        depth: usize,
    ) -> Result<Vec<Fact>, String> {
        let all = joined(inputs);
        let mut found: Vec<Fact> = Vec::new();
        for body in bodies {
            let made = self.body(body, all, scope, depth)?;
            found.push(joined(&made));
        }
        found.push(all);
        Ok(vec![Fact { integer: false, positive: false, ..joined(&found) }])
    }

    /// The outputs of a body. It sees the values around it; its own are gone after it.
    fn body(
        &mut self,
        body: &'model Graph,
        all: Fact,
        scope: &mut Scope<'model>,
        depth: usize,
    ) -> Result<Vec<Fact>, String> {
        let initializers = body.initializers.iter().map(|tensor| &tensor.name);
        let own = initializers.chain(body.inputs.iter().map(|input| &input.name));
        let own = own.chain(body.nodes.iter().flat_map(|node| &node.outputs));
        let around: Vec<(&str, Option<Fact>)> =
            own.map(|name| (name.as_str(), scope.get(name.as_str()).copied())).collect();
        for input in &body.inputs {
            let integer = matches!(&input.kind, ValueKind::Tensor { element, .. } if is_integer(*element));
            scope.insert(&input.name, Fact { integer, positive: false, ..all });
        }
        self.graph(body, scope, depth + 1)?;
        let made = outputs(body.outputs.iter().map(|output| output.name.as_str()), scope);
        for (name, fact) in around {
            match fact {
                Some(fact) => scope.insert(name, fact),
                None => scope.remove(name),
            };
        }
        Ok(made)
    }
}

fn outputs<'name>(names: impl Iterator<Item = &'name str>, scope: &Scope<'_>) -> Vec<Fact> {
    names.map(|name| scope.get(name).copied().unwrap_or_default()).collect()
}

/// Whether any of them depends on the request; the type is that of the first.
fn joined(facts: &[Fact]) -> Fact {
    Fact {
        integer: facts.first().is_some_and(|fact| fact.integer),
        chosen: facts.iter().any(|fact| fact.chosen),
        counted: facts.iter().any(|fact| fact.counted),
        cut: facts.iter().any(|fact| fact.cut),
        traps: facts.iter().any(|fact| fact.traps),
        positive: !facts.is_empty() && facts.iter().all(|fact| fact.positive),
    }
}

fn refuse(node: &Node, inputs: &[Fact]) -> Result<(), String> {
    let input = |at: usize| inputs.get(at).copied().unwrap_or_default();
    let name = format!("its node '{}' ({})", node.label(), node.operator);
    let integers = input(0).integer || input(1).integer;
    let divides = node.operator == "Div" || node.operator == "Mod" && node.int("fmod").unwrap_or(0) == 0;
    let chosen = input(1).chosen && !input(1).positive || input(0).chosen && input(1).traps;
    if divides && integers && chosen {
        return Err(format!(
            "{name} divides integers by numbers of the request or by -1, which ends the process at some \
             values; bound the divisor below by 1 in the model (Max or Clip with a constant)"
        ));
    }
    if node.operator == "STFT" && (input(1).chosen || input(3).chosen) {
        return Err(format!(
            "{name} takes its frame step or length from the request, and 0 ends the process; make them \
             constants of the model"
        ));
    }
    let ends = match node.operator.as_str() {
        "GRU" => input(0).counted || input(0).cut,
        "LSTM" => input(0).counted,
        _ => false,
    };
    if ends {
        return Err(format!(
            "{name} gets a tensor whose size depends on numbers of the request, and one without elements \
             ends the process"
        ));
    }
    Ok(())
}

/// The outputs of an operator of `ai.onnx`.
fn derive(node: &Node, inputs: &[Fact]) -> Fact {
    let operator = node.operator.as_str();
    let all = joined(inputs);
    let first = inputs.first().copied().unwrap_or_default();
    let has = |list: &[&str]| list.contains(&operator);
    if operator == "Constant" {
        return node.attributes.get("value").map_or_else(|| constant(node), of_value);
    }
    let sizes = inputs.get(1..).unwrap_or_default();
    let counted = all.counted || has(&COUNTING) && all.chosen;
    let cut = all.cut
        || has(&SIZED) && sizes.iter().any(|fact| fact.integer && fact.chosen)
        || has(&["Range", "ConstantOfShape"]) && all.chosen;
    let counts = has(&["Shape", "Size"]);
    Fact {
        integer: match operator {
            "Cast" => node.int("to").and_then(|to| i32::try_from(to).ok()).is_some_and(is_integer),
            "Where" => inputs.get(1).is_some_and(|fact| fact.integer),
            _ => has(&INTEGERS) || has(&SAME_TYPE) && first.integer,
        },
        // A shape follows from that of the request, unless numbers chose it.
        chosen: if counts { first.counted || first.cut } else { all.chosen },
        counted: counted && !counts,
        cut: cut && !counts,
        traps: has(&MOVING) && first.traps,
        positive: match operator {
            // Of whatever there is, the greatest is no smaller than the bound.
            "Max" => inputs.iter().any(|fact| fact.positive),
            "Clip" => inputs.get(1).is_some_and(|fact| fact.positive),
            "Concat" => all.positive,
            _ => has(&MOVING) && first.positive,
        },
    }
}

fn of_value(value: &Attribute) -> Fact {
    value.tensor.as_ref().map(of_tensor).unwrap_or_default()
}

/// A constant that is a number or a list of them.
fn constant(node: &Node) -> Fact {
    let list =
        node.attributes.get("value_ints").filter(|list| list.is_whole()).map(|list| list.ints.as_slice());
    let one = node.int("value_int");
    let integer = list.is_some() || one.is_some();
    let positive = list.unwrap_or_default().iter().chain(&one).all(|number| *number > 0) && integer;
    let traps = list.unwrap_or_default().iter().chain(&one).any(|number| matches!(number, 0 | -1));
    Fact { integer, positive, traps, ..Fact::default() }
}
