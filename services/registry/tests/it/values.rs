//! Values that no handler hopes for, on every route: each is answered with 4xx and a reason, and never with
//! 5xx.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{MODEL, World};

/// Things that requests can be about.
pub(crate) struct Known {
    pub(crate) run: String,
    pub(crate) model_id: String,
}

/// Good requests of MLflow's API: method, path, body.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(crate) fn mlflow(known: &Known) -> Vec<(Method, &'static str, Value)> {
    let Known { run, model_id } = known;
    let dataset = json!({"name": "d", "digest": "1", "source_type": "local", "source": "{}", "schema": "s",
        "profile": "p"});
    let metric = json!({"key": "a", "value": 1.0, "timestamp": 1, "step": 1, "model_id": model_id,
        "dataset_name": "d", "dataset_digest": "1"});
    let pair = json!({"key": "k", "value": "v"});
    let point = json!({"run_id": run, "key": "a", "value": 1.0, "timestamp": 1, "step": 1,
        "model_id": model_id,
        "dataset_name": "d", "dataset_digest": "1"});
    let post = |path: &'static str, body: Value| (Method::POST, path, body);
    vec![
        post(
            "experiments/create",
            json!({"name": "e", "artifact_location": "mlflow-artifacts:/e", "tags": [pair]}),
        ),
        post(
            "experiments/search",
            json!({"filter": "name = 'e'", "max_results": 5, "order_by": ["name"], "page_token": "x",
                "view_type": "ALL"}),
        ),
        post("experiments/update", json!({"experiment_id": "0", "new_name": "Default"})),
        post("experiments/set-experiment-tag", json!({"experiment_id": "0", "key": "k", "value": "v"})),
        post("experiments/delete-experiment-tag", json!({"experiment_id": "0", "key": "k"})),
        post("experiments/search-datasets", json!({"experiment_ids": ["0"]})),
        post(
            "runs/create",
            json!({"experiment_id": "0", "user_id": "u", "run_name": "r", "start_time": 1, "tags": [pair],
                "run_id": "fresh"}),
        ),
        post(
            "runs/search",
            json!({"experiment_ids": ["0"], "filter": "params.a = 'b'", "max_results": 5,
                "order_by": ["metrics.a"], "page_token": "x", "run_view_type": "ALL"}),
        ),
        post("runs/update", json!({"run_id": run, "status": "RUNNING", "end_time": 1, "run_name": "r"})),
        post("runs/log-parameter", json!({"run_id": run, "key": "k", "value": "v"})),
        post("runs/set-tag", json!({"run_id": run, "key": "k", "value": "v"})),
        post("runs/delete-tag", json!({"run_id": run, "key": "k"})),
        post("runs/log-metric", point),
        post("runs/log-batch", json!({"run_id": run, "metrics": [metric], "params": [pair], "tags": [pair]})),
        post(
            "runs/log-inputs",
            json!({"run_id": run, "datasets": [{"dataset": dataset, "tags": [pair]}],
                "models": [{"model_id": model_id}]}),
        ),
        post("runs/outputs", json!({"run_id": run, "models": [{"model_id": model_id, "step": 1}]})),
        post(
            "runs/log-model",
            json!({"run_id": run,
                "model_json": "{\"run_id\": \"r\", \"artifact_path\": \"m\", \"utc_time_created\": \"t\", \
                    \"flavors\": {}}"}),
        ),
        post(
            "logged-models",
            json!({"experiment_id": "0", "name": "n", "model_type": "t", "source_run_id": run,
                "params": [pair], "tags": [pair]}),
        ),
        post(
            "logged-models/search",
            json!({"experiment_ids": ["0"], "filter": "name = 'n'", "max_results": 5,
                "order_by": [{"field_name": "name"}],
                    "datasets": [{"dataset_name": "d", "dataset_digest": "1"}]}),
        ),
        post("registered-models/create", json!({"name": "fresh", "description": "d", "tags": [pair]})),
        post("registered-models/rename", json!({"name": "r", "new_name": "r"})),
        (Method::PATCH, "registered-models/update", json!({"name": "m", "description": "d"})),
        post("registered-models/set-tag", json!({"name": "m", "key": "k", "value": "v"})),
        (Method::DELETE, "registered-models/delete-tag", json!({"name": "m", "key": "k"})),
        post("registered-models/alias", json!({"name": "m", "alias": "a", "version": "1"})),
        (Method::DELETE, "registered-models/alias", json!({"name": "m", "alias": "a"})),
        post(
            "registered-models/search",
            json!({"filter": "name = 'm'", "max_results": 5, "order_by": ["name"]}),
        ),
        post("registered-models/get-latest-versions", json!({"name": "m", "stages": ["None"]})),
        post(
            "model-versions/create",
            json!({"name": "m", "source": "s3://bucket/key", "run_id": run, "model_id": model_id,
                "run_link": "l", "description": "d", "tags": [pair], "version": "7"}),
        ),
        (Method::PATCH, "model-versions/update", json!({"name": "m", "version": "1", "description": "d"})),
        post("model-versions/set-tag", json!({"name": "m", "version": "1", "key": "k", "value": "v"})),
        (Method::DELETE, "model-versions/delete-tag", json!({"name": "m", "version": "1", "key": "k"})),
        post(
            "model-versions/search",
            json!({"filter": "name = 'm'", "max_results": 5, "order_by": ["name"]}),
        ),
        post(
            "model-versions/transition-stage",
            json!({"name": "m", "version": "1", "stage": "None", "archive_existing_versions": false}),
        ),
        post(
            "webhooks",
            json!({"name": "w", "url": "https://hooks.example/x",
                "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}], "description": "d",
                    "secret": "s", "status": "ACTIVE"}),
        ),
    ]
}

