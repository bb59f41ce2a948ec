//! Whether a replica is ready, and what it answers for a model that it cannot load.

use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_api::inference::ModelReadyRequest;
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_api::proto::registry::ModelVersion;
use slipway_api::traffic::{TrafficTable, VersionState, VersionStatus};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::grpc::floats_request;
use crate::serving::{Serving, UNSET, cache, point};
use crate::world::{DEPLOYMENT, World, canary, eventually, fixture, table};

/// Waits until the replica is not ready for its models, and gives the reason.
async fn failed_models(serving: &Serving) -> String {
    eventually("the replica says what it cannot load", || async {
        let (status, body) = serving.get("/readyz").await;
        let reason = body["waiting_for"]["failed-models"].as_str().map(str::to_owned);
        reason.filter(|_| status == StatusCode::SERVICE_UNAVAILABLE)
    })
    .await
}

async fn health_client(serving: &Serving) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(serving.grpc.clone()).expect("an address");
    HealthClient::new(endpoint.connect().await.expect("gRPC answers"))
}

async fn health(serving: &Serving, service: &str) -> Result<ServingStatus, Code> {
    let mut client = health_client(serving).await;
    let checked = client.check(HealthCheckRequest { service: service.to_owned() }).await;
    checked.map(|status| status.into_inner().status()).map_err(|refusal| refusal.code())
}

