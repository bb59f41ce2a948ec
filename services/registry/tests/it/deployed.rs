//! Versions that deployments use: nobody deletes them by accident, whatever their model is called.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::events::ModelRenamed;
use slipway_api::proto::registry::GetModelVersionRequest;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::traffic::{TRAFFIC_BUCKET, Target, TrafficTable};

use crate::world::{MODEL, World};

impl World {
    /// A version of `m`, as traffic tables name it.
    async fn target(&self) -> Target {
        let id = self.onnx_model(MODEL).await;
        let (status, made) = self.version("m", &id).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        let version = made["model_version"]["version"].as_str().unwrap().to_owned();
        let shown = self.get(&format!("/api/v1/models/m/versions/{version}")).await;
        Target { version, digest: shown["digest"].as_str().unwrap().to_owned() }
    }

    /// Writes the traffic table of the deployment `churn`, as the rollout controller does.
    async fn table(&self, stable: &Target, warm: &[Target]) {
        let table = TrafficTable {
            stable: Some(stable.clone()),
            warm: warm.to_vec(),
            ..TrafficTable::empty("churn", "m")
        };
        let store = self.bus().await.bucket(TRAFFIC_BUCKET).await.unwrap();
        store.put("churn", serde_json::to_vec(&table).unwrap().into()).await.unwrap();
    }

    async fn delete_version(&self, version: &str) -> (StatusCode, Value) {
        let body = json!({"name": "m", "version": version});
        self.try_call(Method::DELETE, "model-versions/delete", body).await
    }

