//! Services on three NATS servers, as on Kubernetes: what the loss of one, or of two, costs their clients.
#![expect(clippy::disallowed_methods, reason = "tests start tasks and read the clock")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod world;

use std::time::Duration;

use slipway_testkit::TestNatsCluster;
use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_and_no_event_is_lost_while_one_nats_server_is_lost_after_the_other() {
    let mut world = World::start().await;
    for number in 0..TestNatsCluster::SIZE {
        world.nats.kill(number).await;
        world.events_go_on(&format!("without server {number}")).await;
        world.nats.start_again(number).await;
        world.nats.cut_off(number);
        world.events_go_on(&format!("with server {number} cut off")).await;
        world.nats.rejoin(number);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_requests_are_answered_and_the_readiness_says_what_is_wrong() {
    let mut world = World::start().await;
    world.nats.kill(0).await;
    world.nats.kill(1).await;
    // Only after a minute are events regarded as stuck.
    world
        .wait_for("the reason in /readyz", async |world| {
            let shown = world.registries[0].body("/readyz").await;
            shown.contains("\"outbox\"") && shown.contains("JetStream does not answer")
        })
        .await;
    world.nats.start_again(0).await;
    world.nats.start_again(1).await;
    world.events_go_on("with three servers again").await;
    world.wait_for("a ready registry", async |world| world.registries[0].is_ready().await).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.end().await;
}
