//! Roles on the routes of REST v1, object by object.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::rest::registry::{ExperimentsQuery, ModelsQuery, RunSearch, RunsQuery, VersionsQuery};

use crate::access::Person;
use crate::world::{MODEL, World};

/// Every new route that names one thing, with the least role that it requires there.
fn routes(experiment: &str, run: &str, model: &str) -> Vec<(Method, String, Value, &'static str)> {
    let (e, r) = (format!("experiments/{experiment}"), format!("runs/{run}"));
    let (m, v) = (format!("models/{model}"), format!("models/{model}/versions/1"));
    let tag = json!({"value": "x"});
    let text = json!({"description": "x"});
    vec![
        (Method::GET, e.clone(), Value::Null, "viewer"),
        (Method::PATCH, e.clone(), json!({"name": format!("new-{experiment}")}), "editor"),
        (Method::PUT, format!("{e}/tags/a"), tag.clone(), "editor"),
        (Method::DELETE, format!("{e}/tags/a"), Value::Null, "editor"),
        (Method::POST, format!("{e}/runs"), json!({}), "editor"),
        (Method::GET, r.clone(), Value::Null, "viewer"),
        (Method::PATCH, r.clone(), json!({"run_name": "x"}), "editor"),
        (
            Method::POST,
            format!("{r}/log"),
            json!({"metrics": [{"key": "a", "value": 1}], "tags": {"t": "x"}}),
            "editor",
        ),
        (Method::DELETE, format!("{r}/tags/t"), Value::Null, "editor"),
        (Method::GET, format!("{r}/metrics/a"), Value::Null, "viewer"),
        (Method::POST, "metrics/sample".to_owned(), json!({"run_ids": [run], "keys": ["a"]}), "viewer"),
        (Method::GET, format!("{r}/artifacts"), Value::Null, "viewer"),
        (Method::GET, format!("{r}/artifacts/preview?path=a.txt"), Value::Null, "viewer"),
        (Method::GET, format!("{r}/artifacts/content?path=a.txt"), Value::Null, "viewer"),
        (Method::DELETE, r.clone(), Value::Null, "editor"),
        (Method::POST, format!("{r}/restore"), json!({}), "editor"),
        (Method::PATCH, m.clone(), text.clone(), "editor"),
        (Method::PUT, format!("{m}/tags/a"), tag.clone(), "editor"),
        (Method::DELETE, format!("{m}/tags/a"), Value::Null, "editor"),
        (Method::PUT, format!("{m}/aliases/a"), json!({"version": "1"}), "deployer"),
        (Method::GET, format!("{m}/aliases/a"), Value::Null, "viewer"),
        (Method::DELETE, format!("{m}/aliases/a"), Value::Null, "deployer"),
        (Method::PATCH, v.clone(), text, "editor"),
        (Method::PUT, format!("{v}/stage"), json!({"stage": "Staging"}), "deployer"),
        (Method::PUT, format!("{v}/tags/a"), tag, "editor"),
        (Method::DELETE, format!("{v}/tags/a"), Value::Null, "editor"),
        (Method::GET, format!("{v}/artifacts"), Value::Null, "viewer"),
        (Method::GET, format!("{v}/artifacts/preview?path=MLmodel"), Value::Null, "viewer"),
        (Method::GET, format!("{v}/artifacts/content?path=MLmodel"), Value::Null, "viewer"),
        (Method::DELETE, e.clone(), Value::Null, "editor"),
        (Method::POST, format!("{e}/restore"), json!({}), "editor"),
    ]
}

const ROLES: [&str; 3] = ["viewer", "editor", "deployer"];

