//! Fault drills on a whole platform: copies of requests fail, users do not, and the report says when the
//! analysis would have noticed.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, strategy};
use crate::platform::Platform;

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_says_after_how_long_the_analysis_notices_and_users_get_every_answer() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.deploy("m", strategy(60.0)).await;
    let url = format!("{}/api/v1/deployments/m/drill", client.controller);
    let traffic = client.traffic("m");

    // Users meet a fault only if that is said twice.
    let unconfirmed = json!({"fault": "errors", "target": "answers", "percent": 100});
    let (status, refused) = client.send(Method::PUT, &url, Some(&unconfirmed)).await;
    assert_eq!((status, &refused["field"]), (StatusCode::BAD_REQUEST, &"confirm".into()), "{refused}");
    assert_eq!(client.send(Method::GET, &url, None).await.0, StatusCode::NOT_FOUND);

    let options =
        ["deployments", "drill", "start", "m", "--fault", "errors", "--percent", "50", "--seconds", "15"];
    let report = platform.json(&options);
    assert_eq!((&report["phase"], &report["verdict"]), (&"completed".into(), &"fail".into()), "{report}");
    let noticed_ms = report["noticed_after_ms"].as_u64().unwrap();
    assert!(noticed_ms < 15_000, "{report}");
    assert!(
        report["summary"].as_str().unwrap().contains("the analysis fails this version after"),
        "{report}"
    );
    assert!(report["rehearsed"]["requests"].as_u64().unwrap() > 50, "{report}");
    assert_eq!(report["rehearsed"]["failed"][0]["outcome"], "failure", "{report}");
    assert_eq!(report["users"]["failed"], json!([]), "{report}");
    let shown = platform.slipway(&["deployments", "drill", "show", "m"]).success();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("other users") && shown.contains("the model failed: drill"), "{shown}");

    // What was recorded is sent again, and answered as before.
    let options = ["deployments", "drill", "start", "m", "--records", "40", "--requests-per-second", "20"];
    let report = platform.json(&options);
    assert_eq!(
        (&report["phase"], &report["replayed"]["done"]),
        (&"completed".into(), &true.into()),
        "{report}"
    );
    assert_eq!((&report["replayed"]["found"], &report["replayed"]["incomplete"]), (&40.into(), &0.into()));
    assert!(report["compared_rows"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["differing_rows"], 0, "{report}");

    a_rollout_ends_it(&platform, &client, &url).await;
    assert_eq!(traffic.stop().await, Vec::<String>::new(), "no user met a fault");
    let stats = client.get(&format!("{}/v2/models/m/versions/1/stats", client.serving)).await;
    assert_eq!(stats["model_stats"][0]["inference_stats"]["fail"]["count"], 0, "{stats}");
}

/// A rollout ends a drill, and refuses others while it is in progress.
async fn a_rollout_ends_it(platform: &Platform, client: &Client, url: &str) {
    let start = "deployments drill start m --fault latency --latency-ms 500 --seconds 600 --no-wait";
    let start: Vec<&str> = start.split(' ').collect();
    platform.slipway(&start).success();
    client.register("m", "right-2.onnx").await;
    let rollouts = format!("{}/api/v1/deployments/m/rollouts", client.controller);
    client.post(&rollouts, json!({"version": "2", "strategy": strategy(600.0)})).await;
    let mut ended = Value::Null;
    for _ in 0..600 {
        ended = client.get(url).await;
        if ended["phase"] != "running" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!((&ended["phase"], &ended["reason"]), (&"interrupted".into(), &"a rollout began".into()));
    let (status, refused) = client.send(Method::PUT, url, Some(&json!({"fault": "errors"}))).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("is in progress"), "{refused}");
}