/// The same of REST v1.
pub(crate) fn rest() -> Vec<(Method, &'static str, Value)> {
    let report = json!({"name": "holdout", "dataset": {"name": "d", "digest": "1"}, "rows": 9,
        "metrics": {"accuracy": 0.5}, "source": "s",
        "latency": {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0},
            "segments": [{"attribute": "a", "value": "b", "rows": 9, "metrics": {"accuracy": 0.5}}]});
    vec![
        (Method::POST, "models/m/versions/1/reports", report),
        (Method::POST, "models/m/versions/1/approvals", json!({"by": "ada", "comment": "c"})),
        (
            Method::PUT,
            "models/m/policies/a",
            json!({"rules": [{"rule": "has-tag", "key": "k", "value": "v"}]}),
        ),
        (
            Method::POST,
            "webhooks",
            json!({"name": "v", "url": "https://hooks.example/x", "description": "d",
                "events": ["slipway.registry.alias.set"]}),
        ),
        (
            Method::PUT,
            "retention-rules/old",
            json!({"for": {"scope": "model", "model": "none"}, "after_days": 9,
                "keep_best": {"metric": "a", "k": 2, "goal": "maximize"}, "keep_last": 3,
                    "action": "archive"}),
        ),
        (Method::POST, "purge", json!({"older_than_s": 9, "limit": 5, "dry_run": true})),
        (Method::POST, "gc", json!({"grace_s": 9, "limit": 5, "page_token": "x", "dry_run": true})),
        (Method::POST, "tokens", json!({"name": "t", "principal": "p", "expires_in_s": 9})),
        (Method::PUT, "grants", json!({"subject": "s", "role": "viewer", "scope": "model:m"})),
    ]
}

/// What is put in the place of each value.
fn nasty() -> Vec<Value> {
    let mut values = vec![
        json!("a\0b"),
        json!(""),
        json!("\\"),
        json!("%"),
        json!("x".repeat(9_000)),
        json!("\u{1F600}"),
        json!("../.."),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!("9223372036854775807"),
        json!("-9223372036854775808"),
        json!("99999999999999999999"),
        json!("2147483647"),
        json!("NaN"),
        json!(true),
        json!(null),
        json!([]),
        json!({}),
        json!(["a\0"]),
        json!([null]),
        json!("00000000-0000-0000-0000-000000000000"),
        json!("m-00000000000000000000000000000000"),
    ];
    // Long, and not to be compressed: an index row holds 2 704 bytes.
    let noise: String = (0..9_000_u32)
        .map(|at| char::from_u32(0x4E00 + at.wrapping_mul(2_654_435_761) % 20_000).unwrap())
        .collect();
    values.push(noise.into());
    values
}

/// Paths of all leaves, as JSON pointers.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| leaves(field, &format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| leaves(item, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
    if !at.is_empty() {
        found.push(at.to_owned());
    }
}

pub(crate) async fn known(world: &World) -> Known {
    let model_id = world.onnx_model(MODEL).await;
    world.version("m", &model_id).await;
    world.post("registered-models/create", json!({"name": "r"})).await;
    Known { run: world.run().await, model_id }
}

