//! Tokens: who shows none is told so, each one calls its own deployments, and they change while the server
//! runs.

use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_api::inference::{
    LogSettingsRequest, ModelInferRequest, RepositoryIndexRequest, ServerLiveRequest, ServerMetadataRequest,
};
use slipway_domain::access::token_digest;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::grpc::floats_request;
use crate::serving::{Serving, answer, cache, point};
use crate::world::{World, eventually, fixture};

fn entry(name: &str, token: &str, models: &[&str]) -> Value {
    json!({"name": name, "sha256": hex::encode(token_digest(token.as_bytes())), "models": models})
}

fn file(entries: &[Value]) -> String {
    json!({"tokens": entries}).to_string()
}

/// Two models in a folder, and a server that asks for tokens.
async fn guarded(cache: &tempfile::TempDir, tokens: &Path) -> (World, Serving) {
    let world = World::start().await;
    let models = cache.path().join("models");
    for model in ["points", "others"] {
        let version = models.join(model).join("1");
        std::fs::create_dir_all(&version).expect("it works");
        std::fs::write(version.join("model.onnx"), fixture("linear_minus_one.onnx")).expect("it works");
    }
    let more = [
        ("SLIPWAY_SERVING_MODEL_DIR", models.to_str().expect("it works")),
        ("SLIPWAY_SERVING_TOKENS_FILE", tokens.to_str().expect("it works")),
    ];
    let serving = Serving::start(&world, cache, &more).await;
    serving.wait_until_ready().await;
    (world, serving)
}

async fn ask(serving: &Serving, path: &str, token: &str) -> (StatusCode, Value) {
    let request = serving.http.post(serving.url(path)).bearer_auth(token);
    answer(request.json(&point([0.0, 0.0]))).await
}

