//! ZipMap nodes are replaced, and what other outputs are is said.

use slipway_domain::datatype::Datatype;
use slipway_onnx_graph::{ValueKind, read, zip_map};
use slipway_testkit::onnx::{Attribute, FLOAT, Graph, INT64, STRING};

fn classifier(classes: Attribute, key: i64) -> Vec<u8> {
    let name = if key == STRING { "classlabels_strings" } else { "classlabels_int64s" };
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, Some(2)]);
    graph.node("Softmax", &["x"], &["probabilities"], &[]);
    graph.node("ai.onnx.ml:ZipMap", &["probabilities"], &["output_probability"], &[(name, classes)]);
    graph.map_output("output_probability", key);
    graph.model(17)
}

#[test]
fn maps_become_tensors_with_named_classes() {
    let words = Attribute::Texts(vec!["ja".into(), "nein".into()]);
    for (bytes, classes) in [
        (classifier(words, STRING), ["ja", "nein"]),
        (classifier(Attribute::Ints(vec![-1, 7]), INT64), ["-1", "7"]),
    ] {
        let model = read(bytes.as_slice(), bytes.len() as u64).unwrap();
        let interface = model.interface().unwrap();
        assert_eq!(interface.unservable, None);
        let output = &interface.outputs[0];
        assert_eq!((output.name.as_str(), output.datatype), ("output_probability", Datatype::Fp32));
        assert_eq!(
            (output.shape.as_slice(), output.classes.as_slice()),
            (&[-1, 2][..], &classes.map(String::from)[..])
        );
        let changed = zip_map::without(&bytes, &model).unwrap().unwrap();
        let changed = read(changed.as_slice(), changed.len() as u64).unwrap();
        let last = changed.graph.nodes.last().unwrap();
        assert_eq!(
            (last.operator.as_str(), last.domain.as_str(), last.inputs[0].as_str()),
            ("Identity", "", "probabilities")
        );
        let expected = ValueKind::Tensor { element: 1, shape: Some(vec![None, Some(2)]) };
        assert_eq!(changed.graph.outputs[0].kind, expected);
        assert!(zip_map::without(&bytes, &changed).unwrap().is_none(), "nothing is left to replace");
    }
}

#[test]
fn other_outputs_that_are_no_tensors_are_refused_with_their_own_cause() {
    let reason = |make: &dyn Fn(&mut Graph)| {
        let mut graph = Graph::default();
        graph.input("x", FLOAT, &[None, Some(2)]);
        make(&mut graph);
        let bytes = graph.model(17);
        read(bytes.as_slice(), bytes.len() as u64).unwrap().interface().unwrap().unservable.unwrap()
    };
    // seq(tensor(float)).
    let list = reason(&|graph| {
        graph.node("SequenceConstruct", &["x"], &["list"], &[]);
        graph.typed_output("list", 4, &[10, 4, 10, 2, 8, 1]);
    });
    assert!(
        list.starts_with("output 'list' is seq(tensor(float))") && list.contains("ConcatFromSequence"),
        "{list}"
    );
    assert!(!list.contains("zipmap"), "{list}");
    // A map that no ZipMap makes.
    let map = reason(&|graph| {
        graph.node("Identity", &["x"], &["map"], &[]);
        graph.map_output("map", INT64);
    });
    assert!(map.contains("does not come from a ZipMap node"), "{map}");
}
