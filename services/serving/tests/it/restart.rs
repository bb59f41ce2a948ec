//! A replica starts from what it has on disk, and the decision's trace ends in its first prediction.

use slipway_api::traffic::TrafficTable;

use crate::collector::Collector;
use crate::serving::{Serving, cache};
use crate::world::{World, canary, table};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_answers_again_without_nats_and_registry() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&canary(1, &first, &second, 50)).await;
    let mut serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    world.put(&table(2, &second)).await;
    world.routed(2).await;
    serving.kill();
    drop(serving);
    world.registry.stop();
    world.nats.kill().await;

    let serving = Serving::ready(&world, &cache).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "2");
    // And takes up where the others are, once they are there.
    world.nats.start_again().await;
    world.put(&TrafficTable { warm: vec![second], ..table(3, &first) }).await;
    // The first version's bytes are in the cache, so the registry is not needed for the rollback.
    world.routed(3).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cache_is_mended() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let mut serving = Serving::ready(&world, &cache).await;
    serving.kill();
    drop(serving);
    for blob in std::fs::read_dir(cache.path().join("serving/blobs")).unwrap() {
        std::fs::write(blob.unwrap().path(), b"torn").unwrap();
    }
    std::fs::write(cache.path().join("serving/tables/points.json"), b"{\"points\"").unwrap();
    // As an earlier release has it.
    std::fs::write(cache.path().join("serving/tables.json"), b"{\"points\"").unwrap();
    let serving = Serving::ready(&world, &cache).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.score, -1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_prediction_ends_the_trace_of_the_decision() {
    let (world, cache) = (World::start().await, cache());
    let collector = Collector::start().await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let stable = world.version("1", "linear_minus_one.onnx").await;
    world.put(&TrafficTable { traceparent: Some(traceparent.into()), ..table(1, &stable) }).await;
    let mut serving = Serving::start(&world, &cache, &[("SLIPWAY_OTLP_ENDPOINT", &collector.endpoint)]).await;
    serving.wait_until_ready().await;
    for _ in 0..5 {
        serving.predict([0.0, 0.0]).await;
    }
    assert_eq!(serving.terminate(), Some(0));
    let first = collector.named("serving.first_prediction");
    assert_eq!(first.len(), 1);
    assert_eq!(
        (hex::encode(&first[0].trace_id), hex::encode(&first[0].parent_span_id)),
        ("0af7651916cd43dd8448eb211c80319c".to_owned(), "b7ad6b7169203331".to_owned())
    );
}
