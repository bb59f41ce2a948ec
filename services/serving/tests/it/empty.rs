//! Requests without elements: some end the process in ONNX Runtime, and some models need them.

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_testkit::onnx::{self, Attribute, FLOAT, Graph};

use crate::serving::{Serving, cache};
use crate::world::{World, table};

/// A GRU over `x`, which ends the process on every input without elements.
fn recurrent() -> Bytes {
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, None, Some(2)]);
    graph.constant(&onnx::floats("w", &[1, 3, 2], &[0.5; 6]));
    graph.constant(&onnx::floats("r", &[1, 3, 1], &[0.5; 3]));
    graph.node("GRU", &["x", "w", "r"], &["y"], &[("hidden_size", Attribute::Int(1))]);
    graph.output("y", FLOAT);
    graph.model(17).into()
}

/// What came before, with `x` after it: a decoder's first step has nothing before it.
fn decoder() -> Bytes {
    let mut graph = Graph::default();
    graph.input("x", FLOAT, &[None, Some(1), Some(2)]);
    graph.input("past", FLOAT, &[None, None, Some(2)]);
    graph.node("Concat", &["past", "x"], &["y"], &[("axis", Attribute::Int(1))]);
    graph.output("y", FLOAT);
    graph.model(17).into()
}

fn tensor(name: &str, shape: &[usize]) -> Value {
    let data = vec![1.0; shape.iter().product()];
    json!({"name": name, "datatype": "FP32", "shape": shape, "data": data})
}

async fn infer(serving: &Serving, inputs: Vec<Value>) -> (StatusCode, Value) {
    serving.post("/v2/models/points/infer", &json!({"inputs": inputs})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_without_elements_do_not_end_the_process() {
    for library in [slipway_testkit::onnxruntime_library(), slipway_testkit::oldest_onnxruntime_library()] {
        let (world, cache) = (World::start().await, cache());
        let model = recurrent();
        world.put(&table(1, &world.damaged_version("1", &model, &model).await)).await;
        let library = library.display().to_string();
        let serving = Serving::start(&world, &cache, &[("SLIPWAY_ONNXRUNTIME_LIB", library.as_str())]).await;
        serving.wait_until_ready().await;
        for shape in [[0, 1, 2], [1, 0, 2], [0, 0, 2]] {
            let (status, answer) = infer(&serving, vec![tensor("x", &shape)]).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{shape:?}: {answer}");
            let said = answer["error"].as_str().unwrap_or_default();
            assert!(
                said.contains(&format!("input 'x' has shape {shape:?}, which holds no elements")),
                "{said}"
            );
        }
        let (status, answer) = infer(&serving, vec![tensor("x", &[3, 1, 2])]).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_survives_inputs_without_elements_gets_them() {
    let (world, cache) = (World::start().await, cache());
    let model = decoder();
    world.put(&table(1, &world.damaged_version("1", &model, &model).await)).await;
    // The second replica knows it from the first.
    for _ in 0..2 {
        let serving = Serving::start(&world, &cache, &[]).await;
        serving.wait_until_ready().await;
        for (past, whole) in [([1, 0, 2], [1, 1, 2]), ([1, 2, 2], [1, 3, 2])] {
            let (status, answer) =
                infer(&serving, vec![tensor("x", &[1, 1, 2]), tensor("past", &past)]).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            assert_eq!(answer["outputs"][0]["shape"], json!(whole));
        }
        let (status, answer) =
            infer(&serving, vec![tensor("x", &[0, 1, 2]), tensor("past", &[0, 0, 2])]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
}
