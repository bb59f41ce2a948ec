//! Deployments that only replicas answer for which name them.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::json;
use slipway_testkit::free_port;

use crate::client::Client;
use crate::platform::Platform;
use crate::replicas::Replica;

/// Starts a replica like that of the platform, which answers for these deployments only.
fn replica(platform: &Platform, deployments: &str) -> Replica {
    let first = std::fs::read(format!("/proc/{}/environ", platform.pid("serving"))).unwrap();
    let first = String::from_utf8(first).unwrap();
    let mut settings: BTreeMap<&str, &str> =
        first.split('\0').filter_map(|setting| setting.split_once('=')).collect();
    settings.remove("SLIPWAY_REPLICA_ID");
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let cache = platform.data_dir().join("dedicated-cache");
    settings.insert("SLIPWAY_LISTEN", &listen);
    settings.insert("SLIPWAY_LISTEN_GRPC", "127.0.0.1:0");
    settings.insert("SLIPWAY_LISTEN_METRICS", "127.0.0.1:0");
    settings.insert("SLIPWAY_CACHE_DIR", cache.to_str().unwrap());
    settings.insert("SLIPWAY_SERVING_DEPLOYMENTS", deployments);
    let child = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .args(["service", "serving"])
        .env_clear()
        .envs(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Replica { child, url: format!("http://{listen}") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dedicated_deployment_is_answered_for_by_the_replicas_that_name_it_and_by_no_other() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    for fixture in ["right-1.onnx", "right-2.onnx"] {
        client.register("m", fixture).await;
    }
    client.deploy("m", json!({"steps": []})).await;
    let create =
        ["deployments", "create", "own", "--model", "m", "--version", "1", "--dedicated", "--no-wait"];
    platform.slipway(&create).success();
    // Nobody answers for it, so its rollout waits, and the others do not load it.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let url = format!("{}/api/v1/rollouts?deployment=own", client.controller);
    assert_eq!(client.get(&url).await["rollouts"][0]["phase"], "preparing");
    assert!(client.predict("own", 1.0, "early").await.unwrap_err().contains("404"));

    let own = replica(&platform, "alias=own");
    client.wait_for_rollout("own", "1", "promoted").await;
    let at_own = Client { serving: own.url.clone(), ..client.clone() };
    for name in ["own", "alias"] {
        let mut answered = Err(String::new());
        for _ in 0..200 {
            answered = at_own.predict(name, 1.0, "ask").await;
            if answered.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(answered, Ok(("1".to_owned(), 1)), "{name}");
    }
    assert!(at_own.predict("m", 1.0, "other").await.unwrap_err().contains("404"));
    assert!(client.predict("own", 1.0, "shared").await.unwrap_err().contains("404"));
    let shown = client.get(&format!("{}/api/v1/deployments/own", client.controller)).await;
    assert_eq!(shown["replicas"].as_array().unwrap().len(), 1, "{shown}");
    let metadata = at_own.get(&format!("{}/v2/models/alias", own.url)).await;
    assert_eq!(metadata["name"], "alias");

    // A rollout of the other deployment waits for no replica that does not serve it.
    drop(own);
    client.set_alias("m", "champion", "2").await;
    client.wait_for_rollout("m", "2", "promoted").await;
}
