//! Serving keeps to its OpenAPI document.

use serde_json::json;
use slipway_testkit::Contract;

use crate::serving::{Serving, cache};
use crate::world::{DEPLOYMENT, World, canary};

/// Operations that never succeed, because what they are for is not supported.
const UNSUPPORTED: [&str; 8] = [
    "get /v2/systemsharedmemory/region/{region}/status",
    "get /v2/cudasharedmemory/region/{region}/status",
    "post /v2/systemsharedmemory/region/{region}/register",
    "post /v2/cudasharedmemory/region/{region}/register",
    "post /v2/repository/models/{name}/unload",
    "post /v2/repository/{repository}/models/{name}/unload",
    "post /v2/repository/models/{name}/load",
    "post /v2/repository/{repository}/models/{name}/load",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_response_is_as_the_document_says() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&canary(1, &first, &second, 50)).await;
    let serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    let tensor = json!({"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 1]});
    let base = serving.url("");
    let report = Contract::of(&base)
        .knowing("name", &[json!(DEPLOYMENT)])
        .knowing("post /v1/models/{name} name", &[json!(format!("{DEPLOYMENT}:predict"))])
        .knowing("version", &[json!("1"), json!("2")])
        .knowing("inputs", &[json!([tensor])])
        .knowing("outputs", &[json!([]), json!([{"name": "score"}])])
        .knowing("parameters", &[json!({})])
        .knowing("instances", &[json!([[1, 1]]), json!([{"x": [1, 1]}])])
        .knowing("labels", &[json!([{"request_id": "r-1", "label": 1}])])
        .run()
        .await;
    report.require(&UNSUPPORTED);
}
