//! Traces of predictions: queue, batch and run under the request, and the request under its caller.

use std::collections::BTreeSet;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_api::inference::trace_setting_request::SettingValue;
use slipway_api::inference::{ModelInferRequest, TraceSettingRequest};
use slipway_api::traffic::TrafficTable;

use crate::collector::{Collector, attribute};
use crate::grpc::floats_request;
use crate::serving::{Serving, answer, cache, point};
use crate::stress::slow;
use crate::world::{DEPLOYMENT, World, eventually, table};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

async fn traced(file: &str, more: &[(&str, &str)]) -> (World, tempfile::TempDir, Collector, Serving) {
    let (world, cache, collector) = (Box::pin(World::start()).await, cache(), Collector::start().await);
    let version = Box::pin(world.version("1", file)).await;
    world.put(&table(1, &version)).await;
    let mut environment = vec![("SLIPWAY_OTLP_ENDPOINT", collector.endpoint.as_str())];
    environment.extend(more);
    let serving = Box::pin(Serving::start(&world, &cache, &environment)).await;
    serving.wait_until_ready().await;
    world.routed(1).await;
    (world, cache, collector, serving)
}

fn parent(traceparent: &str) -> String {
    format!("00-{TRACE}-{traceparent}-01")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prediction_is_traced_under_its_caller_over_rest_and_grpc() {
    let (_world, _cache, collector, mut serving) = traced("linear_minus_one.onnx", &[]).await;
    let url = serving.url(&format!("/v2/models/{DEPLOYMENT}/infer"));
    let request = serving.http.post(&url).header("traceparent", parent(CALLER)).json(&point([0.0, 0.0]));
    assert_eq!(answer(request).await.0, StatusCode::OK);
    let mut client = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();
    let mut request = tonic::Request::new(floats_request());
    request.metadata_mut().insert("traceparent", parent("b7ad6b7169203332").parse().unwrap());
    client.model_infer(request).await.unwrap();
    // A caller that does not collect its trace is not collected here.
    let unsampled = format!("00-{TRACE}-b7ad6b7169203333-00");
    let request = serving.http.post(&url).header("traceparent", unsampled).json(&point([0.0, 0.0]));
    assert_eq!(answer(request).await.0, StatusCode::OK);
    assert_eq!(serving.get("/v2/health/ready").await.0, StatusCode::OK);
    assert_eq!(serving.terminate(), Some(0));

    assert!(collector.named("GET /v2/health/ready").is_empty(), "probes ask all the time");
    let (batches, runs) = (collector.named("serving.batch"), collector.named("serving.run"));
    assert_eq!((batches.len(), runs.len()), (2, 2));
    let requests: Vec<_> = ["POST /v2/models/{name}/infer", "POST /inference.GRPCInferenceService/{*method}"]
        .iter()
        .flat_map(|name| collector.named(name))
        .collect();
    for (request, caller) in requests.iter().zip([CALLER, "b7ad6b7169203332"]) {
        assert_eq!(
            (hex::encode(&request.trace_id), hex::encode(&request.parent_span_id)),
            (TRACE.into(), caller.into())
        );
        let batch = batches.iter().find(|batch| batch.parent_span_id == request.span_id).unwrap();
        let run = runs.iter().find(|run| run.parent_span_id == batch.span_id).unwrap();
        assert_eq!(
            (attribute(run, "slipway.deployment"), attribute(run, "slipway.version")),
            (DEPLOYMENT.into(), "1".into())
        );
        assert_eq!(
            (attribute(batch, "slipway.rows"), attribute(batch, "slipway.batch_rows")),
            ("1".into(), "1".into())
        );
        assert_eq!(attribute(batch, "slipway.variant"), "stable");
        for (inner, outer) in [(run, batch), (batch, request)] {
            assert!(inner.start_time_unix_nano <= inner.end_time_unix_nano);
            assert!(inner.end_time_unix_nano <= outer.end_time_unix_nano);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_linked_to_the_requests_that_waited_for_it() {
    let (_world, _cache, collector, mut serving) =
        traced("slow.onnx", &[("SLIPWAY_SERVING_INSTANCES", "1")]).await;
    let body = slow(2);
    let asked = (0..32).map(|_| serving.infer(&body));
    let asked: Vec<_> = join_all(asked).await;
    assert!(asked.iter().all(|(status, _)| *status == StatusCode::OK));
    assert_eq!(serving.terminate(), Some(0));
    let (queues, batches) = (collector.named("serving.queue"), collector.named("serving.batch"));
    assert_eq!(batches.len(), 32);
    assert!(queues.iter().any(|queue| attribute(queue, "slipway.wait_us").parse::<u64>().unwrap() > 0));
    let linked: Vec<_> = batches.iter().filter(|batch| !batch.links.is_empty()).collect();
    assert!(!linked.is_empty(), "none was joined");
    let requests: BTreeSet<_> =
        collector.named("POST /v2/models/{name}/infer").into_iter().map(|request| request.span_id).collect();
    for batch in linked {
        let rows: usize = attribute(batch, "slipway.batch_rows").parse().unwrap();
        // Each of the others has two rows, as this one has.
        assert_eq!(batch.links.len(), rows / 2 - 1);
        assert!(batch.links.iter().all(|link| requests.contains(&link.span_id)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_of_traces_changes_while_the_server_runs() {
    let (_world, _cache, collector, mut serving) =
        traced("linear_minus_one.onnx", &[("SLIPWAY_TRACE_RATE", "5")]).await;
    let set = async |name: &str, value: &str| {
        let (status, body) = serving.post("/v2/trace/setting", &json!({name: value})).await;
        assert_eq!((status, &body["trace_mode"]), (StatusCode::OK, &json!("opentelemetry")), "{body}");
        body
    };
    assert_eq!(serving.get("/v2/trace/setting").await.1["trace_rate"], "5");
    for _ in 0..50 {
        serving.predict([0.0, 0.0]).await;
    }
    assert_eq!(set("trace_level", "OFF").await["trace_level"], json!(["OFF"]));
    for _ in 0..50 {
        serving.predict([0.0, 0.0]).await;
    }
    set("trace_level", "TIMESTAMPS").await;
    assert_eq!(set("trace_rate", "1").await["trace_rate"], "1");
    serving.predict([0.0, 0.0]).await;
    assert_eq!(serving.terminate(), Some(0));
    // A fifth of fifty, give or take what else was asked meanwhile, none, and one.
    let traced = collector.named("serving.batch").len();
    assert!((9..=13).contains(&traced), "{traced}");
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn a_model_has_trace_settings_of_its_own_over_rest_and_grpc() {
    let (world, _cache, collector, mut serving) = traced("linear_minus_one.onnx", &[]).await;
    let stable = Some(world.version("2", "linear_plus_one.onnx").await);
    world.put(&TrafficTable { stable, ..TrafficTable::empty("other", DEPLOYMENT) }).await;
    let other = "/v2/models/other/infer";
    eventually("the other deployment answers", || async {
        (serving.post(other, &point([0.0, 0.0])).await.0 == StatusCode::OK).then_some(())
    })
    .await;
    let all = "/v2/trace/setting";
    let own = format!("/v2/models/{DEPLOYMENT}/trace/setting");
    let set = async |path: &str, settings: Value| {
        let (status, body) = serving.post(path, &settings).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(serving.get(path).await.1, body);
        (body["trace_level"][0].as_str().unwrap().to_owned(), body["trace_rate"].as_str().unwrap().to_owned())
    };
    let shown = |level: &str, rate: &str| (level.to_owned(), rate.to_owned());
    let mut client = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();
    // Asks each model twice over each protocol, and one over KServe's.
    let mut ask = async || {
        for _ in 0..2 {
            serving.predict([0.0, 0.0]).await;
            assert_eq!(serving.post(other, &point([0.0, 0.0])).await.0, StatusCode::OK);
            for model in [DEPLOYMENT, "other"] {
                let request = ModelInferRequest { model_name: model.into(), ..floats_request() };
                client.model_infer(request).await.unwrap();
            }
        }
        let v1 = json!({"instances": [[0.0, 0.0]]});
        assert_eq!(serving.post(&format!("/v1/models/{DEPLOYMENT}:predict"), &v1).await.0, StatusCode::OK);
    };

    // Off for all: one model alone is traced, by both protocols and by KServe's.
    assert_eq!(set(all, json!({"trace_level": "OFF"})).await, shown("OFF", "1"));
    assert_eq!(set(&own, json!({"trace_level": ["TIMESTAMPS"]})).await, shown("TIMESTAMPS", "1"));
    assert_eq!(set(all, json!({})).await, shown("OFF", "1"));
    ask().await;
    // A caller's trace is collected whatever the settings say.
    let request = serving.http.post(serving.url(other)).header("traceparent", parent(CALLER));
    assert_eq!(answer(request.json(&point([0.0, 0.0]))).await.0, StatusCode::OK);
    // Its own rate; its level is that of all again, which is off.
    assert_eq!(set(&own, json!({"trace_rate": 3, "trace_level": null})).await, shown("OFF", "3"));
    ask().await;
    // On for all, and off for the one.
    set(all, json!({"trace_level": ["TIMESTAMPS"]})).await;
    let mut settings = TraceSettingRequest { model_name: DEPLOYMENT.into(), ..Default::default() };
    let value =
        |values: &[&str]| SettingValue { value: values.iter().map(|one| (*one).to_owned()).collect() };
    settings.settings.insert("trace_level".into(), value(&["OFF"]));
    settings.settings.insert("trace_rate".into(), value(&[]));
    let mut control = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();
    let told = control.trace_setting(settings).await.unwrap().into_inner().settings;
    assert_eq!(
        (&told["trace_level"].value, &told["trace_rate"].value),
        (&vec!["OFF".into()], &vec!["1".into()])
    );
    assert_eq!(serving.get("/v2/models/other/trace/setting").await.1["trace_level"], json!(["TIMESTAMPS"]));
    ask().await;
    assert_eq!(serving.terminate(), Some(0));

    let of = |deployment: &str| {
        let batches = collector.named("serving.batch");
        batches.iter().filter(|batch| attribute(batch, "slipway.deployment") == deployment).count()
    };
    assert_eq!(of(DEPLOYMENT), 5, "twice over REST, twice over gRPC, once over v1");
    let before = 1;
    assert_eq!(of("other"), before + 1 + 4, "the caller's, and those of the end");
    // Each batch lies in its request, also where the model was known late.
    let requests: BTreeSet<_> =
        ["POST /v2/models/{name}/infer", "POST /inference.GRPCInferenceService/{*method}"]
            .iter()
            .flat_map(|name| collector.named(name))
            .map(|request| request.span_id)
            .collect();
    let inside = collector
        .named("serving.batch")
        .iter()
        .filter(|batch| requests.contains(&batch.parent_span_id))
        .count();
    assert_eq!(inside, 10, "all but the one over v1");
}