    /// Waits until the registry has read that deployment, version and role from a traffic table.
    async fn known(&self, wanted: &str) {
        let query = "SELECT deployment || ' ' || version || ' ' || role FROM registry.deployed_versions";
        let started = Instant::now();
        while !self.column(query).await.contains(wanted) {
            assert!(started.elapsed() < Duration::from_secs(20), "waited for {wanted}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deployment_serves_is_deleted_by_force_alone() {
    let world = World::begin().await;
    let (first, second, third) = (world.target().await, world.target().await, world.target().await);
    // Until the registry has read the table, the hold of the rollout controller protects the versions.
    let mut client = RegistryClient::connect(world.url.clone()).await.unwrap();
    for target in [&first, &second] {
        let request = GetModelVersionRequest {
            model: "m".into(),
            version: target.version.clone(),
            for_deployment: "churn".into(),
            digest: String::new(),
        };
        client.get_model_version(request).await.unwrap();
    }
    let model = json!({"name": "m"});
    let held = "deployment 'churn' (version 1, about to be rolled out)";
    world.refused(Method::DELETE, "registered-models/delete", model, "RESOURCE_CONFLICT", held).await;
    world.table(&second, std::slice::from_ref(&first)).await;
    world.known("churn 2 stable").await;
    let (status, refused) = world.delete_version("2").await;
    assert_eq!(
        (status, &refused["error_code"]),
        (StatusCode::CONFLICT, &json!("RESOURCE_CONFLICT")),
        "{refused}"
    );
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("'churn' (stable)") && message.contains("force=true"), "{message}");
    let (status, refused) = world.delete_version("1").await;
    assert_eq!(status, StatusCode::CONFLICT, "the version that a rollback needs: {refused}");
    let (status, problem) = world.v1(Method::DELETE, "models/m/versions/2", Value::Null).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("conflict")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("'churn'"), "{problem}");
    assert_eq!(world.v1(Method::DELETE, "models/m", Value::Null).await.0, StatusCode::CONFLICT);
    assert_eq!(world.delete_version(&third.version).await.0, StatusCode::OK, "no deployment uses it");

    let (status, _) = world.v1(Method::DELETE, "models/m/versions/1?force=true", Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let forced = json!({"name": "m", "version": "2", "force": true});
    assert_eq!(world.try_call(Method::DELETE, "model-versions/delete", forced).await.0, StatusCode::OK);
    let told = world.events("slipway.registry.model-version.deleted", 3).await;
    let details: Vec<Value> =
        told.iter().map(|event| event.parse::<Value>().unwrap()["details"].clone()).collect();
    assert_eq!(details[0].get("forced"), None, "{details:?}");
    assert_eq!((&details[2]["forced"], &details[2]["deployments"]), (&json!(true), &json!(["churn"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_deployment_protects_nothing_and_a_lost_bucket_everything() {
    let world = World::begin().await;
    let target = world.target().await;
    world.table(&target, &[]).await;
    world.known("churn 1 stable").await;
    let bus = world.bus().await;
    bus.jetstream().delete_key_value(TRAFFIC_BUCKET).await.unwrap();
    // Long enough for the registry to watch the new, empty bucket.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        world.delete_version("1").await.0,
        StatusCode::CONFLICT,
        "the controller has not written it again yet"
    );
    world.table(&target, &[]).await;
    world.known("churn 1 stable").await;
    bus.bucket(TRAFFIC_BUCKET).await.unwrap().delete("churn").await.unwrap();
    let started = Instant::now();
    while world.delete_version("1").await.0 == StatusCode::CONFLICT {
        assert!(started.elapsed() < Duration::from_secs(20), "the deployment is deleted");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(world.delete_version("1").await.0, StatusCode::NOT_FOUND, "it was deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_model_is_served_and_protected_under_both_names() {
    let world = World::begin().await;
    let target = world.target().await;
    world.table(&target, &[]).await;
    world.known("churn 1 stable").await;
    let rule = json!({"for": {"scope": "model", "model": "m"}, "after_days": 9, "action": "archive"});
    assert!(world.v1(Method::PUT, "retention-rules/old", rule).await.0.is_success());
    world.post("registered-models/rename", json!({"name": "m", "new_name": "n"})).await;
    // The table has the old name until the controller follows.
    let forgotten = json!({"name": "n", "version": "1"});
    world.refused(Method::DELETE, "model-versions/delete", forgotten, "RESOURCE_CONFLICT", "'churn'").await;
    let mut client = RegistryClient::connect(world.url.clone()).await.unwrap();
    let by_old_name = GetModelVersionRequest {
        model: "m".into(),
        version: "1".into(),
        ..GetModelVersionRequest::default()
    };
    let found = client.get_model_version(by_old_name.clone()).await.unwrap().into_inner();
    assert_eq!((found.model.as_str(), &found.digest, found.model_name_revision), ("n", &target.digest, 1));
    let told: ModelRenamed = world.events("slipway.registry.model.renamed", 1).await[0].parse().unwrap();
    assert_eq!((told.from.as_str(), told.to.as_str(), &told.model_id), ("m", "n", &found.model_id));
    let rule = world.get("/api/v1/retention-rules/old").await;
    assert!(rule.to_string().contains(r#""model":"n""#), "rules follow: {rule}");
    // To MLflow's clients the old name is gone, and another model may take it.
    let (status, _) = world.try_call(Method::GET, "registered-models/get?name=m", Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    world.post("registered-models/create", json!({"name": "m"})).await;
    assert_eq!(client.get_model_version(by_old_name).await.unwrap_err().code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn force_takes_an_administrator() {
    let world = World::guarded(&[]).await;
    let deployer = world.person("dan", &[("*", "deployer")]).await;
    let (status, made) =
        deployer.send(Method::POST, "/api/2.0/mlflow/registered-models/create", json!({"name": "m"})).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    for (path, body) in [
        ("/api/2.0/mlflow/registered-models/delete", json!({"name": "m", "force": true})),
        ("/api/2.0/mlflow/registered-models/delete?force=true", json!({"name": "m"})),
        ("/api/v1/models/m?force=true", json!({})),
    ] {
        let (status, refused) = deployer.send(Method::DELETE, path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {refused}");
    }
    let (status, answer) = deployer.send(Method::DELETE, "/api/v1/models/m", json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "without force it takes a deployer: {answer}");
}
