//! The drift monitor keeps to its OpenAPI document.

use serde_json::json;
use slipway_testkit::Contract;

use crate::data::{DEPLOYMENT, MODEL, Rows};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn every_response_is_as_the_document_says() {
    let world = World::with_baseline().await;
    let pause = json!([{"action": "pause-rollout"}]);
    world.monitor(json!({"consecutive_windows": 1, "on_drift": pause})).await;
    world.state("watching").await;
    world.predict(&Rows::shifted(1).take(100)).await;
    world.predict(&Rows::shifted(2).take(100)).await;
    world.windows(2).await;
    world.actions().await;
    let report = Contract::of(&world.url)
        .knowing("name", &[json!("m")])
        .knowing("post /api/v1/monitors name", &[json!("n"), json!("o"), json!("m")])
        .knowing("deployment", &[json!(DEPLOYMENT)])
        .knowing("model", &[json!(MODEL)])
        .knowing("baseline_version", &[json!("1"), json!(null)])
        .knowing("number", &[json!(1), json!(2)])
        .knowing("rows", &[json!(100)])
        .knowing("max_s", &[json!(600.0)])
        .knowing("consecutive_windows", &[json!(2)])
        .knowing("thresholds", &[json!({}), json!({"psi": 0.3})])
        .knowing("on_drift", &[json!([]), json!([{"action": "pause-rollout"}])])
        .run()
        .await;
    report.require(&[]);
}
