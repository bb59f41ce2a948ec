//! What a web page of another origin tries: it changes no monitor, and reads nothing.

use serde_json::json;
use slipway_testkit::{forge, rebind};

use crate::data::{DEPLOYMENT, MODEL};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_change_and_read_nothing() {
    let world = World::with_baseline().await;
    world.monitor(json!({"name": "m"})).await;
    let address = world.url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let spec = world.get("monitors/m").await["spec"].to_string();
    let fresh = json!({"name": "forged", "deployment": DEPLOYMENT, "model": MODEL}).to_string();
    let mut passed = Vec::new();
    for (method, path, body) in [
        ("POST", "/api/v1/monitors", fresh.as_str()),
        ("PUT", "/api/v1/monitors/m", spec.as_str()),
        ("PATCH", "/api/v1/monitors/m", r#"{"window": {"rows": 50}}"#),
        ("DELETE", "/api/v1/monitors/m", "{}"),
        ("POST", "/slipway.drift.v1.DriftMonitor/DeleteMonitor", "{}"),
    ] {
        passed.extend(forge(&address, method, path, body).await);
    }
    for path in ["/api/v1/monitors", "/api/v1/monitors/m/windows", "/metrics", "/readyz"] {
        passed.extend(rebind(&address, path).await);
    }
    assert!(passed.is_empty(), "{} forged requests passed:\n{}", passed.len(), passed.join("\n"));
    let monitors = world.get("monitors").await;
    assert_eq!(monitors["monitors"].as_array().unwrap().len(), 1, "{monitors}");
    assert_eq!(world.get("monitors/m").await["spec"].to_string(), spec);
    // The same request by a client, which has no page.
    assert!(world.send(reqwest::Method::DELETE, "monitors/m", json!({})).await.0.is_success());
}
