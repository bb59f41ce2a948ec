//! Registered and logged models, and versions, where MLflow's own tests look closely.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{MODEL, World};

const INVALID: &str = "INVALID_PARAMETER_VALUE";
const ABSENT: &str = "RESOURCE_DOES_NOT_EXIST";
/// Some of the words that names begin with that MLflow's server generates.
const MLFLOWS_WORDS: [&str; 14] = [
    "able", "bold", "bright", "burly", "calm", "capable", "clean", "gentle", "nimble", "orderly", "placid",
    "polite", "silent", "wise",
];

async fn version(world: &World, mut body: Value) -> Value {
    body["name"] = json!("m");
    world.post("model-versions/create", body).await["model_version"].clone()
}

async fn download_uri(world: &World, version: &Value) -> Value {
    let number = version["version"].as_str().unwrap();
    let path = format!("/api/2.0/mlflow/model-versions/get-download-uri?name=m&version={number}");
    world.get(&path).await["artifact_uri"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_may_name_a_run_of_another_server() {
    let world = World::begin().await;
    world.post("registered-models/create", json!({"name": "m"})).await;
    let made = version(&world, json!({"source": "runs:/run_id/model", "run_id": "run_id"})).await;
    assert_eq!((&made["source"], &made["run_id"]), (&json!("runs:/run_id/model"), &json!("run_id")));
    assert_eq!(download_uri(&world, &made).await, "runs:/run_id/model");
    let shown = world.get("/api/v1/models/m/versions/1").await;
    assert_eq!(shown["servable"], false);
    assert!(
        shown["unservable_reason"].as_str().unwrap().contains("a run that this registry does not have"),
        "{shown}"
    );
    let run = world.run().await;
    let known = version(&world, json!({"source": format!("runs:/{run}/model"), "run_id": run})).await;
    assert_eq!(download_uri(&world, &known).await, format!("mlflow-artifacts:/0/{run}/artifacts/model"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_refused_in_mlflows_words() {
    let world = World::begin().await;
    world.post("registered-models/create", json!({"name": "m"})).await;
    let (run, other) = (world.run().await, world.run().await);
    let local =
        "To use a local path as a model version source, the run_id request parameter has to be specified";
    let relative =
        "If supplying a source as an http, https, local file path, ftp, objectstore, or mlflow-artifacts uri";
    let outside = "The run_id request parameter must identify the resource that contains the source.";
    let foreign = "The model_id request parameter must identify the resource that contains the source.";
    let refusals = [
        (json!({"source": "path/to/source"}), local),
        (json!({"source": "file:///tmp", "run_id": run}), local),
        (json!({"source": "mlflow-artifacts://host:9000/models/../../../", "run_id": run}), relative),
        (
            json!({"source": "https://host/api/2.0/mlflow-artifacts/artifacts/..%2f..%2fx", "run_id": run}),
            relative,
        ),
        (json!({"source": "s3a://bucket/../x"}), relative),
        (json!({"source": "mlflow-artifacts://host:9000/models/artifact%00", "run_id": run}), relative),
        (json!({"source": "runs:/run_id/model", "run_id": "run_id_1"}), outside),
        (json!({"source": format!("mlflow-artifacts:/0/{other}/artifacts/m"), "run_id": run}), outside),
        (json!({"source": "mlflow-artifacts:/0/x/artifacts/m", "run_id": "nope"}), outside),
        (json!({"source": format!("models:/m-{}", "0".repeat(32))}), foreign),
    ];
    for (mut body, message) in refusals {
        body["name"] = json!("m");
        world.refused(Method::POST, "model-versions/create", body, INVALID, message).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_names_the_version_that_it_was_made_from() {
    let world = World::begin().await;
    let id = world.onnx_model(MODEL).await;
    assert_eq!(world.version("m", &id).await.0, StatusCode::OK);
    world.post("registered-models/alias", json!({"name": "m", "alias": "champion", "version": "1"})).await;
    for source in ["models:/m@champion", "models:/m/latest", "models:/m/1"] {
        let made = version(&world, json!({ "source": source })).await;
        assert!(made["source"].as_str().unwrap().starts_with("models:/m/"), "{made}");
        assert_eq!(made["model_id"], json!(id), "{source}");
    }
    let other = json!({"name": "m", "source": "models:/m/1", "run_id": "other"});
    let message = "The run_id and model_id request parameters must match the referenced model version.";
    world.refused(Method::POST, "model-versions/create", other, INVALID, message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_numbers_are_refused_in_mlflows_words() {
    let world = World::begin().await;
    for name in ["my.model", ".hidden", "a b%"] {
        world.post("registered-models/create", json!({ "name": name })).await;
    }
    let resolves = |name: &str| {
        format!("Invalid value \"{name}\" for parameter 'name' supplied: Names may be treated as files")
    };
    for (name, message) in [
        (".", resolves(".")),
        ("..", resolves("..")),
        ("a/b", "Invalid model name 'a/b'. Names cannot contain '/' or ':'.".to_owned()),
        (" ", "Missing value for required parameter 'name'.".to_owned()),
        ("", "Missing value for required parameter 'name'. See the API docs".to_owned()),
    ] {
        world
            .refused(Method::POST, "registered-models/create", json!({ "name": name }), INVALID, &message)
            .await;
    }
    let rename = json!({"name": "my.model", "new_name": ".."});
    world
        .refused(Method::POST, "registered-models/rename", rename, INVALID, "This name would resolve to '..'")
        .await;
    for (number, code, message) in [
        ("abc", INVALID, "Parameter 'version' must be an integer, got 'abc'."),
        ("-1", ABSENT, "Model Version (name=my.model, version=-1) not found"),
        ("9", ABSENT, "Model Version (name=my.model, version=9) not found"),
    ] {
        let body = json!({"name": "my.model", "version": number, "key": "k", "value": "v"});
        world.refused(Method::POST, "model-versions/set-tag", body, code, message).await;
    }
    let absent = json!({"name": "none", "alias": "a", "version": "1"});
    let message = "Model Version (name=none, version=1) not found";
    world.refused(Method::POST, "registered-models/alias", absent, ABSENT, message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unnamed_logged_models_get_a_name_and_odd_names_are_refused() {
    let world = World::begin().await;
    for body in [json!({"experiment_id": "0"}), json!({"experiment_id": "0", "name": ""})] {
        let made = world.post("logged-models", body).await;
        let name = made["model"]["info"]["name"].as_str().unwrap().to_owned();
        let parts: Vec<&str> = name.split('-').collect();
        assert!(parts.len() == 3 && parts[2].parse::<u32>().is_ok(), "{name}");
        assert!(MLFLOWS_WORDS.contains(&parts[0]), "{name} does not look as if MLflow had generated it");
    }
    for name in ["my.model", "a/b", "a:b", "a%b", "it's"] {
        let body = json!({"experiment_id": "0", "name": name});
        world
            .refused(Method::POST, "logged-models", body, INVALID, "cannot contain the following characters")
            .await;
    }
    let made = world.post("logged-models", json!({"experiment_id": "0", "name": "named"})).await;
    let id = made["model"]["info"]["model_id"].as_str().unwrap();
    let message = format!("No tag with key 'x' found for model with ID '{id}'.");
    world.refused(Method::DELETE, &format!("logged-models/{id}/tags/x"), json!({}), ABSENT, &message).await;
    let search = |filter: &str| json!({"experiment_ids": ["0"], "filter": filter});
    let found = world.post("logged-models/search", search("name IN ('named')")).await;
    assert_eq!(found["models"].as_array().unwrap().len(), 1);
    assert_eq!(
        world.post("logged-models/search", search("name IN ()")).await,
        json!({}),
        "nothing is in no list"
    );
    world
        .refused(
            Method::POST,
            "logged-models/search",
            json!({}),
            INVALID,
            "required parameter 'experiment_ids'",
        )
        .await;
    for filter in ["Foo", "name = 'named' OR name = 'x'"] {
        let message = "Invalid filter string: '";
        world.refused(Method::POST, "logged-models/search", search(filter), INVALID, message).await;
    }
    let nothing = json!({"experiment_ids": ["0"], "filter": "run_id IN ()"});
    let message = "expected a non-empty list of string values, but got empty list";
    world.refused(Method::POST, "runs/search", nothing, INVALID, message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_changed_last_are_found_first() {
    let world = World::begin().await;
    world.post("registered-models/create", json!({"name": "m"})).await;
    for _ in 0..2 {
        version(&world, json!({"source": "s3://bucket/model"})).await;
        // Times are in milliseconds, and these two have to differ.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let numbers = || async {
        let found = world.get("/api/2.0/mlflow/model-versions/search").await;
        let versions = found["model_versions"].as_array().unwrap().clone();
        versions.iter().map(|version| version["version"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(numbers().await, ["2", "1"]);
    let change = json!({"name": "m", "version": "1", "description": "changed"});
    world.call(Method::PATCH, "model-versions/update", change).await;
    assert_eq!(numbers().await, ["1", "2"]);
    for key in ["run_id", "source_path"] {
        let path = format!("model-versions/search?order_by=name&order_by={key}%20DESC");
        let message = format!("Invalid attribute key '{key}' specified. Valid keys are '{{'name', ");
        world.refused(Method::GET, &path, json!({}), INVALID, &message).await;
    }
    let absent = json!({"name": "none", "version": "1"});
    let message = "Model Version (name=none, version=1) not found";
    world.refused(Method::DELETE, "model-versions/delete", absent, ABSENT, message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_logged_model_are_listed_in_its_tag_as_mlflow_writes_them() {
    let world = World::begin().await;
    let id = world.onnx_model(MODEL).await;
    for number in 1..=2 {
        let (status, made) = world.version("m", &id).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        let model = world.get(&format!("/api/2.0/mlflow/logged-models/{id}")).await["model"].take();
        let tags = model["info"]["tags"].as_array().unwrap();
        let tag = tags.iter().find(|tag| tag["key"] == "mlflow.modelVersions").unwrap();
        let listed: Vec<String> =
            (1..=number).map(|version| format!("{{\"name\": \"m\", \"version\": {version}}}")).collect();
        assert_eq!(tag["value"], format!("[{}]", listed.join(", ")));
    }
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn logged_models_are_found_by_their_metrics_on_a_dataset() {
    let world = World::begin().await;
    let run = world.run().await;
    for (name, train, test) in [("a", 0.9, 0.1), ("b", 0.5, 0.7), ("c", 0.1, 0.4)] {
        let made = world.post("logged-models", json!({"experiment_id": "0", "name": name})).await;
        let id = made["model"]["info"]["model_id"].clone();
        for (digest, value, at) in [("train", train, 1), ("test", test, 2)] {
            let metric = json!({"run_id": run, "key": "acc", "value": value, "timestamp": at, "model_id": id,
                "dataset_name": "iris", "dataset_digest": digest});
            world.post("runs/log-metric", metric).await;
        }
    }
    let names = |body: Value| {
        let world = &world;
        async move {
            let found = world.post("logged-models/search", body).await;
            let models = found["models"].as_array().cloned().unwrap_or_default();
            models.iter().map(|model| model["info"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    for (digest, expected) in [("train", ["a", "b", "c"]), ("test", ["b", "c", "a"])] {
        let order = json!([{"field_name": "metrics.acc", "ascending": false, "dataset_name": "iris",
            "dataset_digest": digest}]);
        assert_eq!(names(json!({"experiment_ids": ["0"], "order_by": order})).await, expected, "{digest}");
    }
    let on = |dataset: Value| {
        json!({"experiment_ids": ["0"], "filter": "metrics.acc >= 0.5", "datasets": [dataset],
            "order_by": [{"field_name": "name"}]})
    };
    assert_eq!(names(on(json!({"dataset_name": "iris", "dataset_digest": "test"}))).await, ["b"]);
    assert_eq!(names(on(json!({"dataset_name": "iris"}))).await, ["a", "b"]);
    assert_eq!(names(on(json!({"dataset_name": "other"}))).await, Vec::<String>::new());
    // In an order the digest alone says which dataset is meant.
    let by = |dataset: Value| {
        let mut order = json!([{"field_name": "metrics.acc", "ascending": false}]);
        order[0].as_object_mut().unwrap().extend(dataset.as_object().unwrap().clone());
        json!({"experiment_ids": ["0"], "order_by": order})
    };
    let train = by(json!({"dataset_digest": "train"}));
    assert_eq!(names(train.clone()).await, ["a", "b", "c"]);
    assert_eq!(names(by(json!({"dataset_digest": "test"}))).await, ["b", "c", "a"]);

    // A page goes on with the search that it belongs to, and with no other.
    let page = |mut search: Value, token: &Value| {
        search["page_token"] = token.clone();
        search["max_results"] = json!(1);
        search
    };
    let first = world.post("logged-models/search", page(train.clone(), &Value::Null)).await;
    let token = &first["next_page_token"];
    assert_eq!(names(page(train.clone(), token)).await, ["b"]);
    let mut elsewhere = page(train.clone(), token);
    elsewhere["experiment_ids"] = json!(["1"]);
    let mut filtered = page(train.clone(), token);
    filtered["filter"] = json!("name = 'b'");
    let mut on_dataset = page(train, token);
    on_dataset["datasets"] = json!([{"dataset_name": "iris"}]);
    for (search, part) in [
        (elsewhere, "Experiment IDs in the page token do not match"),
        (filtered, "Filter string in the page token does not match"),
        (on_dataset, "Filter string in the page token does not match"),
        (page(by(json!({"dataset_digest": "test"})), token), "Order by in the page token does not match"),
        (page(by(json!({})), token), "Order by in the page token does not match"),
    ] {
        world.refused(Method::POST, "logged-models/search", search, INVALID, part).await;
    }
    let nameless = on(json!({"dataset_digest": "test"}));
    let message = "`dataset_name` in the `datasets` clause must be specified.";
    world.refused(Method::POST, "logged-models/search", nameless, INVALID, message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_logged_model_is_shown_where_that_is_asked_for() {
    let world = World::begin().await;
    let made = world.post("logged-models", json!({"experiment_id": "0", "name": "gone"})).await;
    let path = format!("logged-models/{}", made["model"]["info"]["model_id"].as_str().unwrap());
    for _ in 0..2 {
        world.call(Method::DELETE, &path, json!({})).await;
    }
    world.refused(Method::GET, &path, json!({}), ABSENT, "not found").await;
    let shown = world.get(&format!("/api/2.0/mlflow/{path}?allow_deleted=true")).await;
    assert_eq!(shown["model"]["info"]["name"], "gone");
    assert_eq!(world.events("slipway.registry.logged-model.deleted", 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_version_answers_to_latest() {
    let world = World::begin().await;
    world.post("registered-models/create", json!({"name": "m"})).await;
    let latest = "/api/2.0/mlflow/registered-models/alias?name=m&alias=latest";
    let response = world.raw(Method::GET, latest, "").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(response.text().await.unwrap().contains("Latest version not found for model m."));
    for _ in 0..2 {
        version(&world, json!({"source": "s3://bucket/model"})).await;
    }
    assert_eq!(world.get(latest).await["model_version"]["version"], "2");
    let set = json!({"name": "m", "alias": "latest", "version": "1"});
    world.refused(Method::POST, "registered-models/alias", set, INVALID, "is reserved").await;
    let odd = json!({"name": "m", "alias": "a b"});
    world
        .refused(Method::DELETE, "registered-models/alias", odd, INVALID, "Invalid alias name: 'a b'.")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn description_and_tags_of_a_version_leave_the_time_of_its_model() {
    let world = World::begin().await;
    let id = world.onnx_model(MODEL).await;
    world.version("m", &id).await;
    let changed = async || {
        let model = world.get("/api/2.0/mlflow/registered-models/get?name=m").await;
        model["registered_model"]["last_updated_timestamp"].as_i64().unwrap()
    };
    let before = changed().await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let of_version = |more: Value| {
        let mut body = json!({"name": "m", "version": "1"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let update = of_version(json!({"description": "x"}));
    world.call(Method::PATCH, "model-versions/update", update).await;
    world.post("model-versions/set-tag", of_version(json!({"key": "k", "value": "v"}))).await;
    assert_eq!(changed().await, before);
    world.post("model-versions/transition-stage", of_version(json!({"stage": "Staging"}))).await;
    assert!(changed().await > before);
}
