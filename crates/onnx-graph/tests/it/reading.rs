//! Models read from their bytes: interfaces, files of weights, and hostile models.

use std::collections::BTreeMap;

use slipway_onnx_graph::{Fault, Interface, TensorSpec, read};

const MODEL: &[u8] = include_bytes!("../../../testkit/fixtures/right-1.onnx");

/// What the registry keeps of a model.
#[derive(Debug)]
struct Header {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    external_data: BTreeMap<String, u64>,
    unservable: Option<String>,
}

fn header(bytes: &[u8]) -> Result<Header, Fault> {
    let model = read(bytes, bytes.len() as u64)?;
    let Interface { inputs, outputs, unservable } = model.interface()?;
    Ok(Header { inputs, outputs, external_data: model.external_data, unservable })
}

#[test]
fn inputs_and_outputs_are_read_without_the_weights() {
    let header = header(MODEL).unwrap();
    let shown: Vec<_> =
        header.inputs.iter().map(|spec| (&*spec.name, spec.datatype.name(), &*spec.shape)).collect();
    assert_eq!(shown, [("input", "FP32", &[-1, 2][..])]);
    let shown: Vec<_> = header.outputs.iter().map(|spec| (&*spec.name, spec.datatype.name())).collect();
    assert_eq!(shown, [("label", "INT64"), ("score", "FP32")]);
    assert_eq!(header.unservable, None);
}

