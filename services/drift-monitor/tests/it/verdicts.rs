//! Faults of the data that an operator has to hear of.

use serde_json::{Value, json};
use slipway_api::events::DriftDetected;
use slipway_api::predictions::{PredictionRecord, RecordedTensor};
use slipway_api::proto::registry::TensorSpec;

use crate::data::{self, FEATURES, Rows, SHIFT};
use crate::world::World;

fn input(name: &str, width: i64) -> TensorSpec {
    TensorSpec { name: name.into(), datatype: "FP32".into(), shape: vec![-1, width] }
}

/// The record with its matrix cut into two inputs, sent in the other order.
fn in_two_inputs(record: PredictionRecord) -> PredictionRecord {
    let rows = record.inputs[0].data.chunks(FEATURES);
    let cut = |name: &str, from: usize, to: usize| RecordedTensor {
        name: name.into(),
        datatype: "FP32".into(),
        shape: vec![record.rows.cast_signed(), i64::try_from(to - from).unwrap()],
        data: rows.clone().flat_map(|row| row[from..to].to_vec()).collect(),
    };
    let inputs = vec![cut("cat", 2, 3), cut("num", 0, 2)];
    PredictionRecord { inputs, ..record }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_stuck_is_drift_and_ends_no_alarm() {
    let world = World::with_baseline().await;
    world.monitor(json!({"consecutive_windows": 1})).await;
    let mut rows = Rows::shifted(1);
    world.predict(&rows.take(100)).await;
    world.state("drifted").await;
    let stuck = vec![Rows::new(2).take(1)[0]; 300];
    world.predict(&stuck).await;
    let windows = world.windows(4).await;
    for window in &windows[1..] {
        assert_eq!(
            (&window["drifted"], &window["scores"]["rows_repeated"]),
            (&json!(true), &json!(true)),
            "{window}"
        );
    }
    assert_eq!(world.get("monitors/m").await["state"], "drifted");
    let verdicts = world.get("monitors/m/verdicts").await;
    let newest = &verdicts["verdicts"][0]["evidence"];
    assert!(newest["reasons"].to_string().contains("only 1 different rows"), "{newest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_drifts_in_addition_is_an_event_of_its_own() {
    let world = World::with_baseline().await;
    world
        .monitor(
            json!({"consecutive_windows": 1, "cool_down_s": 3600, "on_drift": [{"action": "pause-rollout"}]}),
        )
        .await;
    world.predict(&Rows::shifted(3).take(100)).await;
    world.state("drifted").await;
    let moved: Vec<_> =
        Rows::shifted(4).take(100).into_iter().map(|row| [row[0], row[1], row[2] - SHIFT]).collect();
    world.predict(&moved).await;
    world.predict(&moved).await;
    let told = world.events("slipway.drift-monitor.drift", 2).await;
    let bodies: Vec<DriftDetected> = told.iter().map(|event| event.parse().unwrap()).collect();
    assert_eq!(
        (bodies[0].further, bodies[0].parts.as_slice()),
        (false, &["feature column 0".to_owned()][..])
    );
    assert_eq!((bodies[1].further, bodies[1].parts.as_slice()), (true, &["feature column 2".to_owned()][..]));
    assert_eq!((bodies.len(), bodies[1].windows.as_slice()), (2, &[2][..]));
    assert_eq!(world.actions().await.len(), 1, "actions are not repeated within the cool-down");
    let parts = world.get("monitors/m").await["drifted_parts"].take();
    assert_eq!(parts, json!(["feature column 0", "feature column 2"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_several_inputs_are_found_in_the_order_of_the_signature() {
    let world = World::with_baseline().await;
    world.peers.known().inputs = vec![input("num", 2), input("cat", 1)];
    world.monitor(json!({"consecutive_windows": 1})).await;
    let monitor = world.state("watching").await;
    assert_eq!(monitor["reason"], "");
    world.publish(vec![in_two_inputs(data::record(&Rows::new(5).take(100)))]).await;
    let window = world.windows(1).await.remove(0);
    assert_eq!(window["drifted"], false, "{window}");
    world.publish(vec![in_two_inputs(data::record(&Rows::shifted(6).take(100)))]).await;
    world.state("drifted").await;
    let window = world.windows(2).await.remove(1);
    let drifted: Vec<&Value> = window["scores"]["features"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|column| column["drifted"] == true)
        .map(|column| &column["name"])
        .collect();
    assert_eq!(drifted, ["column 0"], "{window}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_does_not_fit_the_model_is_said_and_no_drift() {
    let world = World::with_baseline().await;
    world.peers.known().inputs = vec![input("X", 2)];
    world.monitor(json!({"consecutive_windows": 1})).await;
    let monitor = world.state("watching").await;
    let reason = monitor["reason"].as_str().unwrap();
    assert!(reason.contains("`X` with 2 columns") && reason.ends_with("not compared: column 2"), "{reason}");
    let mut record = data::record(&Rows::new(7).take(100));
    let narrow = record.inputs[0].data.chunks(FEATURES).flat_map(|row| row[..2].to_vec()).collect();
    (record.inputs[0].data, record.inputs[0].shape) = (narrow, vec![100, 2]);
    world.publish(vec![record]).await;
    let window = world.windows(1).await.remove(0);
    assert_eq!(
        (&window["drifted"], &window["scores"]["features"][2]["compared"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(world.get("monitors/m").await["reason"], *reason, "it is said as long as it holds");

    world.peers.known().inputs = vec![input("p", 2), input("q", 3)];
    world.monitor(json!({"name": "none"})).await;
    world
        .until("the reason", async || {
            let monitor = world.get("monitors/none").await;
            let said = monitor["reason"].as_str().unwrap().contains("none of its 3 features");
            (said && monitor["state"] == "waiting_for_baseline").then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_profile_ends_monitoring_with_an_event() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    world.state("watching").await;
    world.peers.deploy("2");
    world
        .tell(&slipway_api::events::RolloutChange {
            rollout_id: "rollout".into(),
            deployment: data::DEPLOYMENT.into(),
            model: data::MODEL.into(),
            what: "promoted".into(),
            from_version: Some("1".into()),
            to_version: "2".into(),
            weight_percent: 100,
            reason: String::new(),
            actor: None,
        })
        .await;
    world.state("waiting_for_baseline").await;
    let told = world.events("slipway.drift-monitor.monitor.suspended", 1).await;
    let body: Value = serde_json::from_slice(&told[0].data).unwrap();
    assert!(body["reason"].as_str().unwrap().contains("version 2 of `cancer-model`"), "{body}");
    assert_eq!(told.len(), 1);
    world.peers.known().profiles.insert("2".into(), data::trained());
    world.state("watching").await;
    assert_eq!(world.events("slipway.drift-monitor.monitor.resumed", 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redacted_is_not_missing() {
    let world = World::with_baseline().await;
    world.monitor(json!({"consecutive_windows": 1})).await;
    let mut record = data::record(&Rows::new(8).take(100));
    record.inputs[0].data.iter_mut().skip(1).step_by(FEATURES).for_each(|value| *value = Value::Null);
    world.publish_redacted("X[1]", vec![record]).await;
    let window = world.windows(1).await.remove(0);
    let column = &window["scores"]["features"][1];
    assert_eq!((&window["drifted"], &column["compared"]), (&json!(false), &json!(false)), "{window}");
}
