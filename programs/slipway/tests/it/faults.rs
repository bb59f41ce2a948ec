//! A part dies in the middle of a rollout: nothing is lost or done twice, and serving answers all the while.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, strategy};
use crate::platform::Platform;

/// Events of the rollout to `version`: how often each kind came, by CloudEvents id and by content.
fn rollout_events(platform: &Platform, version: &str) -> BTreeMap<String, usize> {
    let expected = platform.slipway(&[
        "events",
        "tail",
        "--since",
        "3600",
        "--subject",
        "slipway.rollout-controller.rollout.",
        "--json",
        "--for",
        "2",
    ]);
    let text = String::from_utf8(expected.success().stdout).unwrap();
    let mut kinds = BTreeMap::new();
    let mut ids = std::collections::BTreeSet::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(ids.insert(event["id"].to_string()), "an event came twice: {event}");
        if event["data"]["to_version"] == version {
            let key =
                format!("{} {}", event["data"]["what"].as_str().unwrap(), event["data"]["weight_percent"]);
            *kinds.entry(key).or_insert(0) += 1;
        }
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn any_part_may_die_in_the_middle_of_a_rollout() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.deploy("m", strategy(3.0)).await;
    let traffic = client.traffic("m");

    let victims: [&[&str]; 4] =
        [&["registry", "launcher"], &["rollout_controller", "drift_monitor"], &["nats", "s3"], &["postgres"]];
    for (round, victims) in victims.iter().enumerate() {
        let fixture = if round % 2 == 0 { "right-2.onnx" } else { "right-3.onnx" };
        let version = client.register("m", fixture).await;
        client.set_alias("m", "champion", &version).await;
        client.wait_for_rollout("m", &version, "progressing").await;
        for victim in *victims {
            platform.crash(victim);
        }
        let rollout = client.wait_for_rollout("m", &version, "promoted").await;
        assert_eq!(rollout["from_version"], (version.parse::<u32>().unwrap() - 1).to_string());
        let kinds = rollout_events(&platform, &version);
        assert!(kinds.values().all(|count| *count == 1), "after {victims:?}: {kinds:?}");
        assert!(kinds.keys().any(|kind| kind.starts_with("promoted")), "after {victims:?}: {kinds:?}");
    }

    let before = traffic.answered();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(traffic.answered() > before, "the traffic stands still");
    let failures = traffic.stop().await;
    assert!(failures.is_empty(), "serving did not answer all the while: {failures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serving_may_die_and_answers_again_by_itself() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.deploy("m", strategy(1.0)).await;
    // With everything else gone too, the last table and the cached bytes are enough.
    platform.crash("serving");
    for _ in 0..200 {
        if let Ok((version, _)) = client.predict("m", 1.0, "again").await {
            assert_eq!(version, "1");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("serving did not answer again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_is_rolled_back_and_the_reason_is_written_down() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.deploy("m", strategy(20.0)).await;
    let traffic = client.traffic("m");
    let bad = client.register("m", "wrong.onnx").await;
    client.set_alias("m", "champion", &bad).await;
    client.wait_for_rollout("m", &bad, "progressing").await;
    // Also where the controller dies in between.
    platform.crash("rollout_controller");
    let rollout = client.wait_for_rollout("m", &bad, "rolled_back").await;
    let reason = rollout["reason"].as_str().unwrap();
    assert!(reason.contains("accuracy") && reason.contains('2'), "{reason}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..50 {
        assert_eq!(client.predict("m", 1.0, "stable").await.unwrap(), ("1".to_owned(), 1));
    }
    let shown = platform.json(&["rollouts", "show", rollout["id"].as_str().unwrap()]);
    let decisions = shown["decisions"].as_array().unwrap();
    assert!(decisions.iter().any(|decision| decision["verdict"] == "fail"), "{shown}");
    assert!(traffic.stop().await.is_empty());
}
