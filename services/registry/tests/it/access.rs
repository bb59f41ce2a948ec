//! Who may do what, as callers with and without roles see it.

mod grants;
mod models;
mod person;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::proto::registry::GetModelVersionRequest;
use slipway_api::proto::registry::registry_client::RegistryClient;

pub(crate) use self::person::{Person, mlflow};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_nothing_but_health_answers() {
    let world = World::guarded(&[]).await;
    for path in ["/health", "/version", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(world.raw(Method::GET, path, "").await.status(), StatusCode::OK, "{path}");
    }
    let response = world.raw(Method::GET, "/api/2.0/mlflow/experiments/get?experiment_id=0", "").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let challenges: Vec<_> = response.headers().get_all("www-authenticate").iter().cloned().collect();
    assert!(challenges.iter().any(|value| value.as_bytes().starts_with(b"Bearer")), "{challenges:?}");
    assert_eq!(response.json::<Value>().await.unwrap()["error_code"], "UNAUTHENTICATED");

    let response = world.raw(Method::GET, "/api/v1/models", "").await;
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "unauthenticated");

    let mut client = RegistryClient::connect(world.url.clone()).await.unwrap();
    let question = GetModelVersionRequest {
        model: "m".into(),
        version: "1".into(),
        ..GetModelVersionRequest::default()
    };
    assert_eq!(client.get_model_version(question).await.unwrap_err().code(), tonic::Code::Unauthenticated);

    for wrong in
        ["rubbish", "slp_0123456789abcdef_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]
    {
        let response = world.http.get(format!("{}/api/v1/me", world.url)).bearer_auth(wrong).send().await;
        assert_eq!(response.unwrap().status(), StatusCode::UNAUTHORIZED, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_accepted_as_bearer_and_as_password_until_it_is_revoked() {
    let world = World::guarded(&[]).await;
    let ann = world.person("ann", &[("*", "viewer")]).await;
    let me = ann.get("/api/v1/me").await;
    assert_eq!(me["principal"], "ann");
    assert_eq!(me["grants"], json!([{"scope": "*", "role": "viewer"}]));
    assert_eq!(me["origin"], "127.0.0.1");
    let basic = async |user: &str| {
        let request = world.http.get(format!("{}/api/v1/me", world.url)).basic_auth(user, Some(&ann.token));
        request.send().await.unwrap().status()
    };
    assert_eq!(basic("ann").await, StatusCode::OK);
    assert_eq!(basic("token").await, StatusCode::OK);
    assert_eq!(basic("ben").await, StatusCode::UNAUTHORIZED);

    let listed = world.admin().get("/api/v1/tokens").await;
    assert_eq!(listed["tokens"][0]["principal"], "ann");
    assert!(listed["tokens"][0]["last_used_at_unix_ms"].is_number());
    assert!(!listed.to_string().contains(ann.token.rsplit('_').next().unwrap()), "a list shows no secret");
    let id = listed["tokens"][0]["id"].as_str().unwrap();
    assert_eq!(
        world.admin().send(Method::DELETE, &format!("/api/v1/tokens/{id}"), json!({})).await.0,
        StatusCode::OK
    );
    assert_eq!(ann.send(Method::GET, "/api/v1/me", json!({})).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(
        world.admin().send(Method::DELETE, &format!("/api/v1/tokens/{id}"), json!({})).await.0,
        StatusCode::NOT_FOUND
    );

    let database = sqlx::PgPool::connect(&world.database).await.unwrap();
    let body = json!({"name": "short", "principal": "ben", "expires_in_s": 600});
    let (_, made) = world.admin().send(Method::POST, "/api/v1/tokens", body).await;
    let ben = Person { world: &world, token: made["token"].as_str().unwrap().to_owned() };
    sqlx::query("UPDATE registry.api_tokens SET expires_ms = 1").execute(&database).await.unwrap();
    let (status, answer) = ben.send(Method::GET, "/api/v1/me", json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(answer["detail"].as_str().unwrap().contains("expired"), "{answer}");
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn roles_on_an_experiment_hold_for_its_runs_and_files_alone() {
    let world = World::guarded(&[]).await;
    let admin = world.admin();
    let (ours, theirs) = (admin.experiment("ours").await, admin.experiment("theirs").await);
    let (run, foreign) = (admin.run(&ours).await, admin.run(&theirs).await);
    let scope = format!("experiment:{ours}");
    let editor = world.person("ed", &[(&scope, "editor")]).await;
    let viewer = world.person("vi", &[(&scope, "viewer")]).await;
    let ours_words = |role| [role, "experiment "];

    editor.run(&ours).await;
    editor.post("runs/log-metric", json!({"run_id": run, "key": "a", "value": 1.0, "timestamp": 1})).await;
    editor.post("runs/set-tag", json!({"runUuid": run, "key": "a", "value": "b"})).await;
    let batch = json!({"run_id": foreign, "metrics": [{"key": "a", "value": 1, "timestamp": 1}]});
    editor.denied(Method::POST, "runs/log-batch", batch, ours_words("editor")).await;
    viewer
        .denied(
            Method::POST,
            "runs/set-tag",
            json!({"run_id": run, "key": "a", "value": "c"}),
            ours_words("editor"),
        )
        .await;
    viewer.denied(Method::GET, &format!("runs/get?run_id={foreign}"), json!({}), ours_words("viewer")).await;
    viewer.get(&mlflow(&format!("runs/get?run_id={run}"))).await;
    viewer.get(&mlflow("experiments/get-by-name?experiment_name=ours")).await;
    viewer
        .denied(
            Method::GET,
            "experiments/get-by-name?experiment_name=theirs",
            json!({}),
            ours_words("viewer"),
        )
        .await;
    viewer
        .denied(
            Method::GET,
            &format!("metrics/get-history-bulk?run_id={run}&run_id={foreign}&metric_key=a"),
            json!({}),
            ours_words("viewer"),
        )
        .await;
    viewer.denied(Method::GET, "runs/get?run_id=unknown", json!({}), ["viewer", "everything"]).await;
    editor.denied(Method::POST, "experiments/create", json!({"name": "new"}), ["editor", "everything"]).await;

    // Files lie under the experiment; a point for a logged model elsewhere is a write there.
    assert_eq!(editor.put_file(&format!("{ours}/{run}/artifacts/a.txt"), b"a").await, StatusCode::OK);
    assert_eq!(
        editor.put_file(&format!("{theirs}/{foreign}/artifacts/a.txt"), b"a").await,
        StatusCode::FORBIDDEN
    );
    assert_eq!(viewer.put_file(&format!("{ours}/{run}/artifacts/b.txt"), b"b").await, StatusCode::FORBIDDEN);
    assert_eq!(viewer.file(&format!("{ours}/{run}/artifacts/a.txt")).await, StatusCode::OK);
    assert_eq!(viewer.file(&format!("{theirs}/x")).await, StatusCode::FORBIDDEN);
    assert_eq!(viewer.file(&format!("{ours}/../{theirs}/x")).await, StatusCode::FORBIDDEN);
    assert_eq!(viewer.file("elsewhere/x").await, StatusCode::FORBIDDEN);
    viewer.get(&format!("/api/2.0/mlflow-artifacts/artifacts?path={ours}/{run}/artifacts")).await;
    let (status, _) = viewer.send(Method::GET, "/api/2.0/mlflow-artifacts/artifacts", json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let logged = admin.post("logged-models", json!({"experiment_id": theirs, "name": "m"})).await;
    let id = logged["model"]["info"]["model_id"].as_str().unwrap().to_owned();
    viewer.denied(Method::GET, &format!("logged-models/{id}"), json!({}), ours_words("viewer")).await;
    let batch = json!({"run_id": run, "metrics": [{"key": "a", "value": 1, "timestamp": 1, "modelId": id}]});
    editor.denied(Method::POST, "runs/log-batch", batch, ours_words("editor")).await;
    // What one reader would take for one value and another for another is refused.
    for odd in [json!({"modelId": [id]}), json!({"modelId": id, "model_id": "m-1"})] {
        let mut metric = json!({"key": "a", "value": 1, "timestamp": 1});
        metric.as_object_mut().unwrap().extend(odd.as_object().unwrap().clone());
        let batch = json!({"run_id": run, "metrics": [metric]});
        let (status, answer) = editor.send(Method::POST, &mlflow("runs/log-batch"), batch).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
    // MLflow's other ways to files are guarded by what the files belong to.
    let download = |run: &str| format!("/get-artifact?run_id={run}&path=a.txt");
    let upload = |run: &str| format!("/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=up.txt");
    let model_file = format!("/ajax-api/2.0/mlflow/logged-models/{id}/artifacts/files?artifact_file_path=a");
    let version_file = "/model-versions/get-artifact?name=theirs&version=1&path=a".to_owned();
    for (person, method, path, status) in [
        (&viewer, Method::GET, download(&run), StatusCode::OK),
        (&viewer, Method::GET, download(&foreign), StatusCode::FORBIDDEN),
        (&viewer, Method::GET, model_file, StatusCode::FORBIDDEN),
        (&viewer, Method::GET, version_file, StatusCode::FORBIDDEN),
        (&viewer, Method::POST, upload(&run), StatusCode::FORBIDDEN),
        (&editor, Method::POST, upload(&run), StatusCode::OK),
        (&editor, Method::POST, upload(&foreign), StatusCode::FORBIDDEN),
        // The body is the file, and says nothing about where it goes.
        (&editor, Method::POST, format!("{}&run_id={run}", upload(&foreign)), StatusCode::FORBIDDEN),
    ] {
        assert_eq!(person.send(method, &path, json!({ "run_uuid": run })).await.0, status, "{path}");
    }
    // The ways past the proxy are guarded as it is.
    let parts = json!({"path": "big.bin", "num_parts": 1});
    for (directory, allowed) in [(&ours, true), (&theirs, false)] {
        let path = format!("/api/2.0/mlflow-artifacts/mpu/create/{directory}/{run}/artifacts");
        let (status, answer) = editor.send(Method::POST, &path, parts.clone()).await;
        assert_eq!(status == StatusCode::OK, allowed, "{answer}");
        assert_eq!(viewer.send(Method::POST, &path, parts.clone()).await.0, StatusCode::FORBIDDEN);
    }
    let file = json!({"run_id": run, "path": "a.txt"});
    viewer.post("artifacts/presigned-download-url", file.clone()).await;
    viewer.denied(Method::POST, "artifacts/presigned-upload-url", file, ours_words("editor")).await;
    let file = json!({"run_id": foreign, "path": "a.txt"});
    viewer.denied(Method::POST, "artifacts/presigned-download-url", file, ours_words("viewer")).await;
    let (status, _) = editor.send(Method::GET, "/api/v1/webhooks", json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let purge = json!({"dry_run": true});
    assert_eq!(editor.send(Method::POST, "/api/v1/purge", purge).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_what_the_caller_may_see_and_pages_stay_full() {
    let world = World::guarded(&[]).await;
    let admin = world.admin();
    let mut grants = Vec::new();
    for index in 0..6 {
        let experiment = admin.experiment(&format!("e{index}")).await;
        admin.run(&experiment).await;
        admin.post("registered-models/create", json!({"name": format!("m{index}")})).await;
        if index % 2 == 0 {
            grants.push((format!("experiment:{experiment}"), "viewer"));
            grants.push((format!("model:m{index}"), "viewer"));
        }
    }
    let grants: Vec<(&str, &str)> = grants.iter().map(|(scope, role)| (scope.as_str(), *role)).collect();
    let viewer = world.person("vi", &grants).await;

    let all = viewer.post("experiments/search", json!({"max_results": 100})).await;
    assert_eq!(names(&all["experiments"], "name"), ["e4", "e2", "e0"]);
    let first = viewer.post("experiments/search", json!({"max_results": 2})).await;
    assert_eq!(names(&first["experiments"], "name"), ["e4", "e2"]);
    let token = first["next_page_token"].as_str().unwrap();
    let second = viewer.post("experiments/search", json!({"max_results": 2, "page_token": token})).await;
    assert_eq!(names(&second["experiments"], "name"), ["e0"]);
    assert!(second.get("next_page_token").is_none());

    let every: Vec<String> = (0..=6).map(|id: i32| id.to_string()).collect();
    let runs = viewer.post("runs/search", json!({"experiment_ids": every})).await;
    assert_eq!(runs["runs"].as_array().unwrap().len(), 3);
    assert_eq!(viewer.get("/api/v1/runs").await["runs"].as_array().unwrap().len(), 3);
    let models = viewer.get(&mlflow("registered-models/search?max_results=100")).await;
    assert_eq!(names(&models["registered_models"], "name"), ["m0", "m2", "m4"]);
    let page = viewer.get("/api/v1/models?limit=2").await;
    assert_eq!(names(&page["models"], "name"), ["m0", "m2"]);
    let path = format!("/api/v1/models?limit=2&page_token={}", page["next_page_token"].as_str().unwrap());
    assert_eq!(names(&viewer.get(&path).await["models"], "name"), ["m4"]);

    let nobody = world.person("no", &[]).await;
    for path in ["experiments/search", "registered-models/search", "model-versions/search"] {
        assert_eq!(nobody.get(&mlflow(path)).await, json!({}), "{path}");
    }
    assert_eq!(nobody.post("runs/search", json!({"experiment_ids": every})).await, json!({}));
    assert_eq!(nobody.get("/api/v1/runs").await, json!({"runs": []}));
}

fn names(items: &Value, field: &str) -> Vec<String> {
    items.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}
