//! What happens to the registered model of a deployment: renames, and deletions that were forced.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::peers::MODEL_ID;
use crate::world::{Controller, World};

impl World {
    async fn renamed(&self, from: &str, to: &str, revision: u32) {
        let body = json!({"model_id": MODEL_ID, "from": from, "to": to, "name_revision": revision});
        self.publish("slipway.registry.model.renamed", body).await;
    }

    async fn deployed_table(
        &self,
        wanted: impl Fn(&slipway_api::traffic::TrafficTable) -> bool,
    ) -> slipway_api::traffic::TrafficTable {
        for _ in 0..1_000 {
            if let Some(table) = self.table().await.filter(&wanted) {
                return table;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the traffic table is not as wanted: {:?}", self.table().await)
    }

    /// Waits until the deployment is called by its model's present name.
    async fn follows(&self, controller: &Controller, name: &str) -> Value {
        self.deployment(controller, name, |found| found["model"] == name).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_changes_a_label_and_nothing_else() {
    let (world, controller) = World::deployed().await;
    let canary = world.roll_out(&controller, "2").await;
    world.wait_for(&controller, "2", "progressing").await;
    let before = world.table().await.unwrap();
    world.versions.rename("n");
    world.renamed("m", "n", 1).await;
    let found = world.follows(&controller, "n").await;
    assert_eq!((&found["traffic"]["model"], &found["active_rollout_id"]), (&json!("n"), &json!(canary)));
    let table = world.deployed_table(|table| table.model == "n").await;
    assert!(table.revision > before.revision);
    assert_eq!(
        (&table.stable, &table.candidates, &table.warm),
        (&before.stable, &before.candidates, &before.warm)
    );
    assert_eq!(world.get(&controller, &format!("rollouts/{canary}")).await["model"], "n");
    // An older rename that arrives late changes nothing.
    world.renamed("l", "m", 0).await;
    world.versions.rename("o");
    world.renamed("n", "o", 2).await;
    world.follows(&controller, "o").await;
    world.renamed("m", "n", 1).await;
    // The watched alias moves on under the new name.
    world.alias_set("3", "event-3", "1").await;
    world.wait_for(&controller, "3", "progressing").await;
    assert_eq!(world.get(&controller, "deployments/d").await["model"], "o");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_moved_before_the_rename_is_known_is_followed() {
    let (world, controller) = World::deployed().await;
    // By then the deployment knows the identity of its model.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    world.versions.rename("n");
    world.alias_set("2", "event-1", "1").await;
    world.wait_for(&controller, "2", "progressing").await;
    world.renamed("m", "n", 1).await;
    world.follows(&controller, "n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_whose_event_was_lost_is_noticed_for_new_deployments() {
    let (world, controller) = World::deployed().await;
    world.versions.rename("n");
    let body = json!({"name": "e", "model": "m", "version": "1"});
    let (status, problem) = world.try_call(&controller, Method::POST, "deployments", body).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("was renamed to `n`"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_to_be_rolled_out_is_held_at_the_registry() {
    let (world, controller) = World::deployed().await;
    world.roll_out(&controller, "2").await;
    world.alias_set("3", "event-1", "1").await;
    world.wait_for(&controller, "3", "progressing").await;
    let held = world.versions.held();
    for version in ["1", "2", "3"] {
        assert!(held.contains(&("d".to_owned(), version.to_owned())), "{version}: {held:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deployment_shows_what_was_deleted_under_it() {
    let (world, controller) = World::deployed().await;
    let about = |found: &Value, text: &str| {
        let notices = found["notices"].as_array().unwrap();
        notices.iter().any(|notice| notice["message"].as_str().unwrap().contains(text))
    };
    let gone = json!({"entity": "alias", "what": "deleted", "id": "m@champion",
        "details": {"model": "m", "alias": "champion"}});
    world.publish("slipway.registry.alias.deleted", gone).await;
    world.deployment(&controller, "the alias", |found| about(found, "was deleted")).await;
    world.alias_set("2", "event-2", "2").await;
    world.deployment(&controller, "no notice", |found| found["notices"] == json!([])).await;
    let deleted = |version: &str, forced: bool| {
        json!({"entity": "model-version", "what": "deleted", "id": format!("m/{version}"),
            "details": {"model": "m", "version": version, "forced": forced, "deployments": ["d"]}})
    };
    world.publish("slipway.registry.model-version.deleted", deleted("4", true)).await;
    world.publish("slipway.registry.model-version.deleted", deleted("1", true)).await;
    let found =
        world.deployment(&controller, "the version", |found| about(found, "version 1 was deleted")).await;
    assert!(!about(&found, "version 4"), "it serves no version 4: {found}");
}
