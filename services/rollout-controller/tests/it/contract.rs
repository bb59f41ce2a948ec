//! The rollout controller keeps to its OpenAPI document.

use reqwest::Method;
use serde_json::json;
use slipway_testkit::Contract;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn every_response_is_as_the_document_says() {
    let (world, controller) = World::deployed().await;
    world.call(&controller, Method::PUT, "deployments/d/drill", json!({"fault": "errors"})).await;
    world.call(&controller, Method::DELETE, "deployments/d/drill", json!(null)).await;
    let rollout = world.roll_out(&controller, "2").await;
    let deployment = world.get(&controller, "deployments/d").await;
    let report = Contract::of(&controller.url)
        .knowing("name", &[json!("d")])
        .knowing("post /api/v1/deployments name", &[json!("e"), json!("f"), json!("d")])
        .knowing("model", &[json!("m")])
        .knowing("version", &[json!("1"), json!("2")])
        .knowing("to_version", &[json!("1"), json!(null)])
        .knowing("alias", &[json!(null)])
        .knowing("deployment", &[json!("d")])
        .knowing("deployment_id", &[deployment["id"].clone()])
        .knowing("id", &[json!(rollout)])
        .knowing("steps", &[json!([]), json!([{"weight_percent": 10, "hold_s": 0.1}])])
        .knowing("interval_ms", &[json!(100)])
        .run()
        .await;
    // During a rollout there is no drill; those of `drills` succeed.
    report.require(&[
        "post /api/v1/rollouts/{id}/{verb}",
        "put /api/v1/deployments/{name}/drill",
        "delete /api/v1/deployments/{name}/drill",
    ]);
}
