//! What a request names by id is authorised like a read of it. A tenant of one experiment tries every way to
//! reach the things of another, and what rows from before these rules show.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::proto::registry::GetTrainingProfileRequest;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_service_kit::registry::{RegistryToken, registry_channel};
use sqlx::PgPool;

use crate::access::{Person, mlflow};
use crate::world::{MODEL, World};

/// Stands in everything that the tenant must not see.
const SECRET: &str = "zircon";

/// The things of one tenant.
struct Things {
    experiment: String,
    run: String,
    logged_model: String,
}

/// A run with everything that a card shows, a logged model, and a registered model `name` with a version from
/// each.
async fn things(person: &Person<'_>, experiment: &str, name: &str, word: &str) -> Things {
    let run = json!({"experiment_id": experiment, "user_id": format!("{word}-user"),
        "run_name": format!("{word}-run")});
    let run = person.post("runs/create", run).await["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let batch = json!({"run_id": run,
        "metrics": [{"key": format!("{word}-accuracy"), "value": 0.99, "timestamp": 1}],
        "params": [{"key": format!("{word}-rate"), "value": "1"}],
        "tags": [{"key": "mlflow.source.git.commit", "value": format!("{word}-commit")}]});
    person.post("runs/log-batch", batch).await;
    let dataset =
        json!({"name": format!("{word}-rows"), "digest": "1", "source_type": "local", "source": "{}"});
    person.post("runs/log-inputs", json!({"run_id": run, "datasets": [{"dataset": dataset}]})).await;
    let profile = json!({"features": {(format!("{word}-feature")): {}}}).to_string();
    for (path, bytes) in [("slipway/profile.json", profile.as_bytes()), ("model/model.onnx", MODEL)] {
        let path = format!("{experiment}/{run}/artifacts/{path}");
        assert_eq!(person.put_file(&path, bytes).await, StatusCode::OK, "{path}");
    }
    let model = json!({"experiment_id": experiment, "name": format!("{word}-model"), "source_run_id": run});
    let made = person.post("logged-models", model).await;
    let logged_model = made["model"]["info"]["model_id"].as_str().unwrap().to_owned();
    let path = format!("{experiment}/models/{logged_model}/artifacts/model.onnx");
    assert_eq!(person.put_file(&path, MODEL).await, StatusCode::OK);
    person.post("registered-models/create", json!({ "name": name })).await;
    for source in [format!("runs:/{run}/model"), format!("models:/{logged_model}")] {
        person.post("model-versions/create", json!({"name": name, "source": source})).await;
    }
    let alias = json!({"name": name, "alias": "champion", "version": "1"});
    person.post("registered-models/alias", alias).await;
    Things { experiment: experiment.to_owned(), run, logged_model }
}

/// A platform with the things of an owner and of a tenant; the tenant may do everything with its own.
async fn stage(world: &World) -> (Person<'_>, Things, Things) {
    let admin = world.admin();
    let (ours, theirs) = (admin.experiment("ours").await, admin.experiment("theirs").await);
    let scope = format!("experiment:{ours}");
    let eve = world.person("eve", &[(&scope, "editor"), ("model:ours", "deployer")]).await;
    let theirs = things(&admin, &theirs, "theirs", SECRET).await;
    let ours = things(&eve, &ours, "ours", "plain").await;
    (eve, ours, theirs)
}

/// Every row that a request could write.
async fn fingerprint(world: &World) -> Vec<String> {
    const TABLES: [&str; 22] = [
        "experiments",
        "experiment_tags",
        "runs",
        "run_params",
        "run_tags",
        "metrics",
        "latest_metrics",
        "datasets",
        "run_datasets",
        "logged_models",
        "logged_model_params",
        "logged_model_tags",
        "logged_model_metrics",
        "run_model_inputs",
        "run_outputs",
        "registered_models",
        "registered_model_tags",
        "model_versions",
        "model_aliases",
        "model_version_files",
        "artifacts",
        "audit",
    ];
    let database = PgPool::connect(&world.database).await.unwrap();
    let mut found = Vec::new();
    for table in TABLES {
        let query = format!(
            "SELECT coalesce(md5(string_agg(t::TEXT, ',' ORDER BY t::TEXT)), '') FROM registry.{table} t"
        );
        let hash: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&database).await.unwrap();
        found.push(format!("{table} {hash}"));
    }
    found
}

