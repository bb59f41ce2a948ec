//! A name that is used again belongs to another deployment.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_of_a_deleted_deployment_do_not_appear_under_its_namesake() {
    let (world, at) = World::deployed().await;
    let old = world.roll_out(&at, "2").await;
    world.wait_for(&at, "2", "progressing").await;
    let old_deployment = world.get(&at, "deployments/d").await["id"].clone();
    world.try_call(&at, Method::DELETE, "deployments/d", Value::Null).await;
    assert_eq!(world.get(&at, "rollouts?deployment=d").await["rollouts"], json!([]));

    world.call(&at, Method::POST, "deployments", json!({"name": "d", "model": "m", "version": "3"})).await;
    world.wait_for(&at, "3", "promoted").await;
    let now = world.get(&at, "deployments/d").await;
    assert_ne!(now["id"], old_deployment);
    let listed = world.get(&at, "rollouts?deployment=d").await;
    let versions: Vec<&Value> =
        listed["rollouts"].as_array().unwrap().iter().map(|one| &one["to_version"]).collect();
    assert_eq!(versions, ["3"], "{listed}");

    let by_id = format!("rollouts?deployment_id={}", old_deployment.as_str().unwrap());
    let of_old = world.get(&at, &by_id).await;
    assert_eq!(of_old["rollouts"].as_array().unwrap().len(), 2, "{of_old}");
    let shown = world.get(&at, &format!("rollouts/{old}")).await;
    assert_eq!((&shown["phase"], &shown["deployment_id"]), (&json!("aborted"), &old_deployment));
    assert!(shown["deployment_deleted_at_unix_ms"].is_u64(), "{shown}");
    // Nor does it act on the namesake.
    for verb in ["promote", "resume", "abort"] {
        let (status, answer) =
            world.try_call(&at, Method::POST, &format!("rollouts/{old}/{verb}"), json!({})).await;
        assert_eq!(status, 409, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains("was deleted"), "{answer}");
    }
    let (status, answer) = world.try_call(&at, Method::GET, "rollouts?deployment_id=none", Value::Null).await;
    assert!(status == 400 && answer["field"] == "deployment_id", "{answer}");
}