async fn unavailable(serving: &Serving, path: &str, body: Option<&Value>, reason: &str) {
    let url = serving.url(path);
    let request = match body {
        Some(body) => serving.http.post(url).json(body),
        None => serving.http.get(url),
    };
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
    assert!(answer.headers().contains_key("retry-after"), "{path}");
    let body: Value = answer.json().await.expect("JSON");
    assert!(body["error"].as_str().expect("a reason").contains(reason), "{path}: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_load_a_stable_version_says_so_everywhere_until_it_can() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let deleted = world.registry.remove(DEPLOYMENT, "1");
    let serving = Serving::start(&world, &cache, &[]).await;
    let reason = "does not load: the registry: there is no version 1 of points";
    assert_eq!(failed_models(&serving).await, format!("points/1 {reason}"));
    let (status, body) = serving.get("/v2/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body["error"].as_str().unwrap().contains(reason), "{body}");

    let model = format!("/v2/models/{DEPLOYMENT}");
    let (inputs, rows) = (point([0.0, 0.0]), json!({"instances": [[0.0, 0.0]]}));
    for (path, body) in [
        (format!("{model}/infer"), Some(&inputs)),
        (format!("{model}/versions/1/infer"), Some(&inputs)),
        (format!("/v1/models/{DEPLOYMENT}:predict"), Some(&rows)),
        (format!("/v1/models/{DEPLOYMENT}"), None),
        (format!("{model}/ready"), None),
        (format!("{model}/versions/1/ready"), None),
        (model.clone(), None),
        (format!("{model}/config"), None),
    ] {
        unavailable(&serving, &path, body, reason).await;
    }
    let mut grpc = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();
    let refusal = grpc.model_infer(floats_request()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
    assert!(refusal.message().contains(reason), "{refusal}");
    let asked = ModelReadyRequest { name: DEPLOYMENT.into(), version: String::new() };
    assert!(!grpc.model_ready(asked).await.unwrap().into_inner().ready);
    assert_eq!(health(&serving, DEPLOYMENT).await, Ok(ServingStatus::NotServing));
    assert_eq!(health(&serving, "").await, Ok(ServingStatus::NotServing));
    assert_eq!(health(&serving, "inference.GRPCInferenceService").await, Ok(ServingStatus::NotServing));
    assert_eq!(health(&serving, "other").await, Err(Code::NotFound));
    // It is still the rollout controller that decides what is loaded.
    let (status, _) = serving.post(&format!("/v2/repository/models/{DEPLOYMENT}/load"), &json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    // The version is restored: the replica loads it without a restart, and watches see that.
    let mut client = health_client(&serving).await;
    let asked = HealthCheckRequest { service: DEPLOYMENT.into() };
    let mut watch = client.watch(asked).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    world.registry.add(deleted);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    serving.wait_until_ready().await;
    assert_eq!(serving.predict([0.0, 0.0]).await.score, -1.0);
    assert_eq!(health(&serving, DEPLOYMENT).await, Ok(ServingStatus::Serving));
    assert_eq!(health(&serving, "").await, Ok(ServingStatus::Serving));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_missing_is_requested_under_the_new_name_of_its_model() {
    let (world, cache) = (World::start().await, cache());
    let first = world.version("1", "linear_minus_one.onnx").await;
    world.put(&table(1, &first)).await;
    let renamed = world.registry.remove(DEPLOYMENT, "1");
    let serving = Serving::start(&world, &cache, &[]).await;
    failed_models(&serving).await;
    world.registry.add(ModelVersion { model: "renamed".into(), ..renamed });
    world.put(&TrafficTable { model: "renamed".into(), ..table(2, &first) }).await;
    serving.wait_until_ready().await;
    assert_eq!(serving.predict([0.0, 0.0]).await.score, -1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_model_that_is_not_there_sees_it_come_and_go() {
    let (world, cache) = (World::start().await, cache());
    let serving = Serving::ready(&world, &cache).await;
    let mut client = health_client(&serving).await;
    let asked = HealthCheckRequest { service: DEPLOYMENT.into() };
    let mut watch = client.watch(asked).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    loop {
        let status = watch.message().await.unwrap().unwrap().status();
        assert!(matches!(status, ServingStatus::NotServing | ServingStatus::Serving), "{status:?}");
        if status == ServingStatus::Serving {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_unreachable_files_keep_a_new_replica_from_being_ready() {
    let world = World::start().await;
    let model = fixture("linear_plus_one.onnx");
    let mut corrupt = model.to_vec();
    corrupt[100] ^= 1;
    world.put(&table(1, &world.damaged_version("1", &model, &corrupt.into()).await)).await;
    let (damaged, denied, unreachable) = (cache(), cache(), cache());
    let serving = Serving::start(&world, &damaged, &[]).await;
    assert!(failed_models(&serving).await.contains("is damaged: expected SHA-256"));
    drop(serving);
    // Keys that the store does not take are an answer of the store, and no failure that passes.
    let serving = Serving::start(&world, &denied, &[("SLIPWAY_S3_SECRET_KEY", "wrong")]).await;
    assert!(failed_models(&serving).await.contains("access is denied"));
    let is_told = |version: &VersionStatus| {
        version.state == VersionState::Failed
            && version.reason.as_deref().is_some_and(|reason| reason.contains("access is denied"))
    };
    world.status("the controller gets it, too", |status| status.versions.iter().any(is_told)).await;
    drop(serving);
    // A registry that cannot be reached is waited for.
    world.registry.stop();
    let serving = Serving::start(&world, &unreachable, &[]).await;
    eventually("it waits for the registry", || async {
        let (status, body) = serving.get("/readyz").await;
        let waits = body["waiting_for"]["models"].as_str().is_some_and(|told| told.contains("the registry:"));
        (waits && status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    unavailable(&serving, "/v2/models/points/infer", Some(&point([0.0, 0.0])), "is loading: the registry")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_has_to_answer_keeps_a_new_replica_from_being_ready() {
    let (world, cache) = (World::start().await, cache());
    let stable = world.version("1", "linear_minus_one.onnx").await;
    let broken = world.version("2", "sequence.onnx").await;
    // The stable version replaces the candidate.
    world.put(&canary(1, &stable, &broken, 50)).await;
    let mut serving = Serving::ready(&world, &cache).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    serving.kill();
    drop(serving);
    world.put(&table(2, &broken)).await;
    // It answers by the version that it kept, which is not the one that all others answer by.
    let serving = Serving::start(&world, &cache, &[]).await;
    assert!(failed_models(&serving).await.contains("points/2 does not load: output 'list'"));
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    drop(serving);
    let lenient = [("SLIPWAY_SERVING_STRICT_READINESS", "false")];
    let serving = Serving::start(&world, &cache, &lenient).await;
    serving.wait_until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_been_ready_stays_ready_while_a_model_does_not_answer() {
    let (world, cache) = (World::start().await, cache());
    let serving = Serving::ready_with_room_for_one(&world, &cache).await;
    // Version 2 was loaded last or first; asking for it has version 1 unloaded.
    let path = |version: &str, call: &str| format!("/v2/models/{DEPLOYMENT}/versions/{version}/{call}");
    assert_eq!(serving.post(&path("2", "infer"), &point([0.0, 0.0])).await.0, StatusCode::OK);
    eventually("version 1 is unloaded", || async {
        let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
        let first = index.as_array()?.iter().find(|entry| entry["version"] == "1")?.clone();
        first["reason"].as_str()?.contains("unloaded to make room").then_some(())
    })
    .await;
    let folders = ["serving/versions", "serving/blobs"].map(|folder| cache.path().join(folder));
    for folder in &folders {
        std::fs::remove_dir_all(folder).unwrap();
    }
    assert_eq!(serving.get(&path("1", "ready")).await.0, StatusCode::OK, "nothing has asked for it");
    let late = json!({"inputs": point([0.0, 0.0])["inputs"], "parameters": {"timeout": 1000}});
    assert_eq!(serving.post(&path("1", "infer"), &late).await.0, StatusCode::SERVICE_UNAVAILABLE);
    eventually("it says that the version does not load again", || async {
        let (status, body) = serving.get(&path("1", "ready")).await;
        let told = body["error"].as_str().is_some_and(|told| told.contains("does not load again"));
        (status == StatusCode::SERVICE_UNAVAILABLE && told).then_some(())
    })
    .await;
    assert_eq!(serving.get("/readyz").await.0, StatusCode::OK);
    for folder in &folders {
        std::fs::create_dir_all(folder).unwrap();
    }
    eventually("it answers again", || async {
        (serving.post(&path("1", "infer"), &point([0.0, 0.0])).await.0 == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(serving.get(&path("1", "ready")).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_503_and_not_404() {
    let (world, without, with) = (World::start().await, cache(), cache());
    let first = world.version("1", "linear_minus_one.onnx").await;
    // Loaded, and still without traffic: the rollout controller gives it that next.
    let warm = TrafficTable { warm: vec![first.clone()], ..TrafficTable::empty(DEPLOYMENT, DEPLOYMENT) };
    world.put(&warm).await;
    let serving = Serving::ready(&world, &with).await;
    let is_ready = |version: &VersionStatus| version.state == VersionState::Ready;
    world.status("it is loaded", |status| status.versions.iter().any(is_ready)).await;
    unavailable(&serving, "/v2/models/points/infer", Some(&point([0.0, 0.0])), "gets its traffic soon").await;
    let (status, _) = serving.post("/v2/models/other/infer", &point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // A replica that does not know the deployments cannot say that one does not exist.
    world.nats.kill().await;
    let serving = Serving::start(&world, &without, &[]).await;
    let reason = "has not received all traffic tables";
    unavailable(&serving, "/v2/models/other/infer", Some(&point([0.0, 0.0])), reason).await;
    unavailable(&serving, "/v2/models/other/ready", None, reason).await;
    assert_eq!(health(&serving, "other").await, Ok(ServingStatus::NotServing));
    world.nats.start_again().await;
    eventually("it knows the deployments", || async {
        let (status, _) = serving.get("/v2/models/other/ready").await;
        (status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_version_of_a_folder_that_loads_answers_after_a_restart_too() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    for (version, file) in [
        ("1", "linear_minus_one.onnx"),
        ("2", "linear_plus_one.onnx"),
        ("3", "make_models.py"),
        ("4", "sequence.onnx"),
    ] {
        let version = models.path().join("points").join(version);
        std::fs::create_dir_all(&version).unwrap();
        std::fs::write(version.join("model.onnx"), fixture(file)).unwrap();
    }
    let folder = models.path().display().to_string();
    let settings = [("SLIPWAY_SERVING_MODEL_DIR", folder.as_str()), ("SLIPWAY_NATS_URL", UNSET)];
    let serving = Serving::start(&world, &cache, &settings).await;
    serving.wait_until_ready().await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "2");
    // The first version loads in the background, since it gets no traffic.
    eventually("each version is ready or unavailable", || async {
        let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
        let states: Vec<_> = index.as_array()?.iter().map(|model| model["state"].clone()).collect();
        (states == ["READY", "READY", "UNAVAILABLE", "UNAVAILABLE"]).then_some(())
    })
    .await;
    unavailable(&serving, "/v2/models/points/versions/4/infer", Some(&point([0.0, 0.0])), "output 'list'")
        .await;
    // Where none loads, there is no answer, and the replica is not ready.
    std::fs::remove_dir_all(models.path().join("points/1")).unwrap();
    std::fs::remove_dir_all(models.path().join("points/2")).unwrap();
    drop(serving);
    let serving = Serving::start(&world, &cache, &settings).await;
    assert!(failed_models(&serving).await.contains("points/4 does not load: output 'list'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_served_without_a_connection_that_was_not_asked_for() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    let version = models.path().join("points/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("model.onnx"), fixture("linear_minus_one.onnx")).unwrap();
    let folder = models.path().display().to_string();
    let settings = [
        ("SLIPWAY_SERVING_MODEL_DIR", folder.as_str()),
        ("SLIPWAY_NATS_URL", UNSET),
        ("SLIPWAY_LOG", "debug"),
    ];
    let serving = Serving::start(&world, &cache, &settings).await;
    serving.wait_until_ready().await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    let labels = json!({"labels": [{"request_id": "r-1", "label": 1}]});
    let (status, problem) = serving.post("/v1/deployments/points/labels", &labels).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("--nats-url"), "{problem}");
    let log = serving.log();
    assert!(!log.contains("NATS") && !log.contains(":4222") && !log.contains("async_nats"), "{log}");
    assert!(serving.shown().await.contains("slipway_serving_records_published_total 0"));
}
