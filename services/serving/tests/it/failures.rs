//! Versions that do not load: said in the status, and no request is the worse for it.

use slipway_api::traffic::TrafficTable;

use crate::serving::{Serving, cache};
use crate::world::{World, canary, fixture, table};

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_load_is_told_and_gets_no_traffic() {
    let (world, cache) = (World::start().await, cache());
    let good = world.version("1", "linear_minus_one.onnx").await;
    world.put(&table(1, &good)).await;
    let serving = Serving::ready(&world, &cache).await;
    let model = fixture("linear_plus_one.onnx");
    let mut corrupt = model.to_vec();
    corrupt[100] ^= 1;
    let no_model = "no model at all".as_bytes().to_vec().into();
    let broken = [
        (world.damaged_version("2", &model, &corrupt.into()).await, "is damaged: expected SHA-256"),
        (
            world.damaged_version("3", &fixture("identities.onnx"), &model.slice(..40)).await,
            "has 40 bytes in the artifact store",
        ),
        (world.damaged_version("4", &no_model, &no_model).await, "its file is no ONNX model"),
        (world.version("5", "sequence.onnx").await, "protocol carries tensors only"),
        (
            slipway_api::traffic::Target { version: "6".into(), digest: "sha256:00".into() },
            "there is no version 6",
        ),
        (
            slipway_api::traffic::Target { version: "1".into(), digest: "sha256:00".into() },
            "the traffic table wants sha256:00",
        ),
    ];
    for (revision, (version, reason)) in (2..).step_by(2).zip(broken) {
        let rolled_back = version.version == "1";
        if !rolled_back {
            // As a canary: requests drawn for it are answered by the stable version.
            world.put(&canary(revision, &good, &version, 50)).await;
            let told = world.failed(&version.version).await;
            assert!(told.contains(reason), "{told}");
            for _ in 0..10 {
                assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
            }
        }
        // As the stable version: the table before stays.
        world.put(&table(revision + 1, &version)).await;
        if !rolled_back {
            world.failed(&version.version).await;
        }
        assert_eq!(serving.predict([0.0, 0.0]).await.score, -1.0);
    }
    let (status, index) = serving.post("/v2/repository/index", &serde_json::json!({})).await;
    assert_eq!(status, 200);
    assert!(index.as_array().unwrap().iter().all(|model| model["reason"].as_str().is_some()), "{index}");
    world.put(&table(100, &good)).await;
    world.routed(100).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_version_that_does_not_load_makes_way_for_one_that_does() {
    let (world, cache) = (World::start().await, cache());
    let serving = Serving::ready(&world, &cache).await;
    world.put(&TrafficTable::empty(crate::world::DEPLOYMENT, crate::world::DEPLOYMENT)).await;
    let nothing = serving.infer(&crate::serving::point([0.0, 0.0])).await;
    assert_eq!(nothing.0, 404);
    world.put(&table(1, &world.version("1", "sequence.onnx").await)).await;
    world.failed("1").await;
    let (status, body) = serving.infer(&crate::serving::point([0.0, 0.0])).await;
    assert_eq!(status, 503);
    let expected = "version 1 of model 'points' does not load: output 'list'";
    assert!(body["error"].as_str().unwrap().contains(expected), "{body}");
    assert_eq!(
        serving.get("/readyz").await.0,
        200,
        "one bad deployment does not take the replica from the others"
    );
    world.put(&table(2, &world.version("2", "linear_plus_one.onnx").await)).await;
    world.routed(2).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "2");
}
