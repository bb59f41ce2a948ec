//! The launcher keeps to its OpenAPI document.

use serde_json::{Value, json};
use slipway_testkit::Contract;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn every_response_is_as_the_document_says() {
    let world = World::begin().await;
    let script = "cd $SLIPWAY_CHECKPOINT_DIR && mkdir 7.tmp && echo a > 7.tmp/w && mv 7.tmp 7 && echo done";
    let saved = world.submit_script(script, json!({"checkpoint": {}})).await;
    let plain = world.submit(json!({"name": "b", "command": ["true"]})).await;
    world.ended(&saved, "succeeded").await;
    world.ended(&plain, "succeeded").await;
    assert_eq!(world.job(&saved).await["checkpoint_step"], 7);
    let report = Contract::of(&world.url)
        .knowing("id", &[json!(saved), json!(saved), json!(plain)])
        .knowing("step", &[json!(7)])
        .knowing("attempt", &[json!(1)])
        // Jobs that run: what they run is not what is tested.
        .knowing("command", &[json!(["true"]), json!(["false"])])
        .knowing("grace_period_s", &[json!(0.5)])
        .run()
        .await;
    // It succeeds for suspended jobs alone, and these are cancelled by other requests.
    report.require(&["post /api/v1/jobs/{id}/resume"]);
    end_all(&world).await;
}

/// Jobs of the test must not outlive it.
async fn end_all(world: &World) {
    for job in world.get("/api/v1/jobs?limit=1000").await["jobs"].as_array().unwrap() {
        let id = job["id"].as_str().unwrap();
        world.cancel(id).await;
        let over = |job: &Value| job["finished_at"].is_string();
        world.eventually("the job ends", async || over(&world.job(id).await).then_some(())).await;
    }
}
