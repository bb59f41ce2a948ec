//! Requests and answers as CloudEvents: what consumers of KServe's logger get.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use futures::StreamExt as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use slipway_api::traffic::{Shadow, TrafficTable};
use slipway_testkit::TestAuthority;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

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
        tokio::spawn(axum::serve(listener, Self::routes(&events)).into_future());
        Self { url, events }
    }

    /// The same, with TLS, as `127.0.0.1`.
    async fn start_secured(authority: &TestAuthority) -> Self {
        let events = Events::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("https://{}/events", listener.local_addr().expect("it is bound"));
        let issued = authority.issue("127.0.0.1");
        let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("it is one")];
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("it is one");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("they fit")));
        tokio::spawn(axum::serve(Secured { listener, acceptor }, Self::routes(&events)).into_future());
        Self { url, events }
    }

    fn routes(events: &Events) -> Router {
        Router::new().route("/events", post(keep)).with_state(Arc::clone(events))
    }

    /// Values of a header of all of them, in the order in which they came.
    fn seen(&self, header: &str) -> Vec<String> {
        let all = self.all();
        let values = all.iter().filter_map(|(headers, _)| headers.get(header));
        values.map(|value| value.to_str().expect("text").to_owned()).collect()
    }

    fn all(&self) -> Vec<(HeaderMap, Value)> {
        self.events.lock().expect("nobody panics with it").clone()
    }
}

/// A port where connections are secured one after another.
struct Secured {
    listener: tokio::net::TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Secured {
    type Io = TlsStream<tokio::net::TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn keep(State(events): State<Events>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let body = serde_json::from_slice(&body).expect("the data is JSON");
    events.lock().expect("nobody panics with it").push((headers, body));
    StatusCode::ACCEPTED
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
    eventually("they are counted", || async { serving.shown().await.contains(lost).then_some(()) }).await;
    assert!(serving.shown().await.contains("slipway_serving_cloudevents_sent_total 0"));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_secured_sink_is_trusted_by_its_authority_and_shown_what_a_file_holds() {
    let (world, cache, files) = (World::start().await, cache(), cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let (authority, stranger) = (TestAuthority::new(), TestAuthority::new());
    let sink = Sink::start_secured(&authority).await;
    let (headers, ca) = (files.path().join("headers"), files.path().join("ca.pem"));
    std::fs::write(&headers, "Authorization: Bearer first\nX-Tenant: shop\n").unwrap();
    std::fs::write(&ca, authority.certificate()).unwrap();
    let more = [
        ("SLIPWAY_SERVING_CLOUDEVENTS_URL", sink.url.as_str()),
        ("SLIPWAY_SERVING_CLOUDEVENTS_MODE", "request"),
        ("SLIPWAY_SERVING_CLOUDEVENTS_HEADER_FILE", headers.to_str().unwrap()),
        ("SLIPWAY_SERVING_CLOUDEVENTS_CA", ca.to_str().unwrap()),
    ];
    let serving = Serving::start(&world, &cache, &more).await;
    serving.wait_until_ready().await;
    world.routed(1).await;
    serving.predict([0.0, 0.0]).await;
    eventually("the event is there", || async { (!sink.all().is_empty()).then_some(()) }).await;
    assert_eq!(sink.seen("authorization"), ["Bearer first"]);
    assert_eq!(sink.seen("x-tenant"), ["shop"]);

    // The secret is rotated while the server runs; a file with a mistake changes nothing.
    let sent_with = |secret: &'static str| {
        let (serving, sink) = (&serving, &sink);
        let asked = move || async move {
            serving.predict([0.0, 0.0]).await;
            sink.seen("authorization").last().is_some_and(|last| last == secret).then_some(())
        };
        eventually("the sink is shown the secret of the file", asked)
    };
    std::fs::write(&headers, "Authorization: Bearer second\n").unwrap();
    sent_with("Bearer second").await;
    std::fs::write(&headers, "Bearer third\n").unwrap();
    let errors = "slipway_serving_cloudevents_file_errors_total 1\n";
    eventually("the mistake is counted", || async { serving.shown().await.contains(errors).then_some(()) })
        .await;
    sent_with("Bearer second").await;
    let log = serving.log();
    assert!(
        log.contains("line 1 has no colon") && !log.contains("third") && !log.contains("second"),
        "{log}"
    );

    // Another authority did not sign its certificate.
    std::fs::write(&headers, "Authorization: Bearer fourth\n").unwrap();
    sent_with("Bearer fourth").await;
    std::fs::write(&ca, stranger.certificate()).unwrap();
    eventually("events are lost", || async {
        serving.predict([0.0, 0.0]).await;
        serving.shown().await.contains("cloudevents_dropped_total{reason=\"undelivered\"}").then_some(())
    })
    .await;
    assert!(serving.log().contains("invalid peer certificate"), "{}", serving.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_cannot_be_used_ends_the_start_with_the_flag() {
    let (world, cache, files) = (World::start().await, cache(), cache());
    let at = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (headers, reserved, ca) = (at("a", "hunter2"), at("b", "ce-id: hunter2"), at("c", "no certificate"));
    let gone = files.path().join("gone").display().to_string();
    let (url, header_file, authorities) = (
        "SLIPWAY_SERVING_CLOUDEVENTS_URL",
        "SLIPWAY_SERVING_CLOUDEVENTS_HEADER_FILE",
        "SLIPWAY_SERVING_CLOUDEVENTS_CA",
    );
    let (plain, secured) = ("http://127.0.0.1:1/", "https://127.0.0.1:1/");
    for (environment, expected) in [
        (vec![(url, "ftp://u:hunter2@host/")], "(--cloudevents-url) begins with ftp:"),
        (vec![(url, "host:hunter2")], "(--cloudevents-url) begins with host:"),
        (vec![(url, plain), (header_file, &headers)], "(--cloudevents-header-file)"),
        (vec![(url, plain), (header_file, &reserved)], "`ce-id` is set by each event"),
        (vec![(url, plain), (header_file, &gone)], "/gone: No such file or directory"),
        (vec![(url, secured), (authorities, &ca)], "(--cloudevents-ca): it contains no certificate"),
        (vec![(url, plain), (authorities, &ca)], "(--cloudevents-ca) have no effect for an http:// sink"),
        (vec![("SLIPWAY_SERVING_CLOUDEVENTS_SUBJECT", "a b")], "`a b` (--cloudevents-subject)"),
        (vec![(header_file, &headers)], "--cloudevents-url"),
    ] {
        let mut serving = Serving::start_unasked(&world, &cache, &environment);
        assert!(serving.wait().is_some_and(|code| code != 0), "{environment:?}");
        let log = serving.log();
        assert!(log.contains(expected) && !log.contains("hunter2"), "{environment:?}: {log}");
    }
}
