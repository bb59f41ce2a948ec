//! Graphs as exporters write them, which have to be followed, and graphs whose rows interact, which must not
//! be.

use slipway_onnx_graph::{read, row_wise};
use slipway_testkit::onnx::{self, Attribute, FLOAT, Graph, INT64, STRING};

/// Version of `ai.onnx`.
const OPSET: i64 = 17;

fn check_as(graph: &Graph, opset: i64) -> Result<(), String> {
    let bytes = graph.model(opset);
    let model = read(bytes.as_slice(), bytes.len() as u64).unwrap();
    row_wise::check(&model).map_err(|obstacle| obstacle.to_string())
}

fn check(graph: &Graph) -> Result<(), String> {
    check_as(graph, OPSET)
}

/// `x [n, 4]`.
fn table() -> Graph {
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, Some(4)]);
    graph
}

fn int(value: i64) -> Attribute {
    Attribute::Int(value)
}

fn refused(graph: &Graph, expected: &str) {
    let reason = check(graph).expect_err(expected);
    assert!(reason.contains(expected), "{reason}");
}

#[test]
fn the_reason_names_the_node_that_mixes_rows() {
    let mut graph = table();
    graph.node("Relu", &["x"], &["a"], &[]);
    graph.node("DynamicQuantizeLinear", &["a"], &["q", "scale", "zero"], &[]);
    graph.node("DequantizeLinear", &["q", "scale", "zero"], &["y"], &[]);
    graph.output("y", FLOAT);
    assert_eq!(
        check(&graph).unwrap_err(),
        "node 'DynamicQuantizeLinear_1' (DynamicQuantizeLinear): it takes its scale from all rows of the run"
    );
    // A value that reaches no output does no harm.
    graph.output("a", FLOAT);
    let mut harmless = table();
    harmless.node("Relu", &["x"], &["a"], &[]);
    harmless.node("ReduceMax", &["x"], &["top"], &[]);
    harmless.output("a", FLOAT);
    assert_eq!(check(&harmless), Ok(()));
}

#[test]
fn a_maximum_of_a_row_depends_on_the_rows_of_the_run_where_it_has_nan() {
    for operator in ["ReduceMax", "ReduceMin"] {
        let mut graph = table();
        graph.node(operator, &["x"], &["y"], &[("axes", Attribute::Ints(vec![1]))]);
        graph.output("y", FLOAT);
        refused(&graph, "what it makes of NaN");
    }
}

#[test]
fn sums_maxima_and_fills_over_the_batch_are_refused() {
    for (operator, attributes) in [
        ("ReduceMax", vec![("keepdims", int(1))]),
        ("ReduceSum", vec![]),
        ("CumSum", vec![]),
        ("NonZero", vec![]),
        ("Unique", vec![]),
        ("ArgMax", vec![("axis", int(0))]),
        ("TopK", vec![("axis", int(0))]),
        ("Softmax", vec![("axis", int(0))]),
        ("Softmax", vec![("axis", int(-2))]),
        ("LpNormalization", vec![("axis", int(0))]),
        ("Trilu", vec![]),
        ("Bernoulli", vec![]),
        ("RandomNormalLike", vec![]),
        ("EyeLike", vec![]),
        ("com.microsoft:DynamicQuantizeMatMul", vec![]),
        ("com.microsoft:SomethingNew", vec![]),
        ("SomethingNew", vec![]),
    ] {
        let mut graph = table();
        graph.constant(&onnx::ints("zero", &[1], &[0]));
        graph.node(operator, &["x", "zero"], &["m"], &attributes);
        graph.node("Add", &["x", "m"], &["y"], &[]);
        graph.output("y", FLOAT);
        assert!(check(&graph).is_err(), "{operator} {attributes:?}");
    }
}

