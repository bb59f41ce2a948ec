//! The service, Postgres and NATS go away and come back: every row is in one window.

use serde_json::{Value, json};

use crate::data::{self, FEATURES};
use crate::world::World;

/// Share of values beyond the training data, for each window: the fingerprint of the rows that are in it.
fn out_of_range(windows: &[Value]) -> Vec<f64> {
    let rate = |window: &Value| window["scores"]["features"][2]["out_of_range_rate"].as_f64().unwrap();
    windows.iter().map(rate).collect()
}

/// Rows `from..to` of a long table whose third column is far out from row 240 to row 259.
fn rows(from: usize, to: usize) -> Vec<[f64; FEATURES]> {
    let out = |row: usize| if (240..260).contains(&row) { 99.0 } else { 0.0 };
    (from..to).map(|row| [row as f64 / 500.0 - 0.5, 0.1, out(row)]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_a_window_neither_loses_nor_doubles_a_row() {
    let mut world = World::with_baseline().await;
    world.monitor(json!({})).await;
    world.predict(&rows(0, 130)).await;
    world.predict(&rows(130, 250)).await;
    world.windows(2).await;
    world.kill();
    world.predict(&rows(250, 330)).await;
    world.start().await;
    world.windows(3).await;
    // Also where there is no open window, and twice.
    world.predict(&rows(330, 400)).await;
    world.windows(4).await;
    world.kill();
    world.start().await;
    world.kill();
    world.predict(&rows(400, 500)).await;
    world.start().await;
    let windows = world.windows(5).await;
    assert!(windows.iter().zip(1..).all(|(window, number)| window["sequence"] == number));
    assert!(windows.iter().all(|window| window["rows"] == 100));
    assert_eq!(out_of_range(&windows), [0.0, 0.0, 0.2, 0.0, 0.0]);
    assert_eq!(world.events("slipway.drift-monitor.window.closed", 5).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_passed_while_the_monitor_was_away_does_not_tear_windows() {
    // Much longer than it takes to publish the rows of a window on a busy machine.
    const MAX_S: u64 = 40;
    let mut world = World::with_baseline().await;
    world.monitor(json!({"window": {"rows": 1000, "max_s": MAX_S}})).await;
    world.state("watching").await;
    world.kill();
    // What others said makes reading take longer than the pause between two looks at the clock.
    let mut other = data::record(&rows(0, 3000));
    other.deployment = "another".into();
    for from in (0..3000).step_by(10) {
        world.publish(vec![other.clone(), data::record(&rows(from, from + 10))]).await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(MAX_S + 1)).await;
    world.start().await;
    let windows = world.windows(3).await;
    assert!(windows.iter().all(|window| window["rows"] == 1000), "{windows:?}");
    assert_eq!(out_of_range(&windows), [0.02, 0.0, 0.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_outlive_crashes_of_postgres_and_nats() {
    let postgres = slipway_testkit::own_postgres().await;
    let world = World::on(postgres.url.clone()).await;
    world.deployed();
    world.monitor(json!({})).await;
    world.predict(&rows(0, 150)).await;
    world.windows(1).await;
    postgres.kill().await;
    world.predict(&rows(150, 330)).await;
    let (status, answer) = world.send(reqwest::Method::GET, "monitors/m", Value::Null).await;
    assert_eq!((status.as_u16(), &answer["code"]), (503, &json!("unavailable")), "{answer}");
    postgres.start_again().await;
    world.windows_after_faults(3).await;
    world.nats.kill().await;
    assert_eq!(world.get("monitors/m").await["windows_closed"], 3, "users are answered all the same");
    world.nats.start_again().await;
    world.connected().await;
    world.predict(&rows(330, 500)).await;
    let windows = world.windows(5).await;
    assert!(windows.iter().all(|window| window["rows"] == 100), "{windows:?}");
    assert_eq!(out_of_range(&windows), [0.0, 0.0, 0.2, 0.0, 0.0]);
    assert_eq!(world.events("slipway.drift-monitor.window.closed", 5).await.len(), 5);
}
