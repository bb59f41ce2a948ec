//! Models read from their bytes: interfaces, files of weights, and hostile models.

use std::collections::BTreeSet;

use slipway_onnx_graph::{Fault, Interface, TensorSpec, read};

const MODEL: &[u8] = include_bytes!("../../../slipway/tests/fixtures/right-1.onnx");

/// What the registry keeps of a model.
#[derive(Debug)]
struct Header {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    external_data: BTreeSet<String>,
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
    let output = field(12, &[&field(1, &[b"y"])]);
    let graph = field(7, &[&graph.concat(), &output]);
    [&[8, 10][..], &graph, &field(8, &[]), &more.concat()].concat()
}

/// A tensor whose numbers lie in a file.
fn outside(location: &str) -> Vec<u8> {
    field(13, &[&field(1, &[b"location"]), &field(2, &[location.as_bytes()])])
}

#[test]
fn files_are_found_wherever_a_graph_names_them() {
    let in_constant = field(1, &[&field(5, &[&field(5, &[&outside("../constant")])])]);
    let body = field(6, &[&field(5, &[&outside("../in/loop")]), &in_constant]);
    let in_loop = field(1, &[&field(4, &[b"Loop"]), &field(5, &[&body])]);
    let sparse = field(15, &[&field(1, &[&outside("../sparse")])]);
    let function =
        field(25, &[&field(1, &[b"f"]), &field(7, &[&field(5, &[&field(5, &[&outside("../function")])])])]);
    let bytes = model(&[&in_loop, &sparse, &field(5, &[&outside("weights")])], &[&function]);
    let found = header(&bytes).unwrap().external_data;
    let expected = ["../constant", "../function", "../in/loop", "../sparse", "weights"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
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
    // An initializer of two 64-bit numbers, and a constant of the same, each the shape of what an operator makes.
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
    // Only where every part that the header needs is whole can a cut pass, and then trailing parts are missing.
    assert!(accepted.len() <= 1, "cut at {accepted:?} of {}", MODEL.len());
}
