//! A replica next to a rollout controller of an earlier release, which writes no head into the bucket of
//! traffic tables and reads one status for each deployment.

use reqwest::StatusCode;
use slipway_api::traffic::{
    DeploymentStatus, REPLICAS_BUCKET, TABLES_HEAD_KEY, TRAFFIC_BUCKET, TablesState, VersionState,
};

use crate::serving::{Serving, cache, point};
use crate::world::{DEPLOYMENT, World, complete, eventually, table};

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_controller_of_an_earlier_release_is_followed_and_told_in_its_format() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    let tables = world.bus.bucket(TRAFFIC_BUCKET).await.unwrap();
    tables.purge(TABLES_HEAD_KEY).await.unwrap();
    world.put(&table(1, &first)).await;
    let settings = [("SLIPWAY_SERVING_TABLES_WAIT_MS", "500"), ("SLIPWAY_REPLICA_ID", "new")];
    let serving = Serving::start(&world, &cache, &settings).await;
    serving.wait_until_ready().await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");

    let key = format!("new.{DEPLOYMENT}");
    let statuses = world.bus.bucket(REPLICAS_BUCKET).await.unwrap();
    let told = async |revision: u64, version: &str| {
        eventually("the deployment's own status", || async {
            let status: DeploymentStatus =
                serde_json::from_slice(&statuses.get(&key).await.ok()??).expect("it parses");
            let ready = |known: &slipway_api::traffic::VersionStatus| {
                known.version == version && known.state == VersionState::Ready
            };
            (status.table_revision == revision && status.versions.iter().any(ready)).then_some(())
        })
        .await;
    };
    told(1, "1").await;
    world.put(&table(2, &second)).await;
    told(2, "2").await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "2");

    // The controller is upgraded.
    complete(&world.bus).await;
    eventually("the tables are current", || async {
        let statuses = world.statuses().await;
        statuses.iter().any(|status| status.tables == TablesState::Current).then_some(())
    })
    .await;
    let written = statuses.entry(&key).await.unwrap().map(|entry| entry.revision);
    world.put(&table(3, &first)).await;
    world.routed(3).await;
    assert_eq!(statuses.entry(&key).await.unwrap().map(|entry| entry.revision), written);
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");

    // And taken back: it removes what it does not know, and deletes a deployment.
    tables.delete(TABLES_HEAD_KEY).await.unwrap();
    tables.delete(DEPLOYMENT).await.unwrap();
    let path = format!("/v2/models/{DEPLOYMENT}/infer");
    eventually("the deployment is gone", || async {
        (serving.post(&path, &point([0.0, 0.0])).await.0 == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}
