//! Functions of a model that call each other. A runtime replaces each call by the nodes of the function, so a
//! cycle never ends, and a short chain of functions that each call the next one twice fills any memory.

use std::collections::HashMap;

use super::external::shown;
use super::model::walk_nodes;
use super::{Model, Node};

/// Longest chain of calls.
const MAX_DEPTH: usize = 64;
/// Most nodes once every call is replaced.
const MAX_NODES: u64 = 4_000_000;

type Key<'model> = (&'model str, &'model str, &'model str);

/// What is known of a function.
#[derive(Clone, Copy)]
enum Mark {
    /// It is on the way from the one that is looked at.
    Open,
    /// How many nodes it is, and how deep its calls go.
    Done { nodes: u64, depth: usize },
}

/// Why the functions of a model cannot be replaced by their nodes.
pub(crate) fn check(model: &Model) -> Option<String> {
    let mut places = HashMap::new();
    for (at, function) in model.functions.iter().enumerate() {
        let key = (function.domain.as_str(), function.name.as_str(), function.overload.as_str());
        if places.insert(key, at).is_some() {
            return Some(format!("it defines the function '{}' twice", label(key)));
        }
    }
    if places.is_empty() {
        return None;
    }
    let bodies: Vec<Body> =
        model.functions.iter().map(|function| Body::of(&function.nodes, &places)).collect();
    let mut marks: Vec<Option<Mark>> = vec![None; bodies.len()];
    for at in 0..bodies.len() {
        if let Err(reason) = expand(at, &bodies, &mut marks, 0) {
            let function = &model.functions[at];
            let name = label((&function.domain, &function.name, &function.overload));
            return Some(format!("its function '{name}' {reason}"));
        }
    }
    let main = Body::of(&model.graph.nodes, &places);
    let called = main.calls.iter().filter_map(|at| match marks[*at] {
        Some(Mark::Done { nodes, .. }) => Some(nodes),
        _ => None,
    });
    let nodes = called.fold(main.nodes, u64::saturating_add);
    (nodes > MAX_NODES).then(|| format!("its calls of functions stand for more than {MAX_NODES} nodes"))
}

struct Body {
    nodes: u64,
    /// Functions that it calls, each as often as it does.
    calls: Vec<usize>,
}

impl Body {
    fn of(nodes: &[Node], places: &HashMap<Key<'_>, usize>) -> Self {
        let mut body = Self { nodes: 0, calls: Vec::new() };
        let mut add = |nodes: &[Node]| {
            for node in nodes {
                body.nodes += 1;
                let key = (node.domain.as_str(), node.operator.as_str(), node.overload.as_str());
                body.calls.extend(places.get(&key));
            }
        };
        add(nodes);
        walk_nodes(nodes, &mut |graph| add(&graph.nodes));
        body
    }
}

/// Follows the calls of a function; at most [`MAX_DEPTH`] deep, so the stack is bounded.
fn expand(
    at: usize,
    bodies: &[Body],
    marks: &mut [Option<Mark>],
    depth: usize,
) -> Result<(u64, usize), String> {
    match marks[at] {
        Some(Mark::Done { nodes, depth }) => return Ok((nodes, depth)),
        Some(Mark::Open) => return Err("calls itself".to_owned()),
        None if depth > MAX_DEPTH => return Err(too_deep()),
        None => marks[at] = Some(Mark::Open),
    }
    let (mut nodes, mut below) = (bodies[at].nodes, 0);
    for call in &bodies[at].calls {
        let (called, deep) = expand(*call, bodies, marks, depth + 1)?;
        nodes = nodes.saturating_add(called);
        below = below.max(deep + 1);
    }
    if below > MAX_DEPTH {
        return Err(too_deep());
    }
    if nodes > MAX_NODES {
        return Err(format!("stands for more than {MAX_NODES} nodes with all that it calls"));
    }
    marks[at] = Some(Mark::Done { nodes, depth: below });
    Ok((nodes, below))
}

fn too_deep() -> String {
    format!("calls others more than {MAX_DEPTH} deep")
}

fn label((domain, name, overload): Key<'_>) -> String {
    let overload = if overload.is_empty() { String::new() } else { format!(":{overload}") };
    shown(&format!("{domain}::{name}{overload}"))
}

#[cfg(test)]
mod tests {
    use super::super::Function;
    use super::*;

    fn node(operator: &str) -> Node {
        Node { operator: operator.into(), domain: "my".into(), ..Node::default() }
    }

    fn model(functions: &[(&str, &[&str])]) -> Model {
        let functions = functions.iter().map(|(name, calls)| Function {
            name: (*name).into(),
            domain: "my".into(),
            nodes: calls.iter().map(|call| node(call)).collect(),
            ..Function::default()
        });
        let mut model = Model { functions: functions.collect(), ..Model::default() };
        model.graph.nodes = vec![node("F0")];
        model
    }

    #[test]
    fn functions_that_call_themselves_or_grow_without_bound_are_refused() {
        assert_eq!(check(&model(&[("F0", &["F1", "F1"]), ("F1", &["Add"])])), None);
        for functions in [&[("F0", &["F0"][..])][..], &[("F0", &["F1"]), ("F1", &["F2"]), ("F2", &["F0"])]] {
            let reason = check(&model(functions)).unwrap();
            assert!(reason.contains("calls itself"), "{reason}");
        }
        assert!(check(&model(&[("F0", &[]), ("F0", &[])])).unwrap().contains("'my::F0' twice"));
        let chain = |length: usize, calls: usize| {
            let names: Vec<String> = (0..=length).map(|at| format!("F{at}")).collect();
            let called: Vec<Vec<&str>> = (1..=length).map(|at| vec![names[at].as_str(); calls]).collect();
            let mut functions: Vec<(&str, &[&str])> =
                names.iter().zip(&called).map(|(name, called)| (name.as_str(), called.as_slice())).collect();
            functions.push((names[length].as_str(), &["Add"]));
            check(&model(&functions))
        };
        assert_eq!(chain(10, 2), None);
        assert!(chain(40, 2).unwrap().contains("more than 4000000 nodes"));
        for length in [80, 5000] {
            assert!(chain(length, 1).unwrap().contains("64 deep"), "{length}");
        }
    }

    #[test]
    fn a_call_in_a_branch_counts() {
        let mut recursive = model(&[("F0", &[])]);
        let mut branch = node("If");
        let graph = super::super::Graph { nodes: vec![node("F0")], ..super::super::Graph::default() };
        let attribute = super::super::Attribute { graphs: vec![graph], ..super::super::Attribute::default() };
        branch.attributes.insert("then_branch".into(), attribute);
        recursive.functions[0].nodes.push(branch);
        assert!(check(&recursive).unwrap().contains("calls itself"));
    }
}
