//! Rows become windows, windows become verdicts.

use std::time::Duration;

use serde_json::json;
use slipway_api::events::DriftDetected;
use slipway_api::predictions::{PREDICTIONS_SUBJECT, PredictionRecord, Variant};
use slipway_api::proto::drift::drift_monitor_client::DriftMonitorClient;
use slipway_api::proto::drift::{GetMonitorRequest, ListWindowsRequest};

use crate::data::{self, Rows, SHIFT};
use crate::world::{MOMENT, World};

/// What is no answer that a client of the deployment saw.
fn other_records() -> Vec<PredictionRecord> {
    let mut rows = Rows::shifted(9);
    let record = data::record(&rows.take(50));
    vec![
        PredictionRecord { variant: Variant::Shadow, shadow_of: Some("1".into()), ..record.clone() },
        PredictionRecord { variant: Variant::Pinned, ..record.clone() },
        PredictionRecord { error: Some("out of memory".into()), outputs: Vec::new(), ..record.clone() },
        PredictionRecord { deployment: "another".into(), ..record },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_like_the_training_data_leave_the_monitor_watching() {
    let world = World::with_baseline().await;
    world.monitor(json!({"window": {"rows": 200, "max_s": 600}})).await;
    let monitor = world.state("watching").await;
    assert_eq!((&monitor["baseline_version"], &monitor["reason"]), (&json!("1"), &json!("")));
    let mut rows = Rows::new(2);
    // Requests need not fit windows, and other records lie between.
    for _ in 0..9 {
        world.publish([other_records(), vec![data::record(&rows.take(70))]].concat()).await;
        world.publish_bytes(PREDICTIONS_SUBJECT, b"no batch".to_vec()).await;
    }
    let windows = world.windows(3).await;
    for (window, sequence) in windows.iter().zip(1..) {
        assert_eq!((&window["sequence"], &window["rows"]), (&json!(sequence), &json!(200)));
        assert_eq!(window["drifted"], false, "{window}");
        assert_eq!(window["baseline_version"], "1");
        // Up to seconds, since a time without milliseconds is written without a fraction.
        let seconds = |field: &str| window[field].as_str().map(|time| time[..19].to_owned());
        assert!(seconds("opened_at") <= seconds("closed_at"), "{window}");
        let scores = &window["scores"];
        assert_eq!((&scores["conclusive"], &scores["share_drifted"]), (&json!(true), &json!(0.0)));
        for column in scores["features"].as_array().unwrap() {
            assert!(column["psi"].as_f64().unwrap() < 0.15, "{column}");
            assert!(column["ks"].as_f64().unwrap() < 0.15, "{column}");
            assert_eq!(column["missing_rate"], 0.0);
            assert!(column["out_of_range_rate"].as_f64().unwrap() < 0.05, "{column}");
        }
        assert!(scores["predictions"][0]["psi"].as_f64().unwrap() < 0.1, "{scores}");
    }
    assert_eq!(world.get("monitors/m").await["state"], "watching");
    assert_eq!(world.events("slipway.drift-monitor.window.closed", 3).await.len(), 3);
    assert!(world.events("slipway.drift-monitor.drift", 0).await.is_empty());
    let metrics = world.metrics().await;
    assert!(metrics.contains("slipway_drift_records_unreadable_total 9"), "{metrics}");
    assert!(metrics.contains("slipway_drift_windows_total{monitor=\"m\",verdict=\"steady\"} 3"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_takes_windows_in_a_row_and_is_told_with_its_evidence() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    let mut rows = Rows::new(3);
    world.predict(&rows.take(100)).await;
    rows.shift = SHIFT;
    world.predict(&rows.take(100)).await;
    world.windows(2).await;
    assert_eq!(world.get("monitors/m").await["state"], "watching", "one window is not enough");
    world.predict(&rows.take(100)).await;
    let monitor = world.state("drifted").await;
    assert!(monitor["reason"].as_str().unwrap().contains("column 0"), "{monitor}");
    // Drift that stays is no news.
    world.predict(&rows.take(200)).await;
    world.windows(5).await;
    let told = world.events("slipway.drift-monitor.drift", 1).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].subject, "slipway.drift-monitor.drift.detected");
    let event: DriftDetected = told[0].parse().unwrap();
    assert_eq!((event.monitor.as_str(), event.baseline_version.as_str()), ("m", "1"));
    assert_eq!(event.windows, [2, 3]);
    let column = &event.evidence["features"][0];
    assert_eq!((&column["name"], &column["drifted"]), (&json!("column 0"), &json!(true)));
    assert!(column["psi"].as_f64().unwrap() > 1.0 && column["ks"].as_f64().unwrap() > 0.5, "{column}");
    assert!(column["out_of_range_rate"].as_f64().unwrap() > 0.2, "{column}");

    rows.shift = 0.0;
    world.predict(&rows.take(200)).await;
    assert_eq!(world.state("watching").await["reason"], "");
    let told = world.events("slipway.drift-monitor.drift", 2).await;
    assert_eq!(told.len(), 2);
    assert_eq!(told[1].parse::<DriftDetected>().unwrap().windows, [6, 7]);
    let verdicts = world.get("monitors/m/verdicts").await;
    assert_eq!(
        (&verdicts["verdicts"][0]["what"], &verdicts["verdicts"][1]["what"]),
        (&json!("cleared"), &json!("detected"))
    );
    assert_eq!(verdicts["verdicts"][1]["event_id"], json!(told[0].id));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_alarm_is_raised_within_the_cool_down() {
    let world = World::with_baseline().await;
    world.monitor(json!({"consecutive_windows": 1, "cool_down_s": 3600})).await;
    let mut rows = Rows::new(4);
    for shift in [SHIFT, 0.0, SHIFT, SHIFT] {
        rows.shift = shift;
        world.predict(&rows.take(100)).await;
    }
    world.windows(4).await;
    assert_eq!(world.get("monitors/m").await["state"], "watching");
    assert_eq!(world.events("slipway.drift-monitor.drift", 2).await.len(), 2, "detected once, cleared once");

    let mut spec = world.get("monitors/m").await["spec"].take();
    spec["cool_down_s"] = json!(0);
    let (status, answer) = world.send(reqwest::Method::PUT, "monitors/m", spec).await;
    assert_eq!(status, 200, "{answer}");
    world.predict(&rows.take(100)).await;
    world.state("drifted").await;
    assert_eq!(world.events("slipway.drift-monitor.drift.detected", 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_closes_in_time_where_rows_are_few() {
    let world = World::with_baseline().await;
    world.monitor(json!({"window": {"rows": 1000, "max_s": 1}, "consecutive_windows": 1})).await;
    let mut rows = Rows::shifted(5);
    world.predict(&rows.take(7)).await;
    let windows = world.windows(1).await;
    assert_eq!((&windows[0]["rows"], &windows[0]["drifted"]), (&json!(7), &json!(false)), "too few to tell");
    assert_eq!(windows[0]["scores"]["conclusive"], false);
    tokio::time::sleep(Duration::from_secs(1) + MOMENT).await;
    assert_eq!(world.windows(1).await.len(), 1, "without rows there is no window");
    world.predict(&rows.take(60)).await;
    let windows = world.windows(2).await;
    assert_eq!((&windows[1]["rows"], &windows[1]["drifted"]), (&json!(60), &json!(true)));
    assert_eq!(world.get("monitors/m").await["state"], "drifted");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_values_and_moved_predictions_show() {
    let world = World::with_baseline().await;
    world.monitor(json!({"consecutive_windows": 1})).await;
    let mut record = data::record(&Rows::new(6).take(100));
    for row in 0..100 {
        if row % 2 == 0 {
            record.inputs[0].data[row * data::FEATURES + 1] = json!(null);
        }
        record.outputs[0].data[row] = json!(1);
    }
    world.publish(vec![record]).await;
    let window = world.windows(1).await.remove(0);
    let column = &window["scores"]["features"][1];
    assert_eq!((&column["missing_rate"], &column["drifted"]), (&json!(0.5), &json!(true)), "{column}");
    assert!(column["reasons"][0].as_str().unwrap().contains("missing_rate"), "{column}");
    assert_eq!(window["scores"]["predictions_drifted"], true, "{window}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_services_ask_over_grpc() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    world.predict(&Rows::new(7).take(300)).await;
    world.windows(3).await;
    let mut client = DriftMonitorClient::connect(world.url.clone()).await.unwrap();
    let name = || "m".to_owned();
    let monitor = client.get_monitor(GetMonitorRequest { name: name() }).await.unwrap().into_inner();
    assert_eq!((monitor.state.as_str(), monitor.baseline_version.as_str()), ("watching", "1"));
    assert!(monitor.spec_json.contains("consecutive_windows"));
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListWindowsRequest { monitor: name(), limit: 2, page_token };
        let page = client.list_windows(request).await.unwrap().into_inner();
        seen.extend(page.windows.iter().map(|window| (window.sequence, window.rows)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [(3, 100), (2, 100), (1, 100)]);
    let refused = client.get_monitor(GetMonitorRequest { name: "nobody".into() }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    assert!(refused.message().contains("nobody"), "{refused}");
}
