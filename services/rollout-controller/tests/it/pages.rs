//! What a web page of another origin tries: it changes no deployment and no rollout, and reads nothing.

use reqwest::Method;
use serde_json::json;
use slipway_testkit::{forge, rebind};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_change_and_read_nothing() {
    let (world, at) = World::deployed().await;
    let address = at.url.trim_start_matches("http://").to_owned();
    let before = (world.get(&at, "deployments/d").await, world.table().await);
    let rollout = json!({"version": "2"}).to_string();
    let switch = json!({"mode": "stable", "reason": "forged"}).to_string();
    let mut passed = Vec::new();
    for (method, path, body) in [
        ("POST", "/api/v1/deployments", json!({"name": "forged", "model": "m", "version": "1"}).to_string()),
        ("PATCH", "/api/v1/deployments/d", json!({"paused": true}).to_string()),
        ("DELETE", "/api/v1/deployments/d", "{}".to_owned()),
        ("POST", "/api/v1/deployments/d/rollback", "{}".to_owned()),
        ("POST", "/api/v1/deployments/d/rollouts", rollout),
        ("PUT", "/api/v1/deployments/d/rules", json!({"rules": []}).to_string()),
        ("PUT", "/api/v1/deployments/d/kill-switch", switch),
        ("DELETE", "/api/v1/deployments/d/kill-switch", "{}".to_owned()),
        ("POST", "/api/v1/rollouts/1/promote", "{}".to_owned()),
        ("POST", "/slipway.rollout.v1.RolloutController/StartRollout", "{}".to_owned()),
    ] {
        passed.extend(forge(&address, method, path, &body).await);
    }
    for path in ["/api/v1/deployments", "/api/v1/rollouts", "/metrics", "/readyz"] {
        passed.extend(rebind(&address, path).await);
    }
    assert!(passed.is_empty(), "{} forged requests passed:\n{}", passed.len(), passed.join("\n"));
    assert_eq!((world.get(&at, "deployments/d").await, world.table().await), before);
    // The same request by a client, which has no page.
    let (status, answer) = world.try_call(&at, Method::DELETE, "deployments/d", json!({})).await;
    assert!(status.is_success(), "{answer}");
}
