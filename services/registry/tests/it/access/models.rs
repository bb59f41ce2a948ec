//! Roles on models, and approvals of versions.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::proto::registry::ResolveAliasRequest;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_service_kit::registry::{RegistryToken, registry_channel};

use super::{Person, mlflow};
use crate::world::{MODEL, World};

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn models_are_written_by_editors_and_decided_on_by_deployers() {
    let world = World::guarded(&[]).await;
    let admin = world.admin();
    let experiment = admin.experiment("e").await;
    let scope = format!("experiment:{experiment}");
    let editor = world.person("ed", &[("model:churn", "editor"), (&scope, "editor")]).await;
    let deployer = world.person("de", &[("model:churn", "deployer")]).await;
    let viewer = world.person("vi", &[("model:churn", "viewer")]).await;

    // A grant may come before the model does.
    editor.post("registered-models/create", json!({"name": "churn"})).await;
    editor
        .denied(Method::POST, "registered-models/create", json!({"name": "other"}), ["editor", "'other'"])
        .await;
    let run = editor.run(&experiment).await;
    assert_eq!(
        editor.put_file(&format!("{experiment}/{run}/artifacts/model/model.onnx"), MODEL).await,
        StatusCode::OK
    );
    let version = json!({"name": "churn", "source": format!("runs:/{run}/model"), "run_id": run});
    editor.post("model-versions/create", version.clone()).await;
    // A caller that may not read the run makes no version of it.
    deployer.denied(Method::POST, "model-versions/create", version, ["viewer", "experiment "]).await;

    let alias = json!({"name": "churn", "alias": "champion", "version": "1"});
    editor.denied(Method::POST, "registered-models/alias", alias.clone(), ["deployer", "'churn'"]).await;
    deployer.post("registered-models/alias", alias).await;
    let stage = json!({"name": "churn", "version": "1", "stage": "Production"});
    editor
        .denied(Method::POST, "model-versions/transition-stage", stage.clone(), ["deployer", "'churn'"])
        .await;
    deployer.post("model-versions/transition-stage", stage).await;
    let policy = json!({"rules": [{"rule": "servable"}]});
    let path = "/api/v1/models/churn/policies/champion";
    assert_eq!(deployer.send(Method::PUT, path, policy.clone()).await.0, StatusCode::FORBIDDEN);
    assert_eq!(admin.send(Method::PUT, path, policy).await.0, StatusCode::OK);

    // A viewer of the model reads its files, though not the run that they lie in.
    viewer.get(&mlflow("model-versions/get?name=churn&version=1")).await;
    assert_eq!(viewer.file(&format!("{experiment}/{run}/artifacts/model/model.onnx")).await, StatusCode::OK);
    viewer.get(&format!("/api/2.0/mlflow-artifacts/artifacts?path={experiment}/{run}/artifacts/model")).await;
    assert_eq!(viewer.file(&format!("{experiment}/{run}/artifacts/other")).await, StatusCode::FORBIDDEN);

    // As the other services ask.
    let ask = async |token: &str, model: &str| {
        let token = RegistryToken::of(token.to_owned()).resolve().unwrap();
        let mut client = RegistryClient::new(registry_channel(&world.url, &token).unwrap());
        let question = ResolveAliasRequest {
            model: model.into(),
            alias: "champion".into(),
            ..ResolveAliasRequest::default()
        };
        let answer = client.resolve_alias(question).await;
        answer.map(|answer| answer.into_inner().version).map_err(|status| status.code())
    };
    assert_eq!(ask(&viewer.token, "churn").await.as_deref(), Ok("1"));
    assert_eq!(ask(&viewer.token, "other").await, Err(tonic::Code::PermissionDenied));

    // Grants follow a model to its new name and end with it.
    deployer
        .denied(
            Method::POST,
            "registered-models/rename",
            json!({"name": "churn", "new_name": "loss"}),
            ["deployer", "'loss'"],
        )
        .await;
    admin.post("registered-models/rename", json!({"name": "churn", "new_name": "loss"})).await;
    viewer.get(&mlflow("registered-models/get?name=loss")).await;
    let (status, _) =
        deployer.send(Method::DELETE, &mlflow("registered-models/delete"), json!({"name": "loss"})).await;
    assert_eq!(status, StatusCode::OK);
    viewer.denied(Method::GET, "registered-models/get?name=loss", json!({}), ["viewer", "'loss'"]).await;
}