#[test]
fn softmax_before_version_13_normalizes_all_dimensions_from_its_axis_on() {
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, Some(2), Some(3)]);
    graph.node("Softmax", &["x"], &["y"], &[("axis", int(0))]);
    graph.output("y", FLOAT);
    assert!(check_as(&graph, 11).is_err());
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, Some(2), Some(3)]);
    graph.node("Transpose", &["x"], &["t"], &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
    graph.node("Softmax", &["t"], &["s"], &[("axis", int(0))]);
    graph.node("Transpose", &["s"], &["y"], &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
    graph.output("y", FLOAT);
    // Of version 13 it is along the other axis alone.
    assert_eq!((check_as(&graph, 13), check_as(&graph, 11).is_err()), (Ok(()), true));
}

#[test]
fn a_constant_that_is_aligned_with_the_batch_is_refused() {
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None]);
    graph.constant(&onnx::floats("c", &[4], &[1.0; 4]));
    graph.node("Add", &["x", "c"], &["y"], &[]);
    graph.output("y", FLOAT);
    refused(&graph, "the batch is aligned with a dimension that is none");
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None]);
    graph.constant(&onnx::floats("c", &[1], &[1.0]));
    graph.node("Add", &["x", "c"], &["y"], &[]);
    graph.output("y", FLOAT);
    assert_eq!(check(&graph), Ok(()));
    // Every row with every other one.
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, Some(1)]);
    graph.input("z", FLOAT, &[None]);
    graph.node("Add", &["x", "z"], &["y"], &[]);
    graph.output("y", FLOAT);
    refused(&graph, "rows of one input meet all rows of another");
}

#[test]
fn reshapes_that_keep_rows_apart_are_followed() {
    for (shape, allowed) in [
        (vec![0, -1], true),
        (vec![-1, 4], true),
        (vec![-1, 2, 2], true),
        (vec![0, 2, 2], true),
        // Two rows become one, one becomes two, or the batch one of four.
        (vec![-1, 8], false),
        (vec![-1, 2], false),
        (vec![4, -1], false),
        (vec![1, -1], false),
        (vec![8, 4], false),
    ] {
        let mut graph = table();
        graph.constant(&onnx::ints("shape", &[i64::try_from(shape.len()).unwrap()], &shape));
        graph.node("Reshape", &["x", "shape"], &["y"], &[]);
        graph.output("y", FLOAT);
        assert_eq!(check(&graph).is_ok(), allowed, "{shape:?}: {:?}", check(&graph));
    }
}

/// `x.view(x.size(0), x.size(1), 2, 4)` and back, `y.transpose(1, 2)`: attention as PyTorch exports it, with
/// a mask of the input.
#[test]
fn shapes_that_are_computed_from_the_batch_are_followed() {
    let mut graph = Graph::default();
    graph.input("tokens", INT64, &[None, None]);
    graph.input("mask", INT64, &[None, None]);
    graph.constant(&onnx::floats("table", &[9, 8], &[0.5; 72]));
    graph.constant(&onnx::floats("weights", &[8, 8], &[0.5; 64]));
    graph.constant(&onnx::floats("scale", &[], &[0.5]));
    graph.constant(&onnx::floats("large", &[1], &[-1e4]));
    for (name, value) in [("zero", 0), ("one", 1)] {
        graph.constant(&onnx::ints(name, &[], &[value]));
    }
    for (name, values) in
        [("first", &[0][..]), ("heads", &[2]), ("width", &[4]), ("all", &[8]), ("middle", &[1, 2])]
    {
        graph.constant(&onnx::ints(name, &[i64::try_from(values.len()).unwrap()], values));
    }
    graph.node("Gather", &["table", "tokens"], &["x"], &[]);
    graph.node("Shape", &["x"], &["sizes"], &[]);
    for (name, at) in [("n", "zero"), ("t", "one")] {
        graph.node("Gather", &["sizes", at], &[&format!("{name}_")], &[]);
        graph.node("Unsqueeze", &[&format!("{name}_"), "first"], &[name], &[]);
    }
    graph.node("Concat", &["n", "t", "heads", "width"], &["split"], &[("axis", int(0))]);
    graph.node("Concat", &["n", "t", "all"], &["whole"], &[("axis", int(0))]);
    graph.node("MatMul", &["x", "weights"], &["projected"], &[]);
    graph.node("Reshape", &["projected", "split"], &["by_head"], &[]);
    graph.node("Transpose", &["by_head"], &["q"], &[("perm", Attribute::Ints(vec![0, 2, 1, 3]))]);
    graph.node("Transpose", &["by_head"], &["k"], &[("perm", Attribute::Ints(vec![0, 2, 3, 1]))]);
    graph.node("MatMul", &["q", "k"], &["scores"], &[]);
    graph.node("Mul", &["scores", "scale"], &["scaled"], &[]);
    graph.node("Unsqueeze", &["mask", "middle"], &["wide"], &[]);
    graph.node("Cast", &["wide"], &["wide_float"], &[("to", int(FLOAT))]);
    graph.node("Mul", &["wide_float", "large"], &["bias"], &[]);
    graph.node("Add", &["scaled", "bias"], &["masked"], &[]);
    graph.node("Softmax", &["masked"], &["weighed"], &[("axis", int(-1))]);
    graph.node("MatMul", &["weighed", "q"], &["mixed"], &[]);
    graph.node("Transpose", &["mixed"], &["back"], &[("perm", Attribute::Ints(vec![0, 2, 1, 3]))]);
    graph.node("Reshape", &["back", "whole"], &["joined"], &[]);
    graph.node("Gather", &["joined", "zero"], &["y"], &[("axis", int(1))]);
    graph.output("y", FLOAT);
    assert_eq!(check(&graph), Ok(()));
}

