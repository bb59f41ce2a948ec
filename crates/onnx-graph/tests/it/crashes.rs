//! Models with which a request could end the process are refused; those that bound what it chooses are not.

use slipway_onnx_graph::read;
use slipway_testkit::onnx::{self, Attribute, FLOAT, Graph, INT64};

fn reason(build: impl FnOnce(&mut Graph)) -> Option<String> {
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, None, Some(2)]);
    graph.input("n", INT64, &[None]);
    graph.constant(&onnx::ints("one", &[], &[1]));
    graph.constant(&onnx::ints("zero", &[1], &[0]));
    build(&mut graph);
    graph.output("y", FLOAT);
    let bytes = graph.model(17);
    read(bytes.as_slice(), bytes.len() as u64).unwrap().unsafe_to_load()
}

fn recurrent(graph: &mut Graph, operator: &str, input: &str) {
    let gates = if operator == "GRU" { 3 } else { 4 };
    graph.constant(&onnx::floats("w", &[1, gates, 2], &vec![0.5; usize::try_from(gates * 2).unwrap()]));
    graph.constant(&onnx::floats("r", &[1, gates, 1], &vec![0.5; usize::try_from(gates).unwrap()]));
    graph.node(operator, &[input, "w", "r"], &["y"], &[("hidden_size", Attribute::Int(1))]);
}

#[test]
fn integers_divided_by_numbers_of_the_request_end_the_process() {
    for operator in ["Div", "Mod"] {
        let found = reason(|graph| graph.node(operator, &["one", "n"], &["y"], &[])).unwrap_or_default();
        assert!(
            found.contains(&format!("({operator}) divides integers by numbers of the request")),
            "{found}"
        );
        let negated = reason(|graph| {
            graph.constant(&onnx::ints("minus", &[], &[-1]));
            graph.node(operator, &["n", "minus"], &["y"], &[]);
        });
        assert!(negated.is_some_and(|found| found.contains("or by -1")), "{operator}");
        // Through operators that leave them integers, and through a function.
        let moved = reason(|graph| {
            graph.function("my", "Cut", "Slice", &["a", "b", "c"], &["d"]);
            graph.node("my:Cut", &["n", "zero", "zero"], &["cut"], &[]);
            graph.node("Sub", &["cut", "one"], &["less"], &[]);
            graph.node(operator, &["one", "less"], &["y"], &[]);
        });
        assert!(moved.is_some(), "{operator}");
        for bounded in ["Max", "Clip"] {
            let found = reason(|graph| {
                graph.node(bounded, &["n", "one"], &["bounded"], &[]);
                graph.node("Unsqueeze", &["bounded", "zero"], &["wide"], &[]);
                graph.node(operator, &["one", "wide"], &["y"], &[]);
            });
            assert_eq!(found, None, "{operator} {bounded}");
        }
    }
}

#[test]
fn other_divisions_do_not() {
    let harmless: [&dyn Fn(&mut Graph); 4] = [
        &|graph| graph.node("Div", &["n", "one"], &["y"], &[]),
        &|graph| graph.node("Div", &["x", "x"], &["y"], &[]),
        &|graph| graph.node("Mod", &["one", "n"], &["y"], &[("fmod", Attribute::Int(1))]),
        // The shape of the request, which has elements.
        &|graph| {
            graph.node("Shape", &["x"], &["shape"], &[]);
            graph.node("Div", &["n", "shape"], &["y"], &[]);
        },
    ];
    for (at, build) in harmless.iter().enumerate() {
        assert_eq!(reason(|graph| build(graph)), None, "{at}");
    }
}

#[test]
fn sizes_that_numbers_of_the_request_choose_end_the_process_in_recurrent_layers() {
    for operator in ["GRU", "LSTM"] {
        assert_eq!(reason(|graph| recurrent(graph, operator, "x")), None, "{operator}");
        let found = reason(|graph| {
            graph.node("Greater", &["n", "one"], &["flags"], &[]);
            graph.node("Compress", &["x", "flags"], &["part"], &[("axis", Attribute::Int(1))]);
            graph.node("Identity", &["part"], &["same"], &[]);
            recurrent(graph, operator, "same");
        });
        assert!(found.as_ref().is_some_and(|found| found.contains(&format!("({operator})"))), "{found:?}");
    }
    // Cut to a length that the request names: an LSTM answers it, a GRU ends the process.
    let found = ["GRU", "LSTM"].map(|operator| {
        reason(|graph| {
            graph.node("Slice", &["x", "zero", "n"], &["part"], &[]);
            recurrent(graph, operator, "part");
        })
        .is_some()
    });
    assert_eq!(found, [true, false]);
    let framed = reason(|graph| graph.node("STFT", &["x", "n"], &["y"], &[]));
    assert!(framed.is_some_and(|found| found.contains("frame step")));
}

#[test]
fn bodies_see_what_is_around_them_and_leave_nothing() {
    let mut body = Graph::default();
    body.node("Div", &["one", "n"], &["inner"], &[]);
    body.output("inner", INT64);
    let branches =
        |body: &Graph| ["then_branch", "else_branch"].map(|name| (name, Attribute::Graph(body.body())));
    let found = reason(|graph| graph.node("If", &["x"], &["y"], &branches(&body)));
    assert!(found.is_some_and(|found| found.contains("(Div)")));
    // A name that a body gives to a value of the request is not that value outside.
    let mut renames = Graph::default();
    renames.node("Identity", &["n"], &["later"], &[]);
    renames.output("later", INT64);
    let found = reason(|graph| {
        graph.node("If", &["x"], &["z"], &branches(&renames));
        graph.node("Identity", &["one"], &["later"], &[]);
        graph.node("Div", &["n", "later"], &["y"], &[]);
    });
    assert_eq!(found, None);
}
