//! What the cluster of the testkit does without Slipway: a majority goes on, a minority acknowledges nothing.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use slipway_event_bus::{EventBus, NatsConfig};
use slipway_testkit::TestNatsCluster;

const PATIENCE: Duration = Duration::from_secs(120);

async fn connect(url: &str) -> jetstream::Context {
    let bus = EventBus::connect(&NatsConfig { nats_url: url.to_owned() }, "kit").await.unwrap();
    bus.jetstream().clone()
}

async fn publish(jetstream: &jetstream::Context) -> Result<u64, String> {
    let sent = jetstream.publish("kit.message", "x".into()).await.map_err(|error| error.to_string())?;
    sent.await.map(|stored| stored.sequence).map_err(|error| error.to_string())
}

/// Publishes through one server until a message is acknowledged.
async fn published(jetstream: &jetstream::Context) -> u64 {
    let started = Instant::now();
    loop {
        match publish(jetstream).await {
            Ok(sequence) => return sequence,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_majority_goes_on_without_a_server_that_died_or_is_cut_off() {
    let cluster = slipway_testkit::nats_cluster().await;
    let mut servers = Vec::new();
    for number in 0..TestNatsCluster::SIZE {
        servers.push(connect(&cluster.node_url(number)).await);
    }
    let config = stream::Config {
        name: "kit".to_owned(),
        subjects: vec!["kit.>".to_owned()],
        num_replicas: TestNatsCluster::SIZE,
        ..stream::Config::default()
    };
    let started = Instant::now();
    while let Err(error) = servers[0].create_stream(config.clone()).await {
        assert!(started.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut last = published(&servers[0]).await;
    for number in 0..TestNatsCluster::SIZE {
        let other = (number + 1) % TestNatsCluster::SIZE;
        cluster.kill(number).await;
        last = published(&servers[other]).await.max(last + 1);
        cluster.start_again(number).await;
        servers[number] = connect(&cluster.node_url(number)).await;
        last = published(&servers[number]).await.max(last + 1);
        cluster.cut_off(number);
        let beyond = published(&servers[other]).await;
        assert!(beyond > last, "message {beyond} after {last}");
        assert!(publish(&servers[number]).await.is_err(), "a minority acknowledged a message");
        cluster.rejoin(number);
        last = published(&servers[number]).await;
        assert!(last > beyond, "message {last} after {beyond}");
    }
}
