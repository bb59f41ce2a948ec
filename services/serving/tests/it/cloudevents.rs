//! Requests and answers as CloudEvents: what consumers of KServe's logger get.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use futures::StreamExt as _;
use serde_json::{Value, json};
use slipway_api::traffic::{Shadow, TrafficTable};

use crate::serving::{Serving, cache, point};
use crate::world::{DEPLOYMENT, World, eventually, table};

type Events = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

/// A sink that keeps what it gets.
struct Sink {
    url: String,
    events: Events,
}

impl Sink {
    async fn start() -> Self {
        let events = Events::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/events", listener.local_addr().expect("it is bound"));
        let routes = Router::new().route("/events", post(keep)).with_state(Arc::clone(&events));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, events }
    }

    fn all(&self) -> Vec<(HeaderMap, Value)> {
        self.events.lock().expect("nobody panics with it").clone()
    }
}

async fn keep(State(events): State<Events>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let body = serde_json::from_slice(&body).expect("the data is JSON");
    events.lock().expect("nobody panics with it").push((headers, body));
    StatusCode::ACCEPTED
}

async fn metrics(serving: &Serving) -> String {
    let answer = serving.http.get(format!("{}/metrics", serving.metrics)).send().await.expect("an answer");
    answer.text().await.expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_gets_each_request_and_each_answer_as_kserve_sends_them() {
    let (world, cache, sink) = (World::start().await, cache(), Sink::start().await);
    let (stable, shadow) =
        (world.version("1", "logarithm.onnx").await, world.version("2", "logarithm.onnx").await);
    // Its copies are nobody's requests.
    let shadows = vec![Shadow { target: shadow, sample_percent: 100 }];
    world.put(&TrafficTable { shadows, ..table(1, &stable) }).await;
    let mut serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_CLOUDEVENTS_URL", &sink.url)]).await;
    serving.wait_until_ready().await;
    world.routed(1).await;
    for (id, value) in [("r-1", 1.0), ("r-2", -1.0)] {
        let url = serving.url(&format!("/v2/models/{DEPLOYMENT}/infer"));
        let request = serving.http.post(url).header("x-request-id", id).json(&point([value, 1.0]));
        assert_eq!(request.send().await.expect("an answer").status(), 200);
    }
    // What was asked just before the end is sent before the end.
    assert_eq!(serving.terminate(), Some(0));
    let events = sink.all();
    assert_eq!(events.len(), 4);
    let by = |kind: &str, id: &str| {
        let kind = format!("org.kubeflow.serving.inference.{kind}");
        let found = events.iter().find(|(headers, _)| headers["ce-type"] == *kind && headers["ce-id"] == id);
        found.expect("the event is there").clone()
    };
    let (headers, request) = by("request", "r-2");
    for (name, value) in [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-inferenceservicename", DEPLOYMENT),
        ("ce-namespace", "default"),
        ("ce-component", "predictor"),
        ("ce-endpoint", "default"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(headers["ce-source"].to_str().unwrap().starts_with("/slipway/serving/"));
    let x = json!([{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [-1.0, 1.0]}]);
    assert_eq!((&request["id"], &request["inputs"]), (&json!("r-2"), &x));
    let (_, answer) = by("response", "r-2");
    // NaN, as JSON may have it.
    assert_eq!(answer["outputs"][0]["data"], json!([null, 0.0]));
    assert_eq!((&answer["model_name"], &answer["model_version"]), (&json!(DEPLOYMENT), &json!("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_gone_costs_events_and_no_request() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let nowhere = format!("http://127.0.0.1:{}", slipway_testkit::free_port().expect("a port"));
    let more = [
        ("SLIPWAY_SERVING_CLOUDEVENTS_URL", nowhere.as_str()),
        ("SLIPWAY_SERVING_CLOUDEVENTS_MODE", "request"),
    ];
    let serving = Serving::start(&world, &cache, &more).await;
    serving.wait_until_ready().await;
    world.routed(1).await;
    for _ in 0..20 {
        assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    }
    let lost = "slipway_serving_cloudevents_dropped_total{reason=\"undelivered\"} 20";
    eventually("they are counted", || async { metrics(&serving).await.contains(lost).then_some(()) }).await;
    assert!(metrics(&serving).await.contains("slipway_serving_cloudevents_sent_total 0"));
    let records = world.records("records do not depend on them", |records| records.len() >= 20).await;
    assert_eq!(records.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_subject_gets_them_whole() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let mut subscribed = world.bus.client().subscribe("audit.predictions").await.unwrap();
    world.bus.client().flush().await.unwrap();
    let more = [
        ("SLIPWAY_SERVING_CLOUDEVENTS_SUBJECT", "audit.predictions"),
        ("SLIPWAY_SERVING_CLOUDEVENTS_NAMESPACE", "models"),
    ];
    let serving = Serving::start(&world, &cache, &more).await;
    serving.wait_until_ready().await;
    world.routed(1).await;
    serving.predict([0.0, 0.0]).await;
    let mut events = BTreeMap::new();
    while events.len() < 2 {
        let message = subscribed.next().await.expect("a message");
        let headers = message.headers.unwrap();
        assert_eq!(headers.get("content-type").unwrap().as_str(), "application/cloudevents+json");
        let event: Value = serde_json::from_slice(&message.payload).unwrap();
        events.insert(event["type"].as_str().unwrap().to_owned(), event);
    }
    let answer = &events["org.kubeflow.serving.inference.response"];
    assert_eq!(
        (&answer["namespace"], &answer["data"]["outputs"][0]["data"]),
        (&json!("models"), &json!([-1.0]))
    );
    assert_eq!(answer["id"], events["org.kubeflow.serving.inference.request"]["id"]);
}
