//! Whose records count, and what is known of those that never arrive.

use serde_json::{Value, json};
use slipway_api::events::DeploymentChange;
use slipway_api::predictions::{Origin, PREDICTIONS_SUBJECT, PredictionBatch, PredictionRecord, Sender};

use crate::data::{self, DEPLOYMENT, DEPLOYMENT_ID, MODEL, Rows};
use crate::world::World;

fn controller(id: &str) -> Sender {
    Sender { origin: Origin::Controller, deployment_id: Some(id.into()), ..Sender::default() }
}

/// A message of one run of a serving process.
fn run(name: &str, rows_before: u64, dropped_rows: u64) -> Sender {
    let run_started_at_unix_ms = slipway_runtime::clock::now_unix_ms() + 1_000;
    Sender {
        run: name.into(),
        run_started_at_unix_ms,
        rows_before,
        dropped_rows,
        ..controller(DEPLOYMENT_ID)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_folder_or_of_another_platform_are_not_counted() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    let others = [
        Sender { origin: Origin::Folder, ..Sender::default() },
        controller("another platform's"),
        Sender { origin: Origin::Controller, ..Sender::default() },
    ];
    let mut foreign = Rows::shifted(1);
    for sender in others {
        world.publish_from(sender, vec![data::record(&foreign.take(150))]).await;
    }
    world.predict(&Rows::new(2).take(100)).await;
    let windows = world.windows(1).await;
    assert_eq!((&windows[0]["rows"], &windows[0]["drifted"]), (&json!(100), &json!(false)), "{windows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_from_before_senders_were_recorded_are_read() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    let mut rows = Rows::new(3);
    let old = PredictionBatch {
        replica_id: "old".into(),
        records: vec![
            PredictionRecord { deployment: "another".into(), ..data::record(&rows.take(70)) },
            data::record(&rows.take(60)),
        ],
        ..PredictionBatch::default()
    };
    let mut body = serde_json::to_value(&old).unwrap();
    body.as_object_mut().unwrap().remove("sender");
    world.publish_bytes(PREDICTIONS_SUBJECT, body.to_string().into_bytes()).await;
    world.predict(&rows.take(40)).await;
    assert_eq!(world.windows(1).await[0]["rows"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_lost_dropped_or_not_recorded_are_shown() {
    let mut world = World::with_baseline().await;
    world.monitor(json!({})).await;
    world.state("watching").await;
    let mut rows = Rows::new(4);
    world.publish_from(run("a", 0, 0), vec![data::record(&rows.take(60))]).await;
    // Two hundred rows of the run are gone from the stream, and thirty were dropped before they reached it.
    let sampled = PredictionRecord {
        rows: 5_000,
        row_indices: Some((0..20).map(|row| row * 250).collect()),
        ..data::record(&rows.take(20))
    };
    world.publish_from(run("a", 260, 30), vec![sampled, data::record(&rows.take(20))]).await;
    let missed = |window: &Value| {
        ["rows_lost", "rows_dropped", "rows_not_recorded"].map(|field| window[field].as_u64().unwrap())
    };
    let windows = world.windows(1).await;
    assert_eq!((&windows[0]["rows"], missed(&windows[0])), (&json!(100), [200, 30, 4_980]));
    let metrics = world.metrics().await;
    assert!(
        metrics.contains("slipway_drift_rows_missed_total{monitor=\"m\",reason=\"lost\"} 200"),
        "{metrics}"
    );
    assert!(metrics.contains("slipway_drift_lag_messages{monitor=\"m\"} 0"), "{metrics}");
    assert!(metrics.contains("slipway_drift_lag_seconds{monitor=\"m\"} 0"), "{metrics}");

    // What is known of a run outlives the monitor's process.
    world.kill();
    world.start().await;
    world.publish_from(run("a", 5_330, 30), vec![data::record(&rows.take(50))]).await;
    world
        .until("the open window", async || {
            let open = world.get("monitors/m").await["open_window"].take();
            (open["rows"] == 50).then_some(open)
        })
        .await;
    world.publish_from(run("b", 7, 0), vec![data::record(&rows.take(50))]).await;
    let windows = world.windows(2).await;
    assert_eq!(missed(&windows[1]), [50 + 7, 0, 0], "{windows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_too_large_to_record_are_shown_although_no_window_closes() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    world.state("watching").await;
    let empty = PredictionRecord {
        rows: 40,
        row_indices: Some(Vec::new()),
        inputs: Vec::new(),
        outputs: Vec::new(),
        ..data::record(&[])
    };
    world.publish(vec![empty.clone(), empty]).await;
    world
        .until("the count", async || {
            let open = world.get("monitors/m").await["open_window"].take();
            (open["rows_not_recorded"] == 80 && open["rows"] == 0).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_created_again_is_another_one() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    world.predict(&Rows::new(5).take(50)).await;
    world.state("watching").await;
    let change = |what: &str| DeploymentChange {
        deployment: DEPLOYMENT.into(),
        model: MODEL.into(),
        what: what.into(),
        ..DeploymentChange::default()
    };
    world.peers.known().deployments.remove(DEPLOYMENT);
    world.tell(&change("deleted")).await;
    let waiting = world.state("waiting_for_baseline").await;
    assert!(waiting["reason"].as_str().unwrap().contains("there is no deployment `cancer`"), "{waiting}");
    let suspended = world.events("slipway.drift-monitor.monitor.suspended", 1).await;
    let body: Value = serde_json::from_slice(&suspended[0].data).unwrap();
    assert!(body["reason"].as_str().unwrap().contains("there is no deployment"), "{body}");

    world.peers.deploy("1");
    world.peers.known().deployments.get_mut(DEPLOYMENT).unwrap().id = "the second".into();
    world.tell(&change("created")).await;
    world.state("watching").await;
    world.predict(&Rows::shifted(6).take(100)).await;
    world.publish_from(controller("the second"), vec![data::record(&Rows::new(7).take(100))]).await;
    let windows = world.windows(1).await;
    assert_eq!((&windows[0]["rows"], &windows[0]["drifted"]), (&json!(100), &json!(false)), "{windows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn monitors_of_one_deployment_have_windows_of_their_own() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    let mut rows = Rows::new(8);
    world.predict(&rows.take(130)).await;
    world.windows(1).await;
    world.monitor(json!({"name": "other", "window": {"rows": 40}})).await;
    world
        .until("its baseline", async || {
            (world.get("monitors/other").await["state"] == "watching").then_some(())
        })
        .await;
    world.predict(&rows.take(70)).await;
    let windows = world.windows(2).await;
    assert!(windows.iter().all(|window| window["rows"] == 100), "{windows:?}");
    let closed = async || world.get("monitors/other/windows").await["windows"].as_array().unwrap().len();
    world.until("a window of the other", async || (closed().await >= 1).then_some(())).await;
    world.predict(&rows.take(10)).await;
    world.until("the second window of the other", async || (closed().await >= 2).then_some(())).await;
    assert_eq!(closed().await, 2, "80 rows since it was made");
}