/// An experiment with a run and a file, and a model with a version.
async fn things(admin: &Person<'_>, name: &str) -> (String, String) {
    let experiment = admin.experiment(name).await;
    let run = admin.run(&experiment).await;
    admin.put_file(&format!("{experiment}/{run}/artifacts/a.txt"), b"text").await;
    let model = json!({"experiment_id": experiment, "name": "model"});
    let made = admin.post("logged-models", model).await;
    let id = made["model"]["info"]["model_id"].as_str().unwrap().to_owned();
    for (file, bytes) in
        [("MLmodel", &b"flavors:\n  onnx:\n    data: model.onnx\n"[..]), ("model.onnx", MODEL)]
    {
        admin.put_file(&format!("{experiment}/models/{id}/artifacts/{file}"), bytes).await;
    }
    admin.post("registered-models/create", json!({ "name": name })).await;
    admin.post("model-versions/create", json!({"name": name, "source": format!("models:/{id}")})).await;
    (experiment, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_requires_its_role_on_the_thing_that_it_names() {
    let world = World::guarded(&[]).await;
    let admin = world.admin();
    let (ours, run) = things(&admin, "ours").await;
    let (theirs, foreign) = things(&admin, "theirs").await;
    let scope = format!("experiment:{ours}");
    let mut people = Vec::new();
    for role in ROLES {
        people.push(world.person(role, &[(&scope, role), ("model:ours", role)]).await);
    }
    for (method, path, body, least) in routes(&ours, &run, "ours") {
        for (person, role) in people.iter().zip(ROLES) {
            let (status, answer) =
                person.send(method.clone(), &format!("/api/v1/{path}"), body.clone()).await;
            let rank = |role: &str| ROLES.iter().position(|known| *known == role);
            if role == least {
                assert!(status.is_success(), "{role} {method} {path}: {status}: {answer}");
            } else if rank(role) > rank(least) {
                // What the caller before removed is not there any more.
                assert!(
                    status.is_success() || status == StatusCode::NOT_FOUND,
                    "{role} {method} {path}: {answer}"
                );
            } else {
                assert_eq!(status, StatusCode::FORBIDDEN, "{role} {method} {path}: {answer}");
                assert_eq!(answer["code"], "denied", "{role} {method} {path}: {answer}");
            }
        }
    }
    for (method, path, body, _) in routes(&theirs, &foreign, "theirs") {
        let (status, answer) = people[2].send(method.clone(), &format!("/api/v1/{path}"), body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {answer}");
    }
    for path in ["runs/none", "experiments/99", "models/none"] {
        let (status, _) = people[2].send(Method::GET, &format!("/api/v1/{path}"), Value::Null).await;
        assert_eq!(
            status,
            StatusCode::FORBIDDEN,
            "{path}: only readers of everything learn what does not exist"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_searches_show_what_the_caller_may_read() {
    let world = World::guarded(&[]).await;
    let admin = world.admin();
    let (ours, run) = things(&admin, "ours").await;
    let (theirs, foreign) = things(&admin, "theirs").await;
    let eve =
        world.person("eve", &[(&format!("experiment:{ours}"), "viewer"), ("model:ours", "viewer")]).await;
    let client = eve.client();
    let experiments = client.experiments(&ExperimentsQuery::default()).await.unwrap().experiments;
    assert_eq!(experiments.iter().map(|one| one.experiment_id.as_str()).collect::<Vec<_>>(), [ours.as_str()]);
    let search = RunSearch { experiment_ids: vec![ours, theirs], ..RunSearch::default() };
    let runs = client.search_runs(&search).await.unwrap().runs;
    assert_eq!(runs.iter().map(|one| one.info.run_id.as_str()).collect::<Vec<_>>(), [run.as_str()]);
    assert_eq!(client.runs(&RunsQuery::default()).await.unwrap().runs.len(), 1);
    for query in [None, Some("name LIKE '%'".to_owned())] {
        let query = ModelsQuery { filter: query, ..ModelsQuery::default() };
        let models = client.models(&query).await.unwrap().models;
        assert_eq!(models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["ours"]);
    }
    let versions = client.search_versions(&VersionsQuery::default()).await.unwrap().versions;
    assert_eq!(versions.iter().map(|version| version.model.as_str()).collect::<Vec<_>>(), ["ours"]);
    // One run that may not be read is enough.
    let (status, _) = eve
        .send(Method::POST, "/api/v1/metrics/sample", json!({"run_ids": [run, foreign], "keys": ["a"]}))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    // Models are created by editors of the name, experiments by editors of everything.
    for (path, body) in [("models", json!({"name": "ours"})), ("experiments", json!({"name": "x"}))] {
        let (status, _) = eve.send(Method::POST, &format!("/api/v1/{path}"), body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
    let ed = world.person("ed", &[("model:fresh", "editor")]).await;
    let (status, made) = ed.send(Method::POST, "/api/v1/models", json!({"name": "fresh"})).await;
    assert_eq!((status, &made["name"]), (StatusCode::CREATED, &json!("fresh")));
    let (status, _) = ed.send(Method::POST, "/api/v1/models", json!({"name": "other"})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    for path in ["/openapi.json", "/docs", "/api/v1/events", "/api/v1/experiments"] {
        let response = world.raw(Method::GET, path, "").await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
    }
}
