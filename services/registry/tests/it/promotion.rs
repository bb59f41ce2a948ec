//! Guarded aliases: only versions that show what the policy asks for may have them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{MODEL, World};

impl World {
    async fn rest(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("{}/api/v1/models/{path}", self.url));
        let response = request.json(&body).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    /// A version whose run has this accuracy.
    async fn version_with(&self, accuracy: f64) -> String {
        let run = self.run().await;
        let metric = json!({"run_id": run, "key": "accuracy", "value": accuracy, "timestamp": 1});
        self.post("runs/log-metric", metric).await;
        let body = json!({"experiment_id": "0", "source_run_id": run});
        let model = self.post("logged-models", body).await;
        let id = model["model"]["info"]["model_id"].as_str().unwrap().to_owned();
        let path = format!("0/models/{id}/artifacts/model.onnx");
        assert_eq!(self.put_file(&path, MODEL).await.0, StatusCode::OK);
        let (status, made) = self.version("m", &id).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        made["model_version"]["version"].as_str().unwrap().to_owned()
    }

    async fn set_champion(&self, version: &str) -> (StatusCode, Value) {
        let body = json!({"name": "m", "alias": "champion", "version": version});
        self.try_call(Method::POST, "registered-models/alias", body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_alias_goes_to_versions_that_pass_and_to_no_other() {
    let world = World::begin().await;
    let (weak, good, worse, better) = (
        world.version_with(0.80).await,
        world.version_with(0.95).await,
        world.version_with(0.91).await,
        world.version_with(0.94).await,
    );
    let policy = json!({"rules": [
        {"rule": "servable"}, {"rule": "scanned-safe"},
        {"rule": "metric-at-least", "metric": "accuracy", "value": 0.9},
        {"rule": "not-worse-than-current", "metric": "accuracy", "tolerance": 0.02},
    ]});
    let (status, guard) = world.rest(Method::PUT, "m/policies/champion", policy.clone()).await;
    assert_eq!((status, &guard["rules"].as_array().unwrap().len()), (StatusCode::OK, &4), "{guard}");

    let (status, refused) = world.set_champion(&weak).await;
    assert_eq!((status, &refused["error_code"]), (StatusCode::FORBIDDEN, &json!("PERMISSION_DENIED")));
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("metric accuracy is 0.8, at least 0.9 is required"), "{message}");
    assert_eq!(world.set_champion(&good).await.0, StatusCode::OK);
    let (_, refused) = world.set_champion(&worse).await;
    assert!(refused["message"].as_str().unwrap().contains("the current version has 0.95"), "{refused}");

    let check = async |version: &str| {
        let path = format!("m/versions/{version}/promotion?alias=champion");
        world.rest(Method::GET, &path, Value::Null).await.1
    };
    let told = check(&worse).await;
    let passed: Vec<bool> =
        told["rules"].as_array().unwrap().iter().map(|rule| rule["passed"].as_bool().unwrap()).collect();
    assert_eq!((passed, &told["allowed"]), (vec![true, true, true, false], &json!(false)));
    assert_eq!(check(&better).await["allowed"], true);
    assert_eq!(world.set_champion(&better).await.0, StatusCode::OK);
    let other = json!({"name": "m", "alias": "candidate", "version": weak});
    assert_eq!(world.try_call(Method::POST, "registered-models/alias", other).await.0, StatusCode::OK);

    let refusals = world.events("slipway.registry.alias.refused", 2).await;
    assert_eq!(refusals.len(), 2, "whoever listens hears of refusals");
    assert_eq!(world.rest(Method::DELETE, "m/policies/champion", Value::Null).await.0, StatusCode::OK);
    assert_eq!(world.set_champion(&weak).await.0, StatusCode::OK);
    assert_eq!(check(&weak).await["guarded"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_policy_is_told_what_is_wrong() {
    let world = World::begin().await;
    world.post("registered-models/create", json!({"name": "m"})).await;
    for (body, field) in [
        (json!({"rules": []}), "rules"),
        (json!({"rules": [{"rule": "metric-at-least", "metric": "", "value": 1}]}), "rules[0].metric"),
        (json!({}), "rules"),
    ] {
        let (status, problem) = world.rest(Method::PUT, "m/policies/champion", body).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }
    let unknown = json!({"rules": [{"rule": "is-nice"}]});
    let (status, problem) = world.rest(Method::PUT, "m/policies/champion", unknown).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        problem["detail"].as_str().unwrap().contains("metric-at-least"),
        "what is known is listed: {problem}"
    );
    let rules = json!({"rules": [{"rule": "servable"}]});
    assert_eq!(
        world.rest(Method::PUT, "absent/policies/champion", rules.clone()).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(world.rest(Method::PUT, "m/policies/v3", rules).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(world.rest(Method::GET, "m/policies/champion", Value::Null).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.rest(Method::GET, "m/policies", Value::Null).await.1["policies"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_tells_what_a_version_is_and_where_it_came_from() {
    let world = World::begin().await;
    let version = world.version_with(0.9).await;
    let run = world.get(&format!("/api/v1/models/m/versions/{version}")).await["run_id"].clone();
    world.post("runs/log-parameter", json!({"run_id": run, "key": "depth", "value": "4 | <b>"})).await;
    world
        .post("runs/set-tag", json!({"run_id": run, "key": "mlflow.source.git.commit", "value": "abc123"}))
        .await;
    let dataset = json!({"name": "cancer", "digest": "d1", "source_type": "local", "source": "{}"});
    let input = json!({"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": "training"}]});
    world.post("runs/log-inputs", json!({"run_id": run, "datasets": [input]})).await;
    let described = json!({"name": "m", "version": version, "description": "Who leaves?"});
    world.call(Method::PATCH, "model-versions/update", described).await;

    let path = format!("m/versions/{version}/card");
    let (_, card) = world.rest(Method::GET, &path, Value::Null).await;
    assert_eq!((&card["metrics"], &card["description"]), (&json!({"accuracy": 0.9}), &json!("Who leaves?")));
    assert_eq!(card["run"]["code"], json!({"commit": "abc123"}));
    assert_eq!(card["run"]["datasets"][0]["digest"], "d1");
    assert_eq!((&card["scan"]["verdict"], &card["servable"]), (&json!("safe"), &json!(true)));
    let url = format!("{}/api/v1/models/{path}?format=markdown", world.url);
    let response = world.http.get(url).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/markdown; charset=utf-8");
    let text = response.text().await.unwrap();
    for line in [
        "# m 1",
        "Who leaves?",
        "| accuracy | 0.9 |",
        "| commit | abc123 |",
        "| depth | 4 \\| &lt;b> |",
        "| cancer | `d1` training |",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(world.rest(Method::GET, "m/versions/9/card", Value::Null).await.0, StatusCode::NOT_FOUND);
}
