//! Models loaded and run by the real ONNX Runtime.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod batching;
mod joining;
mod row_wise;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use slipway_inference::{
    Data, Datatype, Device, EmptyDimensions, Environment, Error, LoadOptions, Model, Request, Tensor,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn environment() -> Environment {
    Environment::load(&slipway_testkit::onnxruntime_library()).expect("the library loads")
}

fn request(inputs: Vec<Tensor>) -> Request {
    Request::new(Arc::new(inputs))
}

fn load(name: &str) -> Result<Model, Error> {
    Model::load(&environment(), &fixture(name), LoadOptions::default())
}

/// Dimensions that this process survives being empty.
fn surviving(name: &str) -> Vec<EmptyDimensions> {
    let model = load(name).expect("the model loads");
    model.empty_candidates().iter().inspect(|empty| model.try_empty(empty)).cloned().collect()
}

fn bytes(tensor: &Tensor) -> &[u8] {
    let Data::Raw(bytes) = &tensor.data else { unreachable!("the test asks for numbers") };
    bytes
}

#[tokio::test]
async fn a_model_answers_with_every_output() {
    let model = load("linear_minus_one.onnx").unwrap();
    assert_eq!(model.signature().inputs[0].shape, [-1, 2]);
    assert_eq!(model.signature().outputs[1].datatype, Datatype::Int64);
    let inputs = vec![Tensor::fp32("x", [2, 2], &[1.0, 1.0, 0.0, 0.25])];
    let inference = model.infer(request(inputs)).await.unwrap();
    let scores: Vec<u8> = [2.0_f32, -0.5].iter().flat_map(|value| value.to_le_bytes()).collect();
    let labels: Vec<u8> = [1_i64, 0].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(
        (inference.outputs[0].name.as_str(), bytes(&inference.outputs[0])),
        ("score", scores.as_slice())
    );
    assert_eq!(inference.outputs[1].shape, [2]);
    assert_eq!(bytes(&inference.outputs[1]), labels);
}

#[tokio::test]
async fn every_datatype_goes_through_unchanged() {
    let model = load("identities.onnx").unwrap();
    let inputs: Vec<Tensor> = model
        .signature()
        .inputs
        .iter()
        .map(|spec| match spec.datatype.element_bytes() {
            // One, as each type writes it, is as good as any value; for BOOL nothing else but zero is
            // allowed.
            Some(each) => {
                let element: Vec<u8> = (0..each).map(|at| u8::from(at == 0)).collect();
                Tensor::raw(&spec.name, spec.datatype, [3], element.repeat(3))
            }
            None => Tensor::strings(&spec.name, [3], vec!["a".into(), String::new(), "Grüße".into()]),
        })
        .collect();
    let inference = model.infer(request(inputs.clone())).await.unwrap();
    for (input, output) in inputs.iter().zip(&inference.outputs) {
        assert_eq!(
            (input.datatype, &input.shape, &input.data),
            (output.datatype, &output.shape, &output.data)
        );
    }
}

#[tokio::test]
async fn brain_floats_go_through_unchanged() {
    let model = load("brain_identity.onnx").unwrap();
    assert_eq!(model.signature().inputs[0].datatype, Datatype::Bf16);
    let input = Tensor::raw("bf16_in", Datatype::Bf16, [2], vec![0x80, 0x3f, 0xc0, 0x7f]);
    let inference = model.infer(request(vec![input])).await.unwrap();
    assert_eq!(bytes(&inference.outputs[0]), [0x80, 0x3f, 0xc0, 0x7f]);
}

#[tokio::test]
async fn rows_of_none_are_answered_with_none() {
    let none = || request(vec![Tensor::fp32("x", [0, 2], &[])]);
    let untried = load("linear_minus_one.onnx").unwrap();
    let refused = untried.infer(none()).await.unwrap_err().to_string();
    assert!(refused.contains("shape [0, 2], which holds no elements"), "{refused}");
    let options = LoadOptions { empty: surviving("linear_minus_one.onnx"), ..LoadOptions::default() };
    let model = Model::load(&environment(), &fixture("linear_minus_one.onnx"), options).unwrap();
    let inference = model.infer(none()).await.unwrap();
    assert_eq!(inference.outputs[0].shape, [0, 1]);
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    let reason = load("sequence.onnx").unwrap_err().to_string();
    assert!(reason.contains("output 'list' is Sequence") && !reason.contains("zipmap"), "{reason}");
    let reason = load("make_models.py").unwrap_err().to_string();
    assert!(reason.starts_with("its file is no ONNX model"), "{reason}");
    assert!(!reason.contains(env!("CARGO_MANIFEST_DIR")), "{reason}");
}

#[tokio::test]
async fn a_failure_in_the_runtime_leaves_the_model_usable() {
    let model = load("gather.onnx").unwrap();
    let index =
        |value: i64| request(vec![Tensor::raw("index", Datatype::Int64, [1], value.to_le_bytes().to_vec())]);
    let error = model.infer(index(7)).await.unwrap_err();
    assert!(matches!(&error, Error::Runtime(reason) if reason.contains("out of data bounds")), "{error}");
    assert_eq!(bytes(&model.infer(index(2)).await.unwrap().outputs[0]), 3.0_f32.to_le_bytes());
}

#[test]
fn a_device_that_is_not_there_is_refused_or_replaced_by_the_processor() {
    let load = |fallback| {
        let options = LoadOptions { device: Device::Cuda, fallback, ..LoadOptions::default() };
        Model::load(&environment(), &fixture("linear_minus_one.onnx"), options)
    };
    let refused = load(false).unwrap_err().to_string();
    assert!(refused.contains("the device 'cuda' is not available"), "{refused}");
    assert_eq!(load(true).unwrap().device(), Device::Cpu);
}

#[tokio::test]
async fn strings_that_are_not_utf8_go_through_octet_by_octet() {
    let model = load("words.onnx").unwrap();
    let elements = vec![Bytes::from_static(b"\xff\xfe"), Bytes::from_static("ä".as_bytes()), Bytes::new()];
    let tensor = |data| Tensor { name: "words_in".into(), datatype: Datatype::Bytes, shape: vec![3], data };
    let answer = model.infer(request(vec![tensor(Data::of_octets(elements.clone()))])).await.unwrap();
    assert_eq!(answer.outputs[0].data, Data::Octets(elements));
    let nul = Data::of_octets(vec![Bytes::from_static(b"\xff\0"), Bytes::new(), Bytes::new()]);
    let refused = model.infer(request(vec![tensor(nul)])).await.unwrap_err().to_string();
    assert_eq!(refused, "input 'words_in' has a NUL in element 0; ONNX strings cannot hold it");
}

#[tokio::test]
async fn an_input_with_a_default_may_be_left_out_and_is_never_mixed_with_others() {
    let options = LoadOptions { instances: 1, ..LoadOptions::default() };
    let model =
        Arc::new(Model::load(&environment(), &fixture("optional.onnx"), options).expect("the model loads"));
    let signature = model.signature();
    assert_eq!((signature.inputs.len(), signature.optional[0].name.as_str()), (1, "t"));
    let asked = (0..200_i16).map(|at| {
        let model = Arc::clone(&model);
        tokio::spawn(async move {
            let start = f32::from(at);
            let mut inputs = vec![Tensor::fp32("x", [1, 2], &[start, 0.0])];
            let shift = if at % 3 == 0 { 0.5 } else { start };
            if at % 3 > 0 {
                inputs.insert(usize::from(at % 2 == 0), Tensor::fp32("t", [1], &[shift]));
            }
            // Past the quick way, so that requests gather.
            let answer = model.infer_queued(request(inputs)).await.expect("it answers");
            let expected: Vec<u8> =
                [start + shift, shift].iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(bytes(&answer.outputs[0]), expected, "request {at}");
        })
    });
    for answered in asked.collect::<Vec<_>>() {
        answered.await.expect("it is right");
    }
}