/// A version of `m` from a run that its client ascribes to another user.
async fn version_of(person: &Person<'_>, claimed: &str) -> String {
    let tags = json!([{"key": "mlflow.user", "value": claimed}]);
    let run = json!({"experiment_id": "0", "user_id": claimed, "tags": tags});
    let run = person.post("runs/create", run).await["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    register(person, &run).await
}

async fn register(person: &Person<'_>, run: &str) -> String {
    let path = format!("0/{run}/artifacts/model/model.onnx");
    assert_eq!(person.put_file(&path, MODEL).await, StatusCode::OK);
    let body = json!({"name": "m", "source": format!("runs:/{run}/model"), "run_id": run});
    let made = person.post("model-versions/create", body).await;
    made["model_version"]["version"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_a_version_of_their_own_under_another_name() {
    let world = World::guarded(&[]).await;
    let editor = [("*", "editor")];
    let (eve, bob, ci) = (
        world.person("eve", &editor).await,
        world.person("bob", &editor).await,
        world.person("ci", &editor).await,
    );
    eve.post("registered-models/create", json!({"name": "m"})).await;
    let policy = json!({"rules": [{"rule": "approved", "by_at_least": 1}]});
    let (status, _) = world.admin().send(Method::PUT, "/api/v1/models/m/policies/champion", policy).await;
    assert_eq!(status, StatusCode::OK);
    let approve = async |person: &Person<'_>, version: &str| {
        let path = format!("/api/v1/models/m/versions/{version}/approvals");
        assert!(person.send(Method::POST, &path, json!({})).await.0.is_success());
    };
    let judged = async |version: &str| {
        let path = format!("/api/v1/models/m/versions/{version}/promotion?alias=champion");
        let answer = eve.get(&path).await;
        (answer["allowed"].as_bool().unwrap(), answer["rules"][0]["detail"].as_str().unwrap().to_owned())
    };

    let version = version_of(&eve, "mallory").await;
    approve(&eve, &version).await;
    let (allowed, detail) = judged(&version).await;
    assert!(!allowed && detail.contains("eve made it"), "{detail}");
    approve(&bob, &version).await;
    let (allowed, detail) = judged(&version).await;
    assert!(allowed && detail.starts_with("approved by bob: 1 of 1"), "{detail}");

    // A caller that the client names is taken for an author, too; that only ever makes the rule stricter.
    let version = version_of(&eve, "bob").await;
    approve(&bob, &version).await;
    assert!(!judged(&version).await.0);

    // Of a version that one person registers from the run of another, both are authors.
    let run = json!({"experiment_id": "0", "user_id": "mallory"});
    let run = eve.post("runs/create", run).await["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let version = register(&ci, &run).await;
    approve(&eve, &version).await;
    approve(&ci, &version).await;
    assert!(!judged(&version).await.0);
    let lineage = eve.get(&format!("/api/v1/models/m/versions/{version}/lineage")).await;
    assert_eq!(lineage["authors"], json!(["ci", "eve", "mallory"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_with_access_off_proves_nothing_once_it_is_on() {
    let open = World::begin().await;
    open.post("registered-models/create", json!({"name": "m"})).await;
    let id = open.onnx_model(MODEL).await;
    open.version("m", &id).await;
    let policy = json!({"rules": [{"rule": "approved", "by_at_least": 1}]});
    assert!(open.v1(Method::PUT, "models/m/policies/champion", policy).await.0.is_success());
    let approvals = "models/m/versions/1/approvals";
    assert!(open.v1(Method::POST, approvals, json!({"by": "bob"})).await.0.is_success());
    let check = "models/m/versions/1/promotion?alias=champion";
    let (_, judged) = open.v1(Method::GET, check, Value::Null).await;
    assert_eq!(judged["allowed"], true);
    assert!(judged["rules"][0]["detail"].as_str().unwrap().contains("not verified"), "{judged}");

    let guarded = open.guarded_replica().await;
    let bob = guarded.person("bob", &[("*", "editor")]).await;
    let judged = bob.get(&format!("/api/v1/{check}")).await;
    let detail = judged["rules"][0]["detail"].as_str().unwrap();
    assert!(judged["allowed"] == false && detail.contains("not on record"), "{judged}");
    // A version whose authors are known takes a proven approval.
    let eve = guarded.person("eve", &[("*", "editor")]).await;
    let version = version_of(&eve, "eve").await;
    let path = format!("/api/v1/models/m/versions/{version}/approvals");
    assert_eq!(bob.send(Method::POST, &path, json!({})).await.0, StatusCode::CREATED);
    let judged = bob.get(&format!("/api/v1/models/m/versions/{version}/promotion?alias=champion")).await;
    assert_eq!(judged["allowed"], true, "{judged}");
    // Given again by the principal, an approval of before is one that counts.
    let (status, approval) = bob.send(Method::POST, &format!("/api/v1/{approvals}"), json!({})).await;
    assert_eq!((status, &approval["authenticated"]), (StatusCode::CREATED, &json!(true)), "{approval}");
}