/// A field that holds `parts`, one after another.
fn field(number: u64, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = Vec::new();
    for mut value in [number << 3 | 2, body.len() as u64] {
        while value > 0x7f {
            bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    [bytes, body].concat()
}

/// A model of these parts of a graph and these of its own.
fn model(graph: &[&[u8]], more: &[&[u8]]) -> Vec<u8> {
    let output = field(12, &[&field(1, &[b"y"]), &field(2, &[&field(1, &[&[0x08, 1]])])]);
    let graph = field(7, &[&graph.concat(), &output]);
    [&[8, 10][..], &graph, &field(8, &[&[0x10, 17]]), &more.concat()].concat()
}

/// A FP32 tensor of two elements, whose numbers lie in a file.
fn outside(location: &str) -> Vec<u8> {
    outside_as(location, location, &[])
}

fn outside_as(name: &str, location: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut tensor = [&[0x08, 2, 0x10, 1][..], &field(8, &[name.as_bytes()])].concat();
    for (key, value) in [("location", location)].iter().chain(more) {
        tensor.extend(field(13, &[&field(1, &[key.as_bytes()]), &field(2, &[value.as_bytes()])]));
    }
    [tensor, vec![0x70, 1]].concat()
}

/// Every place of a model where a tensor may be.
fn places(tensor: &dyn Fn(&str) -> Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    let attribute = |number: u64, name: &str| field(5, &[&field(number, &[&tensor(name)])]);
    let node = |attribute: &[u8]| field(1, &[&field(4, &[b"Constant"]), attribute]);
    let sparse = |name: &str| field(1, &[&tensor(name)]);
    let graph = |name: &str| field(5, &[&tensor(name)]);
    let in_node = |body: &[u8]| model(&[&node(&field(5, &[body]))], &[]);
    let training = |number: u64| field(20, &[&field(number, &[&graph("training")])]);
    let function = |body: &[u8]| model(&[], &[&field(25, &[&field(1, &[b"f"]), body])]);
    vec![
        ("initializer", model(&[&field(5, &[&tensor("w")])], &[])),
        ("sparse initializer", model(&[&field(15, &[&sparse("w")])], &[])),
        ("sparse indices", model(&[&field(15, &[&field(2, &[&tensor("w")])])], &[])),
        ("attribute", model(&[&node(&attribute(5, "w"))], &[])),
        ("attributes", model(&[&node(&attribute(10, "w"))], &[])),
        ("sparse attribute", in_node(&field(22, &[&sparse("w")]))),
        ("sparse attributes", in_node(&field(23, &[&sparse("w")]))),
        ("branch", in_node(&field(6, &[&graph("w")]))),
        ("branches", in_node(&field(11, &[&graph("w")]))),
        ("function", function(&field(7, &[&attribute(5, "w")]))),
        ("default of a function", function(&field(11, &[&field(5, &[&tensor("w")])]))),
        ("branch of a function", function(&field(7, &[&field(5, &[&field(6, &[&graph("w")])])]))),
        ("training", model(&[], &[&training(1)])),
        ("training's algorithm", model(&[], &[&training(2)])),
    ]
}

#[test]
fn files_are_found_wherever_a_graph_names_them() {
    for (place, bytes) in places(&|name| outside_as(name, "a/weights", &[("offset", "16"), ("length", "8")]))
    {
        let found = header(&bytes).unwrap().external_data;
        assert_eq!(found, BTreeMap::from([("a/weights".to_owned(), 24)]), "{place}");
    }
    // The furthest end of all tensors of a file counts.
    let far = outside_as("far", "weights", &[("offset", "4096")]);
    let bytes = model(&[&field(5, &[&far]), &field(5, &[&outside("./weights")])], &[]);
    let read = read(bytes.as_slice(), bytes.len() as u64).unwrap();
    assert_eq!((read.external_data.get("weights"), read.unsafe_to_load()), (Some(&4104), None));
    assert_eq!(read.weights_in(|_| Some(4104)), None);
    assert!(read.weights_in(|_| Some(4103)).unwrap().contains("the file has 4103 bytes"));
    assert!(read.weights_in(|_| None).unwrap().contains("has no such file"));
}

/// Why a model is not loaded.
fn hazard(bytes: &[u8]) -> String {
    let read = read(bytes, bytes.len() as u64).unwrap();
    let reason = read.unsafe_to_load().unwrap_or_default();
    // The registry says the same.
    assert_eq!(read.interface().unwrap().unservable.unwrap_or_default().is_empty(), reason.is_empty());
    reason
}

#[test]
fn an_address_in_memory_and_other_places_are_no_files_wherever_they_are_named() {
    for location in
        ["*/_ORT_MEM_ADDR_/*", "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*", "../w", "/etc/passwd", "C:\\w", "a\0b"]
    {
        for (place, bytes) in
            places(&|name| outside_as(name, location, &[("offset", "4096"), ("length", "8")]))
        {
            let reason = hazard(&bytes);
            assert!(reason.contains("weights lie at"), "{place} {location}: {reason}");
        }
    }
}

#[test]
fn what_a_tensor_holds_is_as_long_as_its_shape_wherever_it_is() {
    let of = |raw: &'static [u8]| {
        move |name: &str| [&[0x08, 2, 0x10, 1][..], &field(8, &[name.as_bytes()]), &field(9, &[raw])].concat()
    };
    for (place, bytes) in places(&of(b"1234")) {
        let reason = hazard(&bytes);
        assert!(reason.contains("holds 4 bytes of raw_data"), "{place}: {reason}");
    }
    for (place, bytes) in places(&of(b"12345678")) {
        let reason = hazard(&bytes);
        // Parts of sparse tensors that lack the rest of it.
        assert_eq!(reason.contains("sparse tensor"), place.starts_with("sparse"), "{place}: {reason}");
    }
}

#[test]
fn a_reference_that_is_hidden_in_the_format_is_found_or_refused() {
    let parts = |tensor: &[u8]| model(&[&field(1, &[&field(5, &[&field(5, &[tensor])])])], &[]);
    // Protobuf merges a message that comes twice: the first says that there is a file, the second which.
    let (first, second) = (outside_as("w", "ok", &[]), vec![0x08, 2]);
    let twice = field(1, &[&field(5, &[&field(5, &[&first]), &field(5, &[&second])])]);
    let Err(Fault::Malformed(why)) = header(&model(&[&twice], &[])) else { unreachable!() };
    assert!(why.contains("comes twice"), "{why}");
    // Protobuf cuts numbers off at 32 bits: this is EXTERNAL, too, and the tag is that of `data_location`.
    let long = |tensor: &[u8]| [tensor, &[0x70, 0x81, 0x80, 0x80, 0x80, 0x10]].concat();
    let inner = [&[0x08, 2, 0x10, 1][..], &field(8, &[b"w"])].concat();
    assert!(hazard(&parts(&long(&inner))).contains("no location"));
    let long_tag = [inner.as_slice(), &[0xf0, 0x80, 0x80, 0x80, 0x10, 1]].concat();
    assert!(matches!(header(&parts(&long_tag)), Err(Fault::Malformed(_))));
    // An element type of more than 32 bits is one of fewer.
    let wide = [&[0x08, 2, 0x10, 0x81, 0x80, 0x80, 0x80, 0x10][..], &field(9, &[b"1234"])].concat();
    assert!(hazard(&parts(&wide)).contains("takes 8"));
    let undeclared = outside_as("w", "w", &[]);
    assert!(hazard(&parts(&undeclared[..undeclared.len() - 2])).contains("does not say"));
    let both = [outside_as("w", "w", &[]), field(9, &[b"12345678"])].concat();
    assert!(hazard(&parts(&both)).contains("both in the model and in a file"));
    for (key, value) in [("prepacked_1", "k|0;9;0"), ("offset", "-8"), ("length", "9"), ("location", "w")] {
        assert!(!hazard(&parts(&outside_as("w", "w", &[(key, value)]))).is_empty(), "{key}");
    }
}

#[test]
fn sparse_tensors_write_within_their_shape() {
    let ints = |shape: &[u8], values: &[i64]| {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let shape: Vec<u8> = shape.iter().flat_map(|size| [0x08, *size]).collect();
        [shape, vec![0x10, 7], field(9, &[&raw])].concat()
    };
    let sparse = |values: &[u8], indices: &[u8], shape: &[u8]| {
        let shape: Vec<u8> = shape.iter().flat_map(|size| [0x18, *size]).collect();
        model(&[&field(15, &[&field(1, &[values]), &field(2, &[indices]), &shape])], &[])
    };
    let two = ints(&[2], &[1, 1]);
    assert_eq!(hazard(&sparse(&two, &ints(&[2], &[0, 7]), &[8])), "");
    assert_eq!(hazard(&sparse(&two, &ints(&[2, 2], &[0, 1, 3, 1]), &[4, 2])), "");
    for (indices, shape, why) in [
        (ints(&[2], &[0, 8]), &[8][..], "the index 8 is not below 8"),
        (ints(&[2], &[0, -1]), &[8], "the index -1"),
        (ints(&[2], &[0, 1 << 40]), &[8], "the index 1099511627776"),
        (ints(&[2, 2], &[0, 1, 3, 2]), &[4, 2], "the index 2 is not below 2"),
        (ints(&[1], &[0]), &[8], "for 2 values"),
        (ints(&[2, 3], &[0; 6]), &[4, 2], "for 2 values"),
        (vec![0x08, 2, 0x10, 6, 0x2a, 2, 0, 1], &[8], "not INT64"),
    ] {
        let reason = hazard(&sparse(&two, &indices, shape));
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn names_that_come_twice_and_versions_that_no_runtime_has_are_refused() {
    let w = field(5, &[&[0x08, 0, 0x10, 1][..], &field(8, &[b"w"])]);
    assert_eq!(hazard(&model(&[&w], &[])), "");
    assert!(hazard(&model(&[&w, &w], &[])).contains("two initializers of the name 'w'"));
    // The last one counts.
    assert!(hazard(&model(&[], &[&[0x08, 99]])).contains("IR version 99"));
    let opset = |version: u8| field(8, &[&[0x10, version]]);
    assert_eq!(hazard(&model(&[], &[&opset(17)])), "");
    assert!(hazard(&model(&[], &[&opset(99)])).contains("version 99 of the operators"));
    let node = field(1, &[&field(4, &[b"EPContext"]), &field(7, &[b"com.microsoft"])]);
    assert!(hazard(&model(&[&node], &[])).contains("EPContext"));
    let call = |name: &str| [field(4, &[name.as_bytes()]), field(7, &[b"my"])].concat();
    let function = |name: &str, calls: &str| {
        field(25, &[&field(1, &[name.as_bytes()]), &field(10, &[b"my"]), &field(7, &[&call(calls)])])
    };
    let node = field(1, &[&call("a")]);
    assert_eq!(
        hazard(&model(&[&node], &[&function("a", "b"), &function("b", "c"), &function("c", "")])),
        "it needs the operator 'my::', which would have to be loaded as code of its own"
    );
    let cycle = hazard(&model(&[&node], &[&function("a", "b"), &function("b", "a")]));
    assert!(cycle.contains("calls itself"), "{cycle}");
}

#[test]
fn operators_that_nobody_has_and_tensors_that_burst_are_not_served() {
    let node = |set: &str, operator: &str| {
        field(1, &[&field(4, &[operator.as_bytes()]), &field(7, &[set.as_bytes()])])
    };
    let foreign =
        header(&model(&[&node("", "Add"), &node("com.microsoft", "Gelu"), &node("evil", "Run")], &[]));
    let reason = foreign.unwrap().unservable.unwrap();
    assert!(reason.contains("'evil::Run'"), "{reason}");
    let function =
        field(25, &[&field(1, &[b"Run"]), &field(10, &[b"evil"]), &field(7, &[&field(4, &[b"Add"])])]);
    let defined = header(&model(&[&node("evil", "Run")], &[&function])).unwrap();
    assert!(!defined.unservable.unwrap_or_default().contains("evil"), "the model brings it along");
    // 2^40 elements of which one is there.
    let dimensions = [0x18, 0x80, 0x80, 0x40, 0x18, 0x80, 0x80, 0x40];
    let bomb = header(&model(&[&field(15, &[&dimensions])], &[])).unwrap();
    assert!(bomb.unservable.unwrap().contains("1099511627776 elements"));
    let mut deep = Vec::new();
    for _ in 0..40 {
        deep = field(1, &[&field(5, &[&field(6, &[&deep])])]);
    }
    let Err(Fault::Malformed(why)) = header(&model(&[&deep], &[])) else { unreachable!() };
    assert!(why.contains("deep"), "{why}");
}

#[test]
fn a_shape_that_is_filled_is_no_larger_than_a_machine() {
    let numbers = |one: u64, two: u64| [one.to_le_bytes(), two.to_le_bytes()].concat();
    // An initializer of two 64-bit numbers, and a constant of the same, each the shape of what an operator
    // makes.
    let tensor = |name: &str, raw: &[u8]| {
        [&[0x08, 2, 0x10, 7][..], &field(8, &[name.as_bytes()]), &field(9, &[raw])].concat()
    };
    let fill = field(1, &[&field(1, &[b"s"]), &field(4, &[b"ConstantOfShape"])]);
    let expand = field(1, &[&field(1, &[b"x"]), &field(1, &[b"c"]), &field(4, &[b"Expand"])]);
    let constant = |raw: &[u8]| {
        let value = field(5, &[&field(5, &[&tensor("", raw)])]);
        field(1, &[&field(2, &[b"c"]), &field(4, &[b"Constant"]), &value])
    };
    for (shape, allowed) in [(numbers(1 << 20, 1 << 8), true), (numbers(1 << 20, 1 << 20), false)] {
        let initializer = field(5, &[&tensor("s", &shape)]);
        let filled = header(&model(&[&fill, &initializer], &[])).unwrap().unservable.unwrap_or_default();
        assert_eq!(!filled.contains("ConstantOfShape makes"), allowed, "{filled}");
        let grown =
            header(&model(&[&constant(&shape), &expand], &[])).unwrap().unservable.unwrap_or_default();
        assert_eq!(!grown.contains("Expand makes"), allowed, "{grown}");
    }
}

#[test]
fn garbage_and_every_cut_off_model_are_refused() {
    for bytes in [&b""[..], b"this is no model at all", &[0xff; 64], &[0; 64]] {
        assert!(header(bytes).is_err(), "{bytes:?}");
    }
    let mut accepted = Vec::new();
    for end in 1..MODEL.len() {
        if header(&MODEL[..end]).is_ok() {
            accepted.push(end);
        }
    }
    // Only where every part that the header needs is whole can a cut pass, and then trailing parts are
    // missing.
    assert!(accepted.len() <= 1, "cut at {accepted:?} of {}", MODEL.len());
}