async fn walk(world: &World, prefix: &str, requests: Vec<(Method, &'static str, Value)>) {
    let mut failures = BTreeSet::new();
    for (method, path, body) in requests {
        let mut places = Vec::new();
        leaves(&body, "", &mut places);
        for place in places {
            for value in nasty() {
                let mut body = body.clone();
                *body.pointer_mut(&place).unwrap() = value.clone();
                let answer = world.raw(method.clone(), &format!("{prefix}{path}"), body.to_string()).await;
                let status = answer.status();
                if status.is_server_error() {
                    let shown: String = value.to_string().chars().take(60).collect();
                    let text: String = answer.text().await.unwrap().chars().take(200).collect();
                    failures.insert(format!("{method} {path} {place} = {shown}: {status} {text}"));
                } else if status.is_client_error() {
                    let refused: Value = answer.json().await.unwrap();
                    let reason = refused.get("message").or(refused.get("detail")).and_then(Value::as_str);
                    assert!(
                        reason.is_some_and(|reason| !reason.is_empty()),
                        "{method} {path} {place}: {refused}"
                    );
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} answers of 5xx:\n{}",
        failures.len(),
        failures.into_iter().collect::<Vec<_>>().join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_on_mlflows_routes_is_answered_with_5xx() {
    let world = World::begin().await;
    let known = known(&world).await;
    walk(&world, "/api/2.0/mlflow/", mlflow(&known)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_on_rest_v1_is_answered_with_5xx() {
    let world = World::begin().await;
    known(&world).await;
    walk(&world, "/api/v1/", rest()).await;
    for query in [
        "models?limit=99999999999999999999",
        "models?page_token=%00",
        "models/%00",
        "models/m/versions/99999999999999999999",
        "runs?experiment=9223372036854775808",
        "runs?experiment=%00",
        "audit?since=9223372036854775807",
        "audit?since=-9223372036854775808",
        "audit?principal=%00",
        "models/m/versions/1/promotion?alias=%00",
        "models/m/versions/1/reports?name=%00",
        "webhooks/%00",
        "retention-rules/%00",
        "grants?subject=%00",
    ] {
        let status = world.raw(Method::GET, &format!("/api/v1/{query}"), "").await.status();
        assert!(!status.is_server_error(), "{query}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_field() {
    let world = World::begin().await;
    known(&world).await;
    for (path, body, code, text) in [
        (
            "registered-models/create",
            json!({"name": "n", "tags": [{"key": "k", "value": "a\0"}]}),
            "INVALID_PARAMETER_VALUE",
            "'tags[0].value'",
        ),
        (
            "model-versions/create",
            json!({"name": "m", "source": "s3://b/k", "model_id": "m-00000000000000000000000000000000"}),
            "RESOURCE_DOES_NOT_EXIST",
            "m-000",
        ),
        ("runs/create", json!({"experiment_id": "77"}), "RESOURCE_DOES_NOT_EXIST", "77"),
    ] {
        world.refused(Method::POST, path, body, code, text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backslash_in_a_pattern_is_a_character_like_any_other() {
    let world = World::begin().await;
    let run = world.run().await;
    world.post("runs/log-parameter", json!({"run_id": run, "key": "path", "value": "C:\\tmp\\"})).await;
    world
        .post(
            "runs/set-tag",
            json!({"run_id": run, "key": "table", "value": "[\"r\\u00e9sum\\u00e9_1%.json\"]"}),
        )
        .await;
    world.post("registered-models/create", json!({"name": "a\\b"})).await;
    world.post("experiments/create", json!({"name": "x\\y"})).await;
    let found = async |path: &str, list: &str, filter: &str| {
        let mut body = json!({"filter": filter, "max_results": 10});
        body["experiment_ids"] = json!(["0"]);
        world.post(path, body).await[list].as_array().map_or(0, Vec::len)
    };
    for (filter, count) in [
        ("params.path LIKE '%\\'", 1),
        ("params.path LIKE 'C:\\tmp%'", 1),
        ("params.path ILIKE 'c:\\TMP\\'", 1),
        ("params.path LIKE 'C:\\\\tmp%'", 0),
        ("params.path = 'C:\\tmp\\'", 1),
        ("params.path LIKE 'c:%'", 0),
        ("params.path LIKE 'C__tmp_'", 1),
        ("tags.table LIKE '%\"r\\u00e9sum\\u00e9%'", 1),
        ("tags.table LIKE '%\\%.json%'", 1),
    ] {
        assert_eq!(found("runs/search", "runs", filter).await, count, "{filter}");
    }
    assert_eq!(found("registered-models/search", "registered_models", "name LIKE 'a\\%'").await, 1);
    assert_eq!(found("experiments/search", "experiments", "name ILIKE '%\\Y'").await, 1);
    assert_eq!(found("model-versions/search", "model_versions", "name LIKE '%\\'").await, 0);
    assert_eq!(found("logged-models/search", "models", "name LIKE '%\\'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logged_table_is_found_by_its_name_in_any_script() {
    let world = World::begin().await;
    let run = world.run().await;
    // As `mlflow.log_table` writes it.
    let value = r#"[{"path": "r\u00e9sum\u00e9 \ud83d\ude00.json", "type": "table"}]"#;
    for key in ["mlflow.loggedArtifacts", "other"] {
        world.post("runs/set-tag", json!({"run_id": run, "key": key, "value": value})).await;
    }
    for (key, name, count) in [
        ("mlflow.loggedArtifacts", "résumé 😀.json", 1),
        ("mlflow.loggedArtifacts", "r\\u00e9sum\\u00e9 \\ud83d\\ude00.json", 1),
        ("mlflow.loggedArtifacts", "resumé 😀.json", 0),
        ("other", "résumé 😀.json", 0),
    ] {
        // As `mlflow.load_table` asks.
        let filter = format!("tags.{key} LIKE '%\"path\"%:%\"{name}\",%\"type\"%:%\"table\"%'");
        let found = world
            .post("runs/search", json!({"filter": filter, "experiment_ids": ["0"], "max_results": 10}))
            .await;
        assert_eq!(found["runs"].as_array().map_or(0, Vec::len), count, "{filter}");
    }
}
