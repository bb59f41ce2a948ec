//! Which models are joined, and what audits find.

use std::sync::Arc;

use slipway_inference::{Batching, Data, Inference, Joining, LoadOptions, Model, Request, Tensor};
use slipway_testkit::onnx::{self, Attribute, Graph};

use crate::{bytes, environment, request};

fn load(bytes: &[u8], batching: Batching) -> Arc<Model> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    // One run at a time, so that requests gather behind it.
    let options = LoadOptions { instances: 1, batching, ..LoadOptions::default() };
    Arc::new(Model::load(&environment(), &path, options).unwrap())
}

fn declared() -> Batching {
    Batching { join: Some(true), ..Batching::default() }
}

fn one(value: f32) -> Request {
    request(vec![Tensor::fp32("x", [1, 2], &[value, value])])
}

/// Many at the same time; the answers in their order.
async fn ask(model: &Arc<Model>, count: u16) -> Vec<Inference> {
    let calls: Vec<_> = (1..=count)
        .map(|at| {
            let model = Arc::clone(model);
            tokio::spawn(async move { model.infer(one(f32::from(at))).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().unwrap());
    }
    answers
}

fn is_right(answer: &Inference) -> bool {
    bytes(&answer.outputs[0])
        .as_chunks::<4>()
        .0
        .iter()
        .all(|value| (f32::from_le_bytes(*value) - 1.0).abs() < 1e-3)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_rows_interact_is_answered_as_if_nobody_else_asked() {
    let model = load(&onnx::share_of_maximum(), Batching::default());
    let Joining::Off(reason) = model.joining() else { panic!("it is joined") };
    assert!(reason.contains("ReduceMax") && reason.contains("all rows"), "{reason}");
    let answers = ask(&model, 40).await;
    assert!(answers.iter().all(|answer| is_right(answer) && answer.batch_rows == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_finds_a_model_that_was_declared_wrongly_before_it_answers() {
    let model = load(&onnx::share_of_maximum(), declared());
    assert_eq!(model.joining(), Joining::Declared);
    // The first joined run is audited; until there is one, there is nothing to find.
    for _ in 0..20 {
        assert!(ask(&model, 40).await.iter().all(is_right));
        if !model.is_batchable() {
            break;
        }
    }
    let Joining::Stopped(found) = model.joining() else { panic!("nothing was found") };
    assert_eq!((found.output.as_str(), found.alone.as_str(), found.request_rows), ("y", "1", 1));
    assert!(found.run_rows > 1 && found.joined.parse::<f64>().unwrap() < 1.0, "{found}");
    assert_eq!((model.audits().agreed, model.audits().differed), (0, 1));
    assert!(ask(&model, 40).await.iter().all(|answer| answer.batch_rows == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_decide_before_the_analysis_does() {
    let mut graph = Graph::default();
    graph.input("x", onnx::FLOAT, &[None, Some(2)]);
    graph.node("Relu", &["x"], &["y"], &[]);
    graph.output("y", onnx::FLOAT);
    let model = graph.model(17);
    assert_eq!(load(&model, Batching::default()).joining(), Joining::Proven);
    assert_eq!(load(&model, declared()).joining(), Joining::Declared);
    for batching in
        [Batching { join: Some(false), ..Batching::default() }, Batching { max_rows: 1, ..declared() }]
    {
        assert!(matches!(load(&model, batching).joining(), Joining::Off(_)));
    }
    let mut fixed = Graph::default();
    fixed.input("x", onnx::FLOAT, &[Some(1), Some(2)]);
    fixed.node("Relu", &["x"], &["y"], &[]);
    fixed.output("y", onnx::FLOAT);
    let refused = load(&fixed.model(17), declared()).joining();
    assert!(refused.to_string().contains("the first dimension of input 'x' does not vary"), "{refused}");
}

#[tokio::test]
async fn a_classifier_with_zip_map_answers_with_a_tensor_and_names_its_classes() {
    let mut graph = Graph::default();
    graph.input("x", onnx::FLOAT, &[None, Some(2)]);
    graph.node("Softmax", &["x"], &["probabilities"], &[]);
    let classes = [("classlabels_strings", Attribute::Texts(vec!["ja".into(), "nein".into()]))];
    graph.node("ai.onnx.ml:ZipMap", &["probabilities"], &["output_probability"], &classes);
    graph.map_output("output_probability", onnx::STRING);
    let model = load(&graph.model(17), Batching::default());
    assert_eq!(model.signature().outputs[0].shape, [-1, 2]);
    assert_eq!(model.classes()["output_probability"], ["ja", "nein"]);
    assert_eq!(model.joining(), Joining::Proven);
    let answer = model.infer(request(vec![Tensor::fp32("x", [1, 2], &[3.0, 3.0])])).await.unwrap();
    assert_eq!(answer.outputs[0].name, "output_probability");
    let Data::Raw(raw) = &answer.outputs[0].data else { unreachable!("numbers") };
    assert_eq!(raw.as_ref(), [0.5_f32.to_le_bytes(), 0.5_f32.to_le_bytes()].concat());
}
