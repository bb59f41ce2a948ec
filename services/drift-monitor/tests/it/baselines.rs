//! Where the baseline comes from, and what happens while there is none.

use serde_json::{Value, json};
use slipway_api::events::{DriftDetected, ModelRenamed, RolloutChange};
use tonic::Status;

use crate::data::{self, DEPLOYMENT, MODEL, Rows};
use crate::world::World;

async fn reason_with(world: &World, text: &str) -> Value {
    world
        .until(text, async || {
            let monitor = world.get("monitors/m").await;
            let said = monitor["reason"].as_str().unwrap().contains(text);
            said.then_some(monitor)
        })
        .await
}

fn promoted(from: &str, to: &str) -> RolloutChange {
    RolloutChange {
        rollout_id: "rollout".into(),
        deployment: DEPLOYMENT.into(),
        model: MODEL.into(),
        what: "promoted".into(),
        from_version: Some(from.into()),
        to_version: to.into(),
        weight_percent: 100,
        reason: "all steps passed".into(),
        actor: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_waits_for_its_baseline_and_says_what_is_missing() {
    let world = World::begin().await;
    let made = world.monitor(json!({})).await;
    assert_eq!((&made["state"], made["reason"] == ""), (&json!("waiting_for_baseline"), false));
    // What comes meanwhile is not lost.
    world.predict(&Rows::new(1).take(100)).await;
    let monitor = reason_with(&world, "there is no deployment `cancer`").await;
    assert_eq!(monitor["state"], "waiting_for_baseline");
    world.peers.deploy("");
    reason_with(&world, "no stable version yet").await;
    world.peers.deploy("1");
    reason_with(&world, "slipway/profile.json").await;
    world
        .peers
        .known()
        .profiles
        .insert("1".into(), json!({"schema": "slipway.profile/1", "rows": 0, "features": []}));
    reason_with(&world, "rows: must be 1 or more").await;
    world.peers.known().profiles.insert("1".into(), data::trained());
    world.state("watching").await;
    let windows = world.windows(1).await;
    assert_eq!((&windows[0]["rows"], &windows[0]["drifted"]), (&json!(100), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_registry_is_shown_as_what_it_is() {
    let world = World::begin().await;
    world.monitor(json!({})).await;
    world.peers.deploy("1");
    for (refusal, shown) in [
        (
            Status::failed_precondition("slipway/profile.json has 90000000 bytes"),
            "cannot be used: slipway/profile.json has",
        ),
        (
            Status::permission_denied("no role"),
            "refuses the drift monitor's token (PermissionDenied: no role)",
        ),
        (Status::unavailable("starting"), "the registry is unreachable"),
    ] {
        world.peers.known().profile_refusal = Some(refusal);
        reason_with(&world, shown).await;
    }
    world.peers.known().profile_refusal = None;
    world.peers.known().profiles.insert("1".into(), data::trained());
    world.state("watching").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_baseline_follows_promotions_and_ends_drift_from_the_old_one() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    let mut shifted = Rows::shifted(2);
    world.predict(&shifted.take(250)).await;
    world.state("drifted").await;
    // Version 2 was trained on what comes now.
    let profile = data::profile(&Rows::shifted(3).take(500));
    world.peers.known().profiles.insert("2".into(), profile);
    world.peers.deploy("2");
    world.tell(&promoted("1", "2")).await;
    let monitor = world.state("watching").await;
    assert_eq!(monitor["baseline_version"], "2");
    world.predict(&shifted.take(100)).await;
    let windows = world.windows(3).await;
    assert_eq!((&windows[2]["baseline_version"], &windows[2]["drifted"]), (&json!("2"), &json!(false)));
    assert_eq!(windows[2]["rows"], 100, "rows from before the promotion are not among them");
    let told = world.events("slipway.drift-monitor.drift", 2).await;
    assert_eq!(told.len(), 2);
    let cleared: DriftDetected = told[1].parse().unwrap();
    assert_eq!((cleared.what.as_str(), cleared.baseline_version.as_str()), ("cleared", "1"));
    assert!(cleared.evidence["reason"].as_str().unwrap().contains("version 2"), "{cleared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_to_a_version_without_profile_shows_as_waiting() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    world.state("watching").await;
    world.peers.deploy("2");
    world.tell(&promoted("1", "2")).await;
    let monitor = world.state("waiting_for_baseline").await;
    assert_eq!(monitor["baseline_version"], "2");
    assert!(monitor["reason"].as_str().unwrap().contains("version 2 of `cancer-model`"), "{monitor}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_baseline_needs_no_deployment_and_follows_nothing() {
    let world = World::begin().await;
    world.peers.known().profiles.insert("1".into(), data::trained());
    world.monitor(json!({"baseline_version": "1"})).await;
    world.state("watching").await;
    world.deployed();
    world.peers.deploy("2");
    world.tell(&promoted("1", "2")).await;
    world.predict(&Rows::new(5).take(100)).await;
    let windows = world.windows(1).await;
    assert_eq!((&windows[0]["baseline_version"], &windows[0]["drifted"]), (&json!("1"), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_model_keeps_its_monitor_baseline_and_open_window() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    world.state("watching").await;
    let mut rows = Rows::new(7);
    world.predict(&rows.take(60)).await;
    let renamed = ModelRenamed {
        model_id: "1".into(),
        from: MODEL.into(),
        to: "renamed-model".into(),
        name_revision: 1,
    };
    world.tell(&renamed).await;
    let monitor = world
        .until("the new name", async || {
            Some(world.get("monitors/m").await).filter(|monitor| monitor["model"] == "renamed-model")
        })
        .await;
    assert_eq!((&monitor["state"], &monitor["baseline_version"]), (&json!("watching"), &json!("1")));
    assert_eq!(monitor["spec"]["model"], "renamed-model");
    world.predict(&rows.take(40)).await;
    let windows = world.windows(1).await;
    assert_eq!(windows[0]["rows"], 100, "the window that was open goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_the_deployment_follows_first_does_not_end_the_watch() {
    let world = World::with_baseline().await;
    world.monitor(json!({})).await;
    world.state("watching").await;
    world.peers.known().model_name = Some("renamed-model".into());
    world.peers.deploy("1");
    // The baseline is looked up again, while the event of the rename is late.
    world.tell(&promoted("1", "1")).await;
    world
        .until("the new name", async || {
            Some(world.get("monitors/m").await).filter(|monitor| monitor["model"] == "renamed-model")
        })
        .await;
    assert_eq!(world.state("watching").await["baseline_version"], "1");
}