#[test]
fn heads_may_share_a_dimension_with_the_batch_for_a_while() {
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, Some(6), Some(8)]);
    graph.constant(&onnx::ints("merged", &[3], &[-1, 3, 16]));
    graph.constant(&onnx::ints("apart", &[3], &[-1, 6, 8]));
    graph.node("Reshape", &["x", "merged"], &["a"], &[]);
    graph.node("Softmax", &["a"], &["b"], &[("axis", int(2))]);
    graph.node("Reshape", &["b", "apart"], &["y"], &[]);
    graph.output("y", FLOAT);
    assert_eq!(check(&graph), Ok(()));
}

/// `cls_token.expand(x.size(0), -1, -1)`, with the shape that PyTorch computes for it.
#[test]
fn a_constant_that_is_expanded_to_the_batch_has_rows() {
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, Some(5), Some(8)]);
    graph.constant(&onnx::floats("token", &[1, 1, 8], &[0.5; 8]));
    graph.constant(&onnx::ints("zero", &[], &[0]));
    graph.constant(&onnx::ints("first", &[1], &[0]));
    graph.constant(&onnx::ints("minus", &[1], &[-1]));
    graph.constant(&onnx::ints("three", &[1], &[3]));
    graph.node("Shape", &["x"], &["sizes"], &[]);
    graph.node("Gather", &["sizes", "zero"], &["n_"], &[]);
    graph.node("Unsqueeze", &["n_", "first"], &["n"], &[]);
    graph.node("Concat", &["n", "minus", "minus"], &["wanted"], &[("axis", int(0))]);
    let ones = onnx::ints("", &[1], &[1]);
    graph.node("ConstantOfShape", &["three"], &["ones"], &[("value", Attribute::Tensor(ones))]);
    graph.node("Mul", &["ones", "minus"], &["negative"], &[]);
    graph.node("Equal", &["wanted", "negative"], &["kept"], &[]);
    graph.node("Where", &["kept", "ones", "wanted"], &["shape"], &[]);
    graph.node("Expand", &["token", "shape"], &["tokens"], &[]);
    graph.node("Concat", &["tokens", "x"], &["y"], &[("axis", int(1))]);
    graph.output("y", FLOAT);
    assert_eq!(check(&graph), Ok(()));
}

#[test]
fn the_number_of_rows_is_no_value_to_compute_with() {
    let mut graph = table();
    graph.constant(&onnx::ints("zero", &[], &[0]));
    graph.node("Shape", &["x"], &["sizes"], &[]);
    graph.node("Gather", &["sizes", "zero"], &["n"], &[]);
    graph.node("Cast", &["n"], &["count"], &[("to", int(FLOAT))]);
    graph.node("Div", &["x", "count"], &["y"], &[]);
    graph.output("y", FLOAT);
    refused(&graph, "computes with the number of rows");
    let mut graph = table();
    graph.constant(&onnx::ints("zero", &[], &[0]));
    graph.constant(&onnx::ints("one", &[], &[1]));
    graph.node("Shape", &["x"], &["sizes"], &[]);
    graph.node("Gather", &["sizes", "zero"], &["n"], &[]);
    graph.node("Range", &["zero", "n", "one"], &["places"], &[]);
    graph.node("Cast", &["places"], &["y"], &[("to", int(FLOAT))]);
    graph.output("y", FLOAT);
    refused(&graph, "computes with the number of rows");
}

#[test]
fn bodies_of_branches_and_loops_are_refused() {
    let mut body = Graph::default();
    body.node("ReduceMax", &["x"], &["inner"], &[]);
    body.output("inner", FLOAT);
    let mut graph = table();
    graph.constant(&onnx::tensor("yes", onnx::BOOL, &[], &[1]));
    let branches =
        [("then_branch", Attribute::Graph(body.body())), ("else_branch", Attribute::Graph(body.body()))];
    // Its input is constant, and its body is not.
    graph.node("If", &["yes"], &["m"], &branches);
    graph.node("Add", &["x", "m"], &["y"], &[]);
    graph.output("y", FLOAT);
    refused(&graph, "bodies of branches and loops are not followed");
}