async fn show(serving: &Serving, path: &str, token: &str) -> (StatusCode, Value) {
    answer(serving.http.get(serving.url(path)).bearer_auth(token)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn slipways_own_routes_refuse_with_problems_and_those_of_the_protocols_with_their_errors() {
    let cache = cache();
    let tokens = cache.path().join("tokens.json");
    std::fs::write(&tokens, file(&[entry("one", "t-one", &["points"]), entry("all", "t-all", &["*"])]))
        .unwrap();
    let (_world, serving) = guarded(&cache, &tokens).await;
    let ask = async |method: reqwest::Method, path: &str, token: Option<&str>| {
        let mut request = serving.http.request(method, serving.url(path)).json(&json!({}));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let header = |name: &str| {
            let value = response.headers().get(name).map(|value| value.to_str().unwrap());
            value.unwrap_or_default().to_owned()
        };
        let (kind, challenge) = (header("content-type"), header("www-authenticate"));
        (response.status().as_u16(), kind, challenge, response.json::<Value>().await.unwrap())
    };
    let (get, post, delete) = (reqwest::Method::GET, reqwest::Method::POST, reqwest::Method::DELETE);
    let (list, other) = ("/api/v1/deployments", "/api/v1/deployments/others");
    let labels = "/v1/deployments/others/labels";
    for (method, path, token, status, code) in [
        (&get, list, None, 401, "unauthenticated"),
        (&get, list, Some("wrong"), 401, "unauthenticated"),
        (&get, "/openapi.json", None, 401, "unauthenticated"),
        (&get, other, Some("t-one"), 403, "denied"),
        (&post, labels, Some("t-one"), 403, "denied"),
        (&delete, list, Some("t-all"), 403, "denied"),
        (&get, "/api/v1/none", Some("t-all"), 404, "no-such-route"),
    ] {
        let (found, kind, challenge, body) = ask(method.clone(), path, token).await;
        assert_eq!((found, body["code"].as_str()), (status, Some(code)), "{method} {path}: {body}");
        assert_eq!(kind, "application/problem+json", "{method} {path}");
        assert_eq!(body["status"], status, "{body}");
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
        let expected = if status == 401 { "Bearer realm=\"slipway-serving\"" } else { "" };
        assert_eq!(challenge, expected, "{method} {path}");
    }
    for (path, token, status) in
        [("/v2/models/others", Some("t-one"), 403), ("/v2", None, 401), ("/v1/models/others", None, 401)]
    {
        let (found, kind, _, body) = ask(get.clone(), path, token).await;
        assert_eq!((found, kind.as_str()), (status, "application/json"), "{path}");
        assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["error"], "{path}");
    }
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_calls_its_own_models_over_rest_and_nobody_calls_without() {
    let cache = cache();
    let tokens = cache.path().join("tokens.json");
    let expired = {
        let mut entry = entry("old", "t-old", &["*"]);
        entry["expires_at"] = json!("2020-01-01T00:00:00Z");
        entry
    };
    std::fs::write(
        &tokens,
        file(&[entry("one", "t-one", &["points"]), entry("all", "t-all", &["*"]), expired]),
    )
    .unwrap();
    let (_world, serving) = guarded(&cache, &tokens).await;
    let infer = "/v2/models/points/infer";
    // By the quick way in, by the router, by KServe's v1, and by a name in other letters.
    let predict = json!({"instances": [[0.0, 0.0]]});
    for path in [infer, "/v2/models/points/versions/1/infer", "/v2/models/%70oints/infer"] {
        assert_eq!(ask(&serving, path, "t-one").await.0, 200, "{path}");
        for (token, status) in [("wrong", 401), ("t-old", 401)] {
            assert_eq!(ask(&serving, path, token).await.0, status, "{path} {token}");
        }
        let bare = serving.http.post(serving.url(path)).json(&point([0.0, 0.0])).send().await.unwrap();
        assert_eq!(bare.status(), 401);
        assert_eq!(bare.headers()["www-authenticate"], "Bearer realm=\"slipway-serving\"");
        let body: Value = bare.json().await.unwrap();
        assert_eq!(body["error"], "expected 'Authorization: Bearer <token>'");
        let path = path.replace("points", "others").replace("%70oints", "%6fthers");
        let (status, body) = ask(&serving, &path, "t-one").await;
        assert_eq!(
            (status.as_u16(), body["error"].as_str()),
            (403, Some("the token 'one' is not for model 'others'"))
        );
        assert_eq!(ask(&serving, &path, "t-all").await.0, 200);
    }
    let v1 = |model: &str, token: &str| {
        let request = serving.http.post(serving.url(&format!("/v1/models/{model}:predict")));
        answer(request.bearer_auth(token).json(&predict))
    };
    assert_eq!((v1("points", "t-one").await.0.as_u16(), v1("others", "t-one").await.0.as_u16()), (200, 403));
    // A model that is not there is not told to those whom it would not be for.
    assert_eq!(ask(&serving, "/v2/models/nothing/infer", "t-one").await.0, 403);
    assert_eq!(ask(&serving, "/v2/models/nothing/infer", "t-all").await.0, 404);

    // What a caller sees is what it may call.
    for path in ["/v2/health/live", "/v2/health/ready", "/healthz", "/readyz", "/"] {
        assert_eq!(serving.get(path).await.0, 200, "{path}");
    }
    for path in ["/v2", "/v2/models", "/v2/models/points", "/v2/models/stats", "/v2/logging", "/v2/none"] {
        assert_eq!(serving.get(path).await.0, 401, "{path}");
    }
    assert_eq!(show(&serving, "/v2/models", "t-one").await.1, json!({"models": ["points"]}));
    assert_eq!(show(&serving, "/v2/models", "t-all").await.1, json!({"models": ["others", "points"]}));
    let (_, index) = ask(&serving, "/v2/repository/index", "t-one").await;
    assert_eq!(index.as_array().unwrap().len(), 1, "{index}");
    let (_, stats) = show(&serving, "/v2/models/stats", "t-one").await;
    assert_eq!(stats["model_stats"].as_array().unwrap().len(), 1, "{stats}");
    assert_eq!(show(&serving, "/v2/models/others/config", "t-one").await.0, 403);
    // What concerns everybody takes a token for everything.
    for path in ["/v2/logging", "/v2/repository/models/points/load", "/v2/models/points/trace/setting"] {
        assert_eq!(ask(&serving, path, "t-one").await.0, 403, "{path}");
        assert_ne!(ask(&serving, path, "t-all").await.0, 403, "{path}");
    }
    let metrics = serving.http.get(format!("{}/metrics", serving.metrics)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        "serving_token_uses_total{token=\"one\"}",
        "serving_requests_refused_total{reason=\"expired-token\"} 3",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("t-one"));
    assert_eq!(show(&serving, "/metrics", "t-all").await.0, 404, "they are on their own port");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_calls_show_their_token_as_metadata() {
    let cache = cache();
    let tokens = cache.path().join("tokens.json");
    std::fs::write(&tokens, file(&[entry("one", "t-one", &["points"])])).unwrap();
    let (_world, serving) = guarded(&cache, &tokens).await;
    let mut client = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();
    fn with<T>(token: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    }
    let infer = |model: &str| ModelInferRequest { model_name: model.into(), ..floats_request() };
    assert!(client.model_infer(with("t-one", infer("points"))).await.is_ok());
    let code = async |request| client.clone().model_infer(request).await.unwrap_err().code();
    assert_eq!(code(Request::new(infer("points"))).await, Code::Unauthenticated);
    assert_eq!(code(with("wrong", infer("points"))).await, Code::Unauthenticated);
    assert_eq!(code(with("t-one", infer("others"))).await, Code::PermissionDenied);
    assert!(client.server_live(ServerLiveRequest {}).await.is_ok());
    let channel = tonic::transport::Endpoint::from_shared(serving.grpc.clone()).unwrap().connect().await;
    let mut health = HealthClient::new(channel.unwrap());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
    // The health of a model is the model's to tell, like everything else of it.
    let points = || HealthCheckRequest { service: "points".into() };
    assert_eq!(health.check(points()).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(health.check(with("t-one", points())).await.is_ok());
    let others = with("t-one", HealthCheckRequest { service: "others".into() });
    assert_eq!(health.watch(others).await.unwrap_err().code(), Code::PermissionDenied);
    let bare = client.server_metadata(ServerMetadataRequest {}).await.unwrap_err();
    assert_eq!(bare.code(), Code::Unauthenticated);
    let index = client.repository_index(with("t-one", RepositoryIndexRequest::default())).await.unwrap();
    assert_eq!(index.into_inner().models.len(), 1);
    let mut change = LogSettingsRequest::default();
    change.settings.insert("log_info".into(), Default::default());
    assert_eq!(client.log_settings(with("t-one", change)).await.unwrap_err().code(), Code::PermissionDenied);

    // A token that is taken away ends at the next message of a stream, too.
    let (requests, sent) = tokio::sync::mpsc::channel(4);
    let stream = tokio_stream::wrappers::ReceiverStream::new(sent);
    let mut answers = client.model_stream_infer(with("t-one", stream)).await.unwrap().into_inner();
    requests.send(infer("points")).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().error_message, "");
    std::fs::write(&tokens, file(&[entry("two", "t-two", &["points"])])).unwrap();
    eventually("the new token is good", || async {
        client.clone().model_infer(with("t-two", infer("points"))).await.ok()
    })
    .await;
    // The stream itself ends within seconds; a message before that is answered with the error.
    let _ = requests.send(infer("points")).await;
    let end = loop {
        match answers.message().await {
            Ok(answer) => assert_eq!(answer.unwrap().error_message, "the token is unknown"),
            Err(end) => break end,
        }
    };
    assert_eq!((end.code(), end.message()), (Code::Unauthenticated, "the token is unknown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_streams_end_with_their_token_and_say_why() {
    let cache = cache();
    let tokens = cache.path().join("tokens.json");
    let kept = entry("kept", "t-kept", &["points"]);
    std::fs::write(&tokens, file(&[entry("one", "t-one", &["points"]), kept.clone()])).unwrap();
    let (_world, serving) = guarded(&cache, &tokens).await;
    let channel = tonic::transport::Endpoint::from_shared(serving.grpc.clone()).unwrap();
    let channel = channel.connect().await.unwrap();
    fn silent<T>(token: &str) -> (tokio::sync::mpsc::Sender<T>, Request<ReceiverStream<T>>) {
        let (sender, sent) = tokio::sync::mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(sent));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        (sender, request)
    }
    let (_open, request) = silent("t-one");
    let mut inference = GrpcInferenceServiceClient::new(channel.clone());
    let mut predictions = inference.model_stream_infer(request).await.unwrap().into_inner();
    let (_kept_open, request) = silent("t-kept");
    let mut going_on = inference.model_stream_infer(request).await.unwrap().into_inner();
    let (_asking, request) = silent("t-one");
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let mut reflected = reflection.server_reflection_info(request).await.unwrap().into_inner();
    let mut watch = Request::new(HealthCheckRequest { service: "points".into() });
    watch.metadata_mut().insert("authorization", "Bearer t-one".parse().unwrap());
    let mut health = HealthClient::new(channel).watch(watch).await.unwrap().into_inner();
    assert!(health.message().await.unwrap().is_some());

    std::fs::write(&tokens, file(&[kept])).unwrap();
    let ends = [
        predictions.message().await.unwrap_err(),
        reflected.message().await.unwrap_err(),
        health.message().await.unwrap_err(),
    ];
    for end in ends {
        assert_eq!((end.code(), end.message()), (Code::Unauthenticated, "the token is unknown"));
    }
    // The other token's stream is still there.
    let more = tokio::time::timeout(std::time::Duration::from_millis(100), going_on.message()).await;
    assert!(more.is_err(), "{more:?}");
}

/// As Kubernetes changes a mounted Secret: a link to a folder is replaced at once.
fn swap(folder: &Path, version: &str, text: &str) -> PathBuf {
    std::fs::create_dir_all(folder.join(version)).expect("it works");
    std::fs::write(folder.join(version).join("tokens.json"), text).expect("it works");
    std::os::unix::fs::symlink(version, folder.join("..next")).expect("it works");
    std::fs::rename(folder.join("..next"), folder.join("..data")).expect("it works");
    let link = folder.join("tokens.json");
    if !link.exists() {
        std::os::unix::fs::symlink("..data/tokens.json", &link).expect("it works");
    }
    link
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_rotated_while_the_server_runs_and_a_broken_file_changes_nothing() {
    let (cache, secret) = (cache(), cache());
    let (old, new) = (entry("old", "t-old", &["points"]), entry("new", "t-new", &["points"]));
    let tokens = swap(secret.path(), "v1", &file(std::slice::from_ref(&old)));
    let (_world, serving) = guarded(&cache, &tokens).await;
    let works = async |token: &str| ask(&serving, "/v2/models/points/infer", token).await.0 == 200;
    assert!(works("t-old").await && !works("t-new").await);
    // Both, while callers change over.
    swap(secret.path(), "v2", &file(&[old, new.clone()]));
    eventually("the new token is good", || async { works("t-new").await.then_some(()) }).await;
    assert!(works("t-old").await);
    // A broken file is counted, and the rules stay.
    swap(secret.path(), "v3", "{\"tokens\": [");
    let errors = "slipway_serving_token_file_errors_total 1";
    eventually("the broken file is counted", || async {
        let text =
            serving.http.get(format!("{}/metrics", serving.metrics)).send().await.ok()?.text().await.ok()?;
        text.contains(errors).then_some(())
    })
    .await;
    assert!(works("t-old").await && works("t-new").await);
    swap(secret.path(), "v4", &file(&[new]));
    eventually("the old token has ended", || async { (!works("t-old").await).then_some(()) }).await;
    assert!(works("t-new").await);
}

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// No token.
    Nothing,
    /// Any good token.
    Any,
    /// A token for the model `points`.
    Model,
    /// A token for all models.
    All,
}

/// Every route of the REST port, as `services/serving/src/api/rest/router.rs` writes it, and what a call of
/// it needs.
const ROUTES: [(&str, &str, Needs); 43] = [
    ("GET", "/", Needs::Nothing),
    ("GET", "/v2", Needs::Any),
    ("GET", "/v2/", Needs::Any),
    ("GET", "/v2/health/live", Needs::Nothing),
    ("GET", "/v2/health/ready", Needs::Nothing),
    // Lists show the models of the token.
    ("GET", "/v2/models", Needs::Any),
    ("GET", "/v2/models/stats", Needs::Any),
    ("GET", "/v1/models", Needs::Any),
    ("POST", "/v2/repository/index", Needs::Any),
    ("POST", "/v2/repository/models/{name}/load", Needs::All),
    ("POST", "/v2/repository/models/{name}/unload", Needs::All),
    ("POST", "/v2/repository/{repository}/models/{name}/load", Needs::All),
    ("POST", "/v2/repository/{repository}/models/{name}/unload", Needs::All),
    ("GET", "/v2/logging", Needs::Any),
    ("POST", "/v2/logging", Needs::All),
    ("GET", "/v2/trace/setting", Needs::Any),
    ("POST", "/v2/trace/setting", Needs::All),
    ("GET", "/v2/models/{name}/trace/setting", Needs::Model),
    ("POST", "/v2/models/{name}/trace/setting", Needs::All),
    ("GET", "/v1/models/{name}", Needs::Model),
    ("POST", "/v1/models/{name}", Needs::Model),
    ("POST", "/v1/deployments/{name}/labels", Needs::Model),
    ("GET", "/v2/{*rest}", Needs::Any),
    ("POST", "/v1/{*rest}", Needs::Any),
    ("GET", "/v2/models/{name}", Needs::Model),
    ("GET", "/v2/models/{name}/ready", Needs::Model),
    ("POST", "/v2/models/{name}/infer", Needs::Model),
    ("GET", "/v2/models/{name}/config", Needs::Model),
    ("GET", "/v2/models/{name}/stats", Needs::Model),
    ("GET", "/v2/models/{name}/versions/{version}", Needs::Model),
    ("GET", "/v2/models/{name}/versions/{version}/ready", Needs::Model),
    ("POST", "/v2/models/{name}/versions/{version}/infer", Needs::Model),
    ("GET", "/v2/models/{name}/versions/{version}/config", Needs::Model),
    ("GET", "/v2/models/{name}/versions/{version}/stats", Needs::Model),
    // There are no regions, so there is nothing to protect; clients ask and are answered.
    ("GET", "/v2/systemsharedmemory/status", Needs::Any),
    ("GET", "/v2/systemsharedmemory/region/{region}/status", Needs::Any),
    ("POST", "/v2/systemsharedmemory/region/{region}/register", Needs::Any),
    ("POST", "/v2/systemsharedmemory/region/{region}/unregister", Needs::Any),
    ("POST", "/v2/systemsharedmemory/unregister", Needs::Any),
    ("GET", "/v2/cudasharedmemory/status", Needs::Any),
    ("POST", "/v2/cudasharedmemory/region/{region}/register", Needs::Any),
    ("POST", "/v2/cudasharedmemory/region/{region}/unregister", Needs::Any),
    ("POST", "/v2/cudasharedmemory/unregister", Needs::Any),
];

/// The first field of the messages that name a model.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// Every method of the inference service, and what a call of it needs: one about the model `others` where it
/// is about a model, else one with an empty message.
const METHODS: [(&str, Needs); 20] = [
    ("ServerLive", Needs::Nothing),
    ("ServerReady", Needs::Nothing),
    ("ModelReady", Needs::Model),
    ("ServerMetadata", Needs::Any),
    ("ModelMetadata", Needs::Model),
    ("ModelInfer", Needs::Model),
    // Each message of a stream is answered for itself.
    ("ModelStreamInfer", Needs::Any),
    ("ModelConfig", Needs::Model),
    // Without a model: those that the token is for.
    ("ModelStatistics", Needs::Any),
    ("RepositoryIndex", Needs::Any),
    ("RepositoryModelLoad", Needs::All),
    ("RepositoryModelUnload", Needs::All),
    // Without settings, they are shown; changing them needs a token for all models.
    ("TraceSetting", Needs::Any),
    ("LogSettings", Needs::Any),
    ("SystemSharedMemoryStatus", Needs::Any),
    ("SystemSharedMemoryRegister", Needs::Any),
    ("SystemSharedMemoryUnregister", Needs::Any),
    ("CudaSharedMemoryStatus", Needs::Any),
    ("CudaSharedMemoryRegister", Needs::Any),
    ("CudaSharedMemoryUnregister", Needs::Any),
];

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn every_route_and_method_needs_the_token_that_the_table_says() {
    let source = include_str!("../../src/api/rest/router.rs");
    let patterns = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    for pattern in patterns {
        assert!(ROUTES.iter().any(|(_, known, _)| *known == pattern), "{pattern} is not in the table");
    }
    let proto = include_str!("../../../../proto/inference/grpc_service.proto");
    for method in proto.split("rpc ").skip(1).filter_map(|rest| rest.split('(').next()) {
        assert!(METHODS.iter().any(|(known, _)| *known == method), "{method} is not in the table");
    }

    let cache = cache();
    let tokens = cache.path().join("tokens.json");
    let entries = [
        entry("all", "t-all", &["*"]),
        entry("points", "t-points", &["points"]),
        entry("other", "t-other", &["others"]),
    ];
    std::fs::write(&tokens, file(&entries)).unwrap();
    let (_world, serving) = guarded(&cache, &tokens).await;
    for (method, pattern, needs) in ROUTES {
        let path = pattern
            .replace("{repository}", "main")
            .replace("{version}", "1")
            .replace("{region}", "r")
            .replace("{*rest}", "nothing/here");
        // KServe's v1 has the verb in the name.
        let verb = if (method, pattern) == ("POST", "/v1/models/{name}") { ":predict" } else { "" };
        let path = path.replace("{name}", &format!("points{verb}"));
        let status = async |token: Option<&str>| {
            let call = serving.http.request(method.parse().unwrap(), serving.url(&path)).json(&json!({}));
            let call = if let Some(token) = token { call.bearer_auth(token) } else { call };
            call.send().await.unwrap().status().as_u16()
        };
        let open = |status: u16| !matches!(status, 401 | 403);
        let [none, wrong, other, own, all] = [
            status(None).await,
            status(Some("wrong")).await,
            status(Some("t-other")).await,
            status(Some("t-points")).await,
            status(Some("t-all")).await,
        ];
        let seen = (none, wrong, other, own, all);
        let fits = match needs {
            Needs::Nothing => [none, wrong, other, own, all].into_iter().all(open),
            Needs::Any => none == 401 && wrong == 401 && open(other) && open(own),
            Needs::Model => none == 401 && wrong == 401 && other == 403 && open(own),
            Needs::All => none == 401 && wrong == 401 && other == 403 && own == 403,
        };
        assert!(fits && open(all), "{method} {path} needs {needs:?}: {seen:?}");
    }

    let channel =
        tonic::transport::Endpoint::from_shared(serving.grpc.clone()).unwrap().connect().await.unwrap();
    for (method, needs) in METHODS {
        let code = async |token: Option<&str>| {
            let mut client = tonic::client::Grpc::new(channel.clone());
            client.ready().await.unwrap();
            let name = if needs == Needs::Model { "others" } else { "" };
            let mut request = Request::new(Named { name: name.to_owned() });
            if let Some(token) = token {
                request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            }
            let path = format!("/inference.GRPCInferenceService/{method}").parse().unwrap();
            let codec = tonic_prost::ProstCodec::<Named, ()>::default();
            client.unary(request, path, codec).await.err().map_or(Code::Ok, |status| status.code())
        };
        let open = |code: Code| !matches!(code, Code::Unauthenticated | Code::PermissionDenied);
        let (none, wrong) = (code(None).await, code(Some("wrong")).await);
        let (own, all) = (code(Some("t-points")).await, code(Some("t-all")).await);
        let fits = match needs {
            Needs::Nothing => open(none) && open(wrong) && open(own),
            Needs::Any => none == Code::Unauthenticated && wrong == Code::Unauthenticated && open(own),
            Needs::Model | Needs::All => {
                none == Code::Unauthenticated
                    && wrong == Code::Unauthenticated
                    && own == Code::PermissionDenied
            }
        };
        assert!(fits && open(all), "{method} needs {needs:?}: {none:?} {wrong:?} {own:?} {all:?}");
    }
}
