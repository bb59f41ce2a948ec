//! Who may do what, as callers with and without roles see it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::registry::{GetModelVersionRequest, ResolveAliasRequest};
use slipway_service_kit::registry::{RegistryToken, registry_channel};

use crate::world::{ADMIN_TOKEN, MODEL, World};

/// Somebody with a token, and what it may do.
pub(crate) struct Person<'world> {
    world: &'world World,
    token: String,
}

impl World {
    /// A person with these roles.
    pub(crate) async fn person(&self, name: &str, grants: &[(&str, &str)]) -> Person<'_> {
        for (scope, role) in grants {
            let body = json!({"subject": name, "scope": scope, "role": role});
            let (status, answer) = self.admin().send(Method::PUT, "/api/v1/grants", body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
        }
        let body = json!({"name": "test", "principal": name});
        let (status, answer) = self.admin().send(Method::POST, "/api/v1/tokens", body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        Person { world: self, token: answer["token"].as_str().unwrap().to_owned() }
    }

    pub(crate) fn admin(&self) -> Person<'_> {
        Person { world: self, token: ADMIN_TOKEN.to_owned() }
    }
}

impl Person<'_> {
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let mut request = self.world.http.request(method.clone(), format!("{}{path}", self.world.url));
        request = request.bearer_auth(&self.token);
        if method != Method::GET {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send(Method::GET, path, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    /// The typed client of REST v1, with this person's token.
    pub(crate) fn client(&self) -> slipway_client::Registry {
        let client = slipway_client::Client::new(&self.world.url).unwrap();
        client.with_token(Some(self.token.clone().into())).into()
    }

    /// An answer as text.
    pub(crate) async fn text(&self, path: &str) -> String {
        let request = self.world.http.get(format!("{}{path}", self.world.url)).bearer_auth(&self.token);
        request.send().await.unwrap().text().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(Method::POST, &mlflow(path), body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    /// A refusal in MLflow's shape that says which role is missing where.
    pub(crate) async fn denied(&self, method: Method, path: &str, body: Value, words: [&str; 2]) {
        let (status, answer) = self.send(method, &mlflow(path), body).await;
        assert_eq!(
            (status, &answer["error_code"]),
            (StatusCode::FORBIDDEN, &json!("PERMISSION_DENIED")),
            "{path}"
        );
        let message = answer["message"].as_str().unwrap();
        assert!(words.iter().all(|word| message.contains(word)), "{path}: {message}");
    }

    pub(crate) async fn put_file(&self, path: &str, bytes: &[u8]) -> StatusCode {
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", self.world.url);
        let request = self.world.http.put(url).bearer_auth(&self.token).body(bytes.to_vec());
        request.send().await.unwrap().status()
    }

    pub(crate) async fn file(&self, path: &str) -> StatusCode {
        self.send(Method::GET, &format!("/api/2.0/mlflow-artifacts/artifacts/{path}"), json!({})).await.0
    }

    pub(crate) async fn experiment(&self, name: &str) -> String {
        let made = self.post("experiments/create", json!({ "name": name })).await;
        made["experiment_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn run(&self, experiment: &str) -> String {
        let made = self.post("runs/create", json!({"experiment_id": experiment})).await;
        made["run"]["info"]["run_id"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn mlflow(path: &str) -> String {
    format!("/api/2.0/mlflow/{path}")
}

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
        let token = RegistryToken { registry_token: Some(token.to_owned().into()) };
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

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn grants_are_set_listed_and_removed() {
    let world = World::guarded(&[]).await;
    let admin = world.admin();
    let ann = world.person("ann", &[]).await;
    assert_eq!(ann.send(Method::GET, "/api/v1/grants", json!({})).await.0, StatusCode::FORBIDDEN);
    for (subject, scope, role, field) in [
        ("ann", "everywhere", "viewer", "scope"),
        ("ann", "*", "owner", "role"),
        ("group:", "*", "viewer", "subject"),
        ("anonymous", "*", "viewer", "subject"),
        ("ann", "model:a/b", "viewer", "scope"),
        ("ann", "experiment:-1", "viewer", "scope"),
        ("ann", "experiment:99999", "viewer", "scope"),
        ("ann", "experiment:00", "viewer", "scope"),
        ("ann", "experiment:+0", "viewer", "scope"),
        ("ann", " *", "viewer", "scope"),
        ("ann", "model: ", "viewer", "scope"),
        ("group: science", "*", "viewer", "subject"),
    ] {
        let body = json!({"subject": subject, "scope": scope, "role": role});
        let (status, answer) = admin.send(Method::PUT, "/api/v1/grants", body).await;
        assert_eq!((status, &answer["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{answer}");
    }
    // A name has one spelling, and none that is taken for another.
    let long = "x".repeat(257);
    for name in [
        "",
        " ",
        " admin",
        "admin ",
        "admin",
        "Admin",
        "аdmin",
        "ADMIN",
        "ａｄｍｉｎ",
        "adm\u{131}n",
        "system",
        "Anonymous",
        "an\0n",
        "ann\n",
        "ann\u{200b}",
        "\u{202e}nna",
        "ann\u{a0}b",
        &long,
    ] {
        let grant = json!({"subject": name, "scope": "*", "role": "viewer"});
        let token = json!({"name": "t", "principal": name});
        for (method, path, body, field) in
            [(Method::PUT, "grants", grant, "subject"), (Method::POST, "tokens", token, "principal")]
        {
            let (status, answer) = admin.send(method, &format!("/api/v1/{path}"), body).await;
            assert_eq!(
                (status, &answer["field"]),
                (StatusCode::BAD_REQUEST, &json!(field)),
                "{name:?}: {answer}"
            );
        }
    }
    // A grant of before that could not be set now can be removed.
    let database = sqlx::PgPool::connect(&world.database).await.unwrap();
    let old = "INSERT INTO registry.grants VALUES (' admin', 'experiment:-1', 'admin', 1, 'x')";
    sqlx::query(old).execute(&database).await.unwrap();
    let path = "/api/v1/grants?subject=%20admin&scope=experiment:-1";
    assert_eq!(admin.send(Method::DELETE, path, json!({})).await.0, StatusCode::OK);
    // And the token of a name that was valid once proves nothing.
    let ben = world.person("ben", &[("*", "admin")]).await;
    sqlx::query("UPDATE registry.api_tokens SET principal = 'admin' WHERE principal = 'ben'")
        .execute(&database)
        .await
        .unwrap();
    let (status, answer) = ben.send(Method::GET, "/api/v1/me", json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("reserved"), "{answer}");

    world.person("ann", &[("*", "viewer"), ("experiment:0", "editor")]).await;
    // The change is there at once, not when a cache ends.
    assert_eq!(ann.get("/api/v1/me").await["grants"].as_array().unwrap().len(), 2);
    let page = admin.get("/api/v1/grants?subject=ann&limit=1").await;
    assert_eq!(page["grants"][0]["scope"], "*");
    let path = format!(
        "/api/v1/grants?subject=ann&limit=1&page_token={}",
        page["next_page_token"].as_str().unwrap()
    );
    assert_eq!(admin.get(&path).await["grants"][0]["role"], "editor");
    let path = "/api/v1/grants?subject=ann&scope=*";
    assert_eq!(admin.send(Method::DELETE, path, json!({})).await.0, StatusCode::OK);
    assert_eq!(admin.send(Method::DELETE, path, json!({})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        ann.send(Method::GET, &mlflow("experiments/get?experiment_id=1"), json!({})).await.0,
        StatusCode::FORBIDDEN
    );
    ann.get(&mlflow("experiments/get?experiment_id=0")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_an_oidc_issuer_have_what_their_groups_were_granted() {
    let issuer = slipway_testkit::issuer().await;
    let world = World::guarded(&[&format!("--oidc-issuer={}", issuer.url), "--oidc-audience=registry"]).await;
    let experiment = world.admin().experiment("e").await;
    let grant =
        json!({"subject": "group:science", "scope": format!("experiment:{experiment}"), "role": "editor"});
    assert_eq!(world.admin().send(Method::PUT, "/api/v1/grants", grant).await.0, StatusCode::OK);
    let person = |claims: &Value| Person { world: &world, token: issuer.token("ES256", claims) };

    let ann = person(&issuer.claims("ann", "registry", &["science"]));
    ann.run(&experiment).await;
    let me = ann.get("/api/v1/me").await;
    assert_eq!(
        (&me["principal"], &me["credential"], &me["groups"]),
        (&json!("ann"), &json!("oidc"), &json!(["science"]))
    );
    let ben = person(&issuer.claims("ben", "registry", &["sales"]));
    ben.denied(Method::POST, "runs/create", json!({"experiment_id": experiment}), ["editor", "experiment "])
        .await;
    for claims in [
        issuer.claims("ann", "another", &["science"]),
        // Nobody calls itself by a name that means something else here.
        issuer.claims("group:science", "registry", &[]),
        issuer.claims("system", "registry", &[]),
        issuer.claims("admin", "registry", &[]),
        issuer.claims("Admin", "registry", &[]),
        issuer.claims("аdmin", "registry", &[]),
        issuer.claims(" admin", "registry", &[]),
        issuer.claims("admin\u{200b}", "registry", &[]),
        issuer.claims("anonymous", "registry", &[]),
        issuer.claims("job:7", "registry", &[]),
        issuer.claims("slipway:launcher", "registry", &[]),
    ] {
        assert_eq!(
            person(&claims).send(Method::GET, "/api/v1/me", json!({})).await.0,
            StatusCode::UNAUTHORIZED,
            "{claims}"
        );
    }
    let crit = issuer.claims("ann", "registry", &["science"]);
    let token = issuer.token_with("ES256", &json!({"crit": ["b64"], "b64": false}), &crit);
    let (status, answer) = Person { world: &world, token }.send(Method::GET, "/api/v1/me", json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
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