/// Waits until what happened so far is in the audit trail.
async fn settled(world: &World) -> Vec<String> {
    let database = PgPool::connect(&world.database).await.unwrap();
    loop {
        let waiting: i64 =
            sqlx::query_scalar("SELECT count(*) FROM registry.outbox").fetch_one(&database).await.unwrap();
        if waiting == 0 {
            // The audit trail gains a row of the refusal itself.
            let tables = fingerprint(world).await.into_iter();
            return tables.filter(|table| !table.starts_with("audit ")).collect();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Each route with a field that names something, and that something is another tenant's.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn attempts(ours: &Things, theirs: &Things) -> Vec<(Method, &'static str, Value)> {
    let (run, model, foreign, model_id) = (&ours.run, &ours.logged_model, &theirs.run, &theirs.logged_model);
    let root = format!("{}/{foreign}/artifacts", theirs.experiment);
    let post = |path: &'static str, body: Value| (Method::POST, path, body);
    let version = |body: Value| {
        let mut body = body;
        body["name"] = "ours".into();
        post("model-versions/create", body)
    };
    let metric = json!({"key": "a", "value": 1.0, "timestamp": 1});
    let mut point = metric.clone();
    point["model_id"] = model_id.as_str().into();
    let mut camel = metric;
    camel["modelId"] = model_id.as_str().into();
    let mut single = point.clone();
    single["run_id"] = run.as_str().into();
    vec![
        post(
            "logged-models",
            json!({"experiment_id": ours.experiment, "name": "m", "source_run_id": foreign}),
        ),
        post("logged-models", json!({"experiment_id": ours.experiment, "name": "m", "sourceRunId": foreign})),
        post(
            "logged-models",
            json!({"experiment_id": ours.experiment, "name": "m", "source_run_id": "unknown"}),
        ),
        post("logged-models", json!({"experiment_id": theirs.experiment, "name": "m", "source_run_id": run})),
        post("runs/create", json!({"experiment_id": theirs.experiment})),
        post("runs/log-inputs", json!({"run_id": run, "models": [{"model_id": model_id}]})),
        post(
            "runs/log-inputs",
            json!({"run_id": run, "models": [{"model_id": model}, {"modelId": model_id}]}),
        ),
        post("runs/log-inputs", json!({"run_id": foreign, "models": [{"model_id": model}]})),
        post("runs/outputs", json!({"run_id": run, "models": [{"model_id": model_id, "step": 1}]})),
        post("runs/outputs", json!({"run_id": run, "models": [{"model_id": model}, {"model_id": model_id}]})),
        post("runs/log-metric", single),
        post("runs/log-batch", json!({"run_id": run, "metrics": [point]})),
        post("runs/log-batch", json!({"run_id": run, "metrics": [camel]})),
        version(json!({"source": format!("runs:/{foreign}/model")})),
        version(json!({"source": format!("runs:///{foreign}/model")})),
        version(json!({"source": format!("runs:/{foreign}/model"), "run_id": foreign})),
        version(json!({"source": format!("models:/{model_id}")})),
        version(json!({"source": format!("models:/{model_id}"), "model_id": model_id, "run_id": run})),
        version(json!({"source": "models:/theirs/1"})),
        version(json!({"source": "models:/theirs/latest"})),
        version(json!({"source": "models:/theirs@champion"})),
        version(json!({"source": "models://theirs/2"})),
        version(json!({"source": format!("mlflow-artifacts:/{root}/model")})),
        version(json!({"source": format!("mlflow-artifacts://host:5000/{root}/model")})),
        version(json!({"source": format!("http://host/api/2.0/mlflow-artifacts/artifacts/{root}/model")})),
        version(json!({"source": format!("mlflow-artifacts:/{}/{run}/artifacts/model", ours.experiment),
                "run_id": foreign})),
        version(json!({"source": format!("mlflow-artifacts:/{}/{run}/artifacts/model", ours.experiment),
                "model_id": model_id})),
        version(json!({"source": format!("runs:/{run}/model"), "model_id": model_id})),
        version(json!({"source": "s3://bucket/model", "run_id": foreign})),
        version(json!({"source": "s3://bucket/model", "runId": foreign})),
        version(json!({"source": "s3://bucket/model", "model_id": model_id})),
        version(json!({"source": "s3://bucket/model", "run_id": "unknown"})),
        post("registered-models/rename", json!({"name": "ours", "new_name": "theirs"})),
        post("registered-models/rename", json!({"name": "theirs", "new_name": "ours"})),
        post("artifacts/presigned-download-url", json!({"run_id": foreign, "path": "model/model.onnx"})),
        post(
            "artifacts/presigned-download-url",
            json!({"run_id": run, "model_id": model_id, "path": "model.onnx"}),
        ),
        post("artifacts/presigned-upload-url", json!({"run_id": run, "model_id": model_id, "path": "x"})),
        (Method::PATCH, "logged-models/{theirs}/tags", json!({"tags": [{"key": "k", "value": "v"}]})),
        (Method::POST, "logged-models/{theirs}/params", json!({"params": [{"key": "k", "value": "v"}]})),
    ]
}

/// Everything that a tenant may read, and in which a reference could show something.
async fn everything(eve: &Person<'_>, ours: &Things, theirs: &Things) -> String {
    let mut seen = String::new();
    for version in 1..=3 {
        for what in
            ["", "/card", "/card?format=markdown", "/lineage", "/promotion?alias=champion", "/reports"]
        {
            seen += &eve.text(&format!("/api/v1/models/ours/versions/{version}{what}")).await;
        }
    }
    let all = json!([ours.experiment, theirs.experiment]);
    for path in ["runs/search", "logged-models/search", "experiments/search-datasets"] {
        seen += &eve.post(path, json!({ "experiment_ids": all })).await.to_string();
    }
    for path in [
        "/api/v1/models".to_owned(),
        "/api/v1/runs".to_owned(),
        "/api/v1/models/ours/versions".to_owned(),
        mlflow("model-versions/search"),
        mlflow("registered-models/search"),
        mlflow("experiments/search"),
        mlflow(&format!("logged-models/{}", ours.logged_model)),
        mlflow(&format!("runs/get?run_id={}", ours.run)),
        mlflow(&format!("metrics/get-history-bulk?run_id={}&metric_key=a", ours.run)),
    ] {
        seen += &eve.text(&path).await;
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_what_the_caller_may_not_read_is_refused_and_writes_nothing() {
    let world = World::guarded(&[]).await;
    let (eve, ours, theirs) = stage(&world).await;
    let before = settled(&world).await;
    for (method, path, body) in attempts(&ours, &theirs) {
        let path = path.replace("{theirs}", &theirs.logged_model);
        let (status, answer) = eve.send(method, &mlflow(&path), body.clone()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path} {body}: {answer}");
        assert!(!answer.to_string().contains(SECRET), "{path} {body}: {answer}");
    }
    for path in [
        format!("metrics/get-history-bulk?run_id={}&run_id={}&metric_key=a", ours.run, theirs.run),
        format!("metrics/get-history-bulk-interval?run_ids={}&run_ids={}&metric_key=a", ours.run, theirs.run),
        format!("metrics/get-history?run_id={}&metric_key=a", theirs.run),
        format!("artifacts/list?run_id={}", theirs.run),
    ] {
        assert_eq!(eve.send(Method::GET, &mlflow(&path), json!({})).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(settled(&world).await, before, "a refused request wrote something");
    assert!(!everything(&eve, &ours, &theirs).await.contains(SECRET));
}

impl World {
    async fn sql(&self, statement: &str) {
        let database = PgPool::connect(&self.database).await.unwrap();
        let statement = format!("SET search_path = registry; {statement}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&database).await.unwrap();
    }

    /// The training profile of a version of `ours`, as another service asks for it.
    async fn profile(&self, person: &Person<'_>, version: &str) -> Result<String, tonic::Code> {
        let token = RegistryToken::of(person.token().to_owned()).resolve().unwrap();
        let mut client = RegistryClient::new(registry_channel(&self.url, &token).unwrap());
        let asked = GetTrainingProfileRequest { model: "ours".to_owned(), version: version.to_owned() };
        let answer = client.get_training_profile(asked).await.map_err(|status| status.code())?;
        Ok(String::from_utf8(answer.into_inner().profile_json).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_before_it_was_authorised_shows_nothing_and_passes_no_policy() {
    let world = World::guarded(&[]).await;
    let (eve, ours, theirs) = stage(&world).await;
    let admin = world.admin();
    let (run, model) = (&theirs.run, &ours.logged_model);
    let policy = json!({"rules": [{"rule": "metric-at-least", "metric": "zircon-accuracy", "value": 0.9},
        {"rule": "has-run"}]});
    let policy_path = "/api/v1/models/ours/policies/champion";
    let (status, answer) = admin.send(Method::PUT, policy_path, policy).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(world.profile(&eve, "2").await.unwrap().contains("plain-feature"));

    // As a registry before these rules stored it: the logged model names the run, and version 2 took it from
    // there.
    world.sql(&format!("UPDATE logged_models SET source_run_id = '{run}' WHERE model_id = '{model}'")).await;
    world
        .sql(&format!(
            "UPDATE model_versions SET run_id = '{run}', run_experiment_id = NULL \
        WHERE version = 2 AND logged_model_id = '{model}'"
        ))
        .await;
    let migration = include_str!("../../../../migrations/registry/0023_authorised_links.sql");
    world.sql(&migration.replace("ADD COLUMN", "ADD COLUMN IF NOT EXISTS")).await;

    // But for the name of the metric, which the policy asks for.
    let seen = everything(&eve, &ours, &theirs).await.replace("zircon-accuracy", "");
    assert!(!seen.contains(SECRET), "{seen}");
    let card = eve.get("/api/v1/models/ours/versions/2/card").await;
    assert!(card["run"].is_null() && card["run_hidden"].is_string(), "{card}");
    assert_eq!(card["metrics"], json!({}));
    assert_eq!(world.profile(&eve, "2").await, Err(tonic::Code::NotFound));
    // Another service asks for all its callers, whatever it may read itself.
    assert_eq!(world.profile(&admin, "2").await, Err(tonic::Code::NotFound));
    // Those who may read the run see it; no judgement counts it.
    let card = admin.get("/api/v1/models/ours/versions/2/card").await;
    assert_eq!(card["run"]["name"], "zircon-run", "{card}");
    let alias = json!({"name": "ours", "alias": "champion", "version": "2"});
    for person in [&eve, &admin] {
        let judged = person.get("/api/v1/models/ours/versions/2/promotion?alias=champion").await;
        assert_eq!(judged["allowed"], false, "{judged}");
        let (status, answer) =
            person.send(Method::POST, &mlflow("registered-models/alias"), alias.clone()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    }
    // What is reached through the row is authorised like the row.
    let before = settled(&world).await;
    for source in [format!("models:/{model}"), "models:/ours/2".to_owned()] {
        let body = json!({"name": "ours", "source": source});
        let (status, answer) = eve.send(Method::POST, &mlflow("model-versions/create"), body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{source}: {answer}");
    }
    assert_eq!(settled(&world).await, before);
    // The other version keeps its run.
    assert_eq!(eve.get("/api/v1/models/ours/versions/1/card").await["run"]["name"], "plain-run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_authorised_is_seen_by_every_reader_of_the_version() {
    let world = World::guarded(&[]).await;
    let (eve, ours, theirs) = stage(&world).await;
    let scopes = [format!("experiment:{}", ours.experiment), format!("experiment:{}", theirs.experiment)];
    let bob = [(scopes[0].as_str(), "editor"), (scopes[1].as_str(), "viewer"), ("model:ours", "editor")];
    let bob = world.person("bob", &bob).await;
    let body = json!({"experiment_id": ours.experiment, "name": "m", "source_run_id": theirs.run});
    let made = bob.post("logged-models", body).await;
    let id = made["model"]["info"]["model_id"].as_str().unwrap();
    bob.post("model-versions/create", json!({"name": "ours", "source": format!("models:/{id}")})).await;
    let card = eve.get("/api/v1/models/ours/versions/3/card").await;
    assert_eq!(
        (&card["run"]["name"], &card["metrics"]["zircon-accuracy"]),
        (&json!("zircon-run"), &json!(0.99))
    );
    assert!(world.profile(&eve, "3").await.unwrap().contains(SECRET));
    // And may be copied by them, though not taken from the logged model, which shows less.
    let copy = json!({"name": "ours", "source": "models:/ours/3"});
    eve.post("model-versions/create", copy).await;
    assert_eq!(eve.get("/api/v1/models/ours/versions/4/card").await["run"]["name"], "zircon-run");
    let taken = json!({"name": "ours", "source": format!("models:/{id}")});
    assert_eq!(
        eve.send(Method::POST, &mlflow("model-versions/create"), taken).await.0,
        StatusCode::FORBIDDEN
    );
    // A run of the same id in another experiment is another run.
    world.sql(&format!("UPDATE runs SET experiment_id = 0 WHERE run_id = '{}'", theirs.run)).await;
    assert!(eve.get("/api/v1/models/ours/versions/3/card").await["run"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_model_see_its_files_and_nothing_that_its_run_logs_later() {
    let world = World::guarded(&[]).await;
    let admin = world.admin();
    let experiment = admin.experiment("e").await;
    let run = admin.run(&experiment).await;
    let root = format!("{experiment}/{run}/artifacts");
    assert_eq!(admin.put_file(&format!("{root}/model.onnx"), MODEL).await, StatusCode::OK);
    admin.post("registered-models/create", json!({"name": "m"})).await;
    admin.post("model-versions/create", json!({"name": "m", "source": format!("runs:/{run}")})).await;
    for path in ["later.txt", "later/more.txt"] {
        assert_eq!(admin.put_file(&format!("{root}/{path}"), SECRET.as_bytes()).await, StatusCode::OK);
    }
    let eve = world.person("eve", &[("model:m", "viewer"), ("model:copy", "editor")]).await;
    let file = |path: &str| format!("/model-versions/get-artifact?name=m&version=1&path={path}");
    assert_eq!(eve.send(Method::GET, &file("model.onnx"), json!({})).await.0, StatusCode::OK);
    for path in ["later.txt", "later/more.txt"] {
        assert_eq!(eve.send(Method::GET, &file(path), json!({})).await.0, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(eve.file(&format!("{root}/{path}")).await, StatusCode::FORBIDDEN, "{path}");
    }
    let listed = eve.get(&format!("/api/2.0/mlflow-artifacts/artifacts?path={root}")).await;
    assert_eq!(listed["files"], json!([{"path": "model.onnx", "is_dir": false, "file_size": MODEL.len()}]));
    let listed = eve.get(&format!("/api/2.0/mlflow-artifacts/artifacts?path={root}/later")).await;
    assert_eq!(listed, json!({}));
    // A copy has the files of its original.
    eve.post("registered-models/create", json!({"name": "copy"})).await;
    eve.post("model-versions/create", json!({"name": "copy", "source": "models:/m/1"})).await;
    let copy = eve.get("/api/v1/models/copy/versions/1").await;
    let files: Vec<&str> =
        copy["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(files, ["model.onnx"]);
    assert_eq!(copy["digest"], eve.get("/api/v1/models/m/versions/1").await["digest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_show_names_of_models_that_the_caller_may_read() {
    let world = World::guarded(&[]).await;
    let (eve, ours, _theirs) = stage(&world).await;
    let admin = world.admin();
    let id = &ours.logged_model;
    admin.post("registered-models/create", json!({"name": SECRET})).await;
    admin.post("model-versions/create", json!({"name": SECRET, "source": format!("models:/{id}")})).await;
    let path = mlflow(&format!("logged-models/{id}"));
    let tag = |model: &Value| {
        let tags = model["info"]["tags"].as_array().unwrap().clone();
        let tag = tags.into_iter().find(|tag| tag["key"] == "mlflow.modelVersions").unwrap();
        tag["value"].as_str().unwrap().to_owned()
    };
    let model = eve.get(&path).await["model"].clone();
    assert_eq!(model["info"]["registrations"], json!([{"name": "ours", "version": "2"}]));
    assert!(!model.to_string().contains(SECRET) && tag(&model).contains("ours"), "{model}");
    let found = eve.post("logged-models/search", json!({"experiment_ids": [ours.experiment]})).await;
    assert!(!found.to_string().contains(SECRET), "{found}");
    // Neither do searches tell it, one letter after another.
    for search in [
        json!({"filter": "tags.`mlflow.modelVersions` LIKE '%z%'"}),
        json!({"order_by": [{"field_name": "tags.`mlflow.modelVersions`"}]}),
    ] {
        let mut search = search;
        search["experiment_ids"] = json!([ours.experiment]);
        let (status, answer) = eve.send(Method::POST, &mlflow("logged-models/search"), search).await;
        assert!(status == StatusCode::FORBIDDEN || status == StatusCode::BAD_REQUEST, "{answer}");
    }
    // What MLflow's client read, extended and wrote back loses nothing that it could not see.
    let body =
        json!({"tags": [{"key": "mlflow.modelVersions", "value": "[{\"name\": \"ours\", \"version\": 2}]"}]});
    let (status, answer) = eve.send(Method::PATCH, &format!("{path}/tags"), body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(!answer.to_string().contains(SECRET), "{answer}");
    let model = admin.get(&path).await["model"].clone();
    assert!(tag(&model).contains(SECRET) && tag(&model).contains("ours"), "{model}");
    assert_eq!(model["info"]["registrations"].as_array().unwrap().len(), 2);
    // A refused upload names no model either.
    let run = admin.run(&ours.experiment).await;
    let file = format!("{}/{run}/artifacts/model/model.onnx", ours.experiment);
    assert_eq!(eve.put_file(&file, MODEL).await, StatusCode::OK);
    admin
        .post("model-versions/create", json!({"name": SECRET, "source": format!("runs:/{run}/model")}))
        .await;
    let upload = format!("/api/2.0/mlflow-artifacts/artifacts/{file}");
    for (method, body) in [(Method::PUT, json!("other")), (Method::DELETE, json!({}))] {
        let (status, answer) = eve.send(method, &upload, body).await;
        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
        assert!(!answer.to_string().contains(SECRET), "{answer}");
    }
}

/// The same over REST v1: what a body names is authorised where it is stored, and a name that is taken over
/// needs the role on it.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_rest_v1_refer_to_nothing_that_the_caller_may_not_read() {
    let world = World::guarded(&[]).await;
    let (eve, ours, theirs) = stage(&world).await;
    let create = "/api/v1/models/{name}/versions".replace("{name}", "ours");
    let location = format!("mlflow-artifacts:/{}/{}/artifacts/model", theirs.experiment, theirs.run);
    for body in [
        json!({"source": format!("runs:/{}/model", theirs.run)}),
        json!({"source": format!("models:/{}", theirs.logged_model)}),
        json!({"source": "models:/theirs/1"}),
        json!({ "source": location }),
        json!({"source": format!("runs:/{}/model", ours.run), "run_id": theirs.run}),
        json!({"source": format!("runs:/{}/model", ours.run), "model_id": theirs.logged_model}),
    ] {
        let (status, answer) = eve.send(Method::POST, &create, body.clone()).await;
        assert!(status.is_client_error(), "{body}: {status}: {answer}");
        assert!(!answer.to_string().contains(SECRET), "{answer}");
    }
    let (status, answer) =
        eve.send(Method::POST, &create, json!({"source": format!("runs:/{}/model", ours.run)})).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let rename = "/api/v1/models/{name}/rename".replace("{name}", "ours");
    for new_name in ["theirs", "free"] {
        let (status, answer) = eve.send(Method::POST, &rename, json!({ "new_name": new_name })).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{new_name}: {answer}");
    }
}