#[test]
fn inputs_and_outputs_need_a_free_first_dimension() {
    for (shape, expected) in [
        (vec![Some(1), Some(4)], "input 'x' has a first dimension of a fixed size"),
        (vec![], "input 'x' has no dimension for a batch"),
    ] {
        let mut graph = Graph::default();
        graph.input("x", FLOAT, &shape);
        graph.node("Relu", &["x"], &["y"], &[]);
        graph.output("y", FLOAT);
        refused(&graph, expected);
    }
    let mut graph = table();
    graph.node("Transpose", &["x"], &["y"], &[]);
    graph.output("y", FLOAT);
    refused(&graph, "output 'y' has the rows along dimension 1, not the first");
    let mut graph = table();
    graph.constant(&onnx::floats("c", &[2], &[1.0; 2]));
    graph.node("Identity", &["c"], &["y"], &[]);
    graph.output("y", FLOAT);
    refused(&graph, "output 'y' does not depend on the rows");
}

#[test]
fn static_quantization_is_row_wise_and_scales_per_row_are_not() {
    let quantized = |scale: &[f32], axis: i64| {
        let mut graph = table();
        graph.constant(&onnx::floats("scale", &[i64::try_from(scale.len()).unwrap()], scale));
        let zeros = vec![0; scale.len()];
        graph.constant(&onnx::tensor("zero", onnx::UINT8, &[i64::try_from(scale.len()).unwrap()], &zeros));
        graph.node("QuantizeLinear", &["x", "scale", "zero"], &["q"], &[("axis", int(axis))]);
        graph.node("DequantizeLinear", &["q", "scale", "zero"], &["y"], &[("axis", int(axis))]);
        graph.output("y", FLOAT);
        check(&graph)
    };
    assert_eq!(quantized(&[0.5], 1), Ok(()));
    assert_eq!(quantized(&[0.5; 4], 1), Ok(()));
    assert!(quantized(&[0.5; 4], 0).is_err());
    assert!(quantized(&[0.5; 4], -2).is_err());
}

/// What skl2onnx writes behind a classifier, ZipMap included.
#[test]
fn classifiers_as_skl2onnx_writes_them_are_row_wise() {
    let mut graph = table();
    graph.constant(&onnx::ints("classes", &[3], &[10, 20, 30]));
    graph.constant(&onnx::ints("flat", &[1], &[-1]));
    graph.constant(&onnx::floats("w", &[4, 3], &[0.5; 12]));
    graph.node("ai.onnx.ml:Scaler", &["x"], &["scaled"], &[]);
    graph.node("MatMul", &["scaled", "w"], &["logits"], &[]);
    graph.node("Softmax", &["logits"], &["probabilities"], &[("axis", int(1))]);
    graph.node("ArgMax", &["probabilities"], &["best"], &[("axis", int(1))]);
    graph.node("ai.onnx.ml:ArrayFeatureExtractor", &["classes", "best"], &["named"], &[]);
    graph.node("Reshape", &["named", "flat"], &["output_label"], &[]);
    let classes = [("classlabels_int64s", Attribute::Ints(vec![10, 20, 30]))];
    graph.node("ai.onnx.ml:ZipMap", &["probabilities"], &["output_probability"], &classes);
    graph.output("output_label", INT64);
    graph.map_output("output_probability", INT64);
    assert_eq!(check(&graph), Ok(()));
}

#[test]
fn an_entry_with_strings_of_several_rows_is_not_picked() {
    let picked = |element: i64| {
        let mut graph = Graph::default();
        graph.input("words", element, &[None, Some(1)]);
        graph.constant(&onnx::ints("flat", &[2], &[1, -1]));
        graph.constant(&onnx::ints("first", &[], &[0]));
        graph.node("Reshape", &["words", "flat"], &["line"], &[]);
        graph.node("Gather", &["line", "first"], &["y"], &[("axis", int(0))]);
        graph.output("y", element);
        graph
    };
    refused(&picked(STRING), "strings of several rows");
    assert_eq!(check(&picked(FLOAT)), Ok(()), "of numbers it copies all");
    let mut cast = table();
    cast.constant(&onnx::ints("first", &[], &[0]));
    cast.node("Cast", &["x"], &["text"], &[("to", int(STRING))]);
    cast.node("Transpose", &["text"], &["turned"], &[("perm", Attribute::Ints(vec![1, 0]))]);
    cast.node("Gather", &["turned", "first"], &["y"], &[("axis", int(0))]);
    cast.output("y", STRING);
    refused(&cast, "strings of several rows");
}
