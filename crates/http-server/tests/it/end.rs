//! The end of a server: requests in flight are answered, clients are asked to leave, and new ones are
//! refused.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use futures::StreamExt as _;
use slipway_http_server::server;
use slipway_service_kit::Drain;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::world::{World, client, free_port, get as ask, within};

/// A route whose requests say that they have arrived, and are answered once they may.
#[derive(Clone)]
struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    fn route(&self) -> Router {
        let gate = self.clone();
        let handler = || async move {
            gate.arrived.add_permits(1);
            gate.open.acquire().await.unwrap().forget();
            "done"
        };
        Router::new().route("/", get(handler))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_answered_before_the_server_ends() {
    let gate = Gate::new();
    let mut world = World::serve(gate.route()).await;
    let url = world.url("/");
    let asked = tokio::spawn(async move { client().get(url).send().await.unwrap().text().await.unwrap() });
    within("the request", gate.arrived.acquire()).await.unwrap().forget();
    world.shutdown.cancel();
    gate.open.add_permits(1);
    assert_eq!(within("the answer", asked).await.unwrap(), "done");
    within("the end", &mut world.serving).await.unwrap();
    assert!(world.counts(r#"slipway_http_requests_total{method="GET",route="/",status="200"} 1"#));
    assert!(TcpStream::connect(world.address).await.is_err(), "nothing listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_drain_delay_clients_are_answered_and_asked_to_leave() {
    let port = free_port().await.with_drain_delay(Duration::from_millis(300));
    let mut world = World::serve_on(port, Router::new().route("/", get(|| async { "here" })));
    let client = client();
    let before = client.get(world.url("/")).send().await.unwrap();
    assert!(before.headers().get("connection").is_none());
    before.text().await.unwrap();
    world.shutdown.cancel();
    let (mut answers, mut left) = (0, 0);
    while let Ok(answer) = client.get(world.url("/")).send().await {
        answers += 1;
        left += usize::from(answer.headers().get("connection").is_some_and(|value| value == "close"));
        assert_eq!(answer.text().await.unwrap(), "here", "no answer is cut off");
    }
    assert!(answers >= 1 && answers - left <= 1, "{left} of {answers} were asked to leave");
    within("the end", &mut world.serving).await.unwrap();
}

/// A balancer that asks sees it before connections are refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_is_not_ready_while_it_still_answers() {
    let port = free_port().await.with_drain_delay(Duration::from_secs(5));
    let mut world = World::serve_on(port, Router::new().route("/", get(|| async { "here" })));
    let ready = ask(world.url("/readyz")).await;
    assert_eq!(ready.0, 200, "{ready:?}");
    world.shutdown.cancel();
    within("another answer", async {
        loop {
            let (status, body) = ask(world.url("/readyz")).await;
            if status == 503 {
                return assert_eq!(body["waiting_for"]["process"], "it is stopping");
            }
        }
    })
    .await;
    let answer = client().get(world.url("/")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "here");
    within("the end", &mut world.serving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let mut world = World::serve(Router::new().route("/", get(|| async { "here" }))).await;
    let idle = client();
    idle.get(world.url("/")).send().await.unwrap().text().await.unwrap();
    let silent = TcpStream::connect(world.address).await.unwrap();
    world.shutdown.cancel();
    within("the end", &mut world.serving).await.unwrap();
    drop(silent);
}

/// Streams that would have no end end in order, after the drain time and not at the signal; what requests
/// need ends after the last one.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_ends_in_stages() {
    let shutdown = CancellationToken::new();
    let (drain, gate) = (Drain::new(shutdown.clone()), Gate::new());
    let hang_up = drain.hang_up().clone();
    let events = move || {
        let ended = hang_up.clone().cancelled_owned();
        let pieces = futures::stream::iter(["begun "]).chain(futures::stream::once(ended).map(|()| "ended"));
        async {
            let body = Body::from_stream(pieces.map(|piece| Ok::<_, Infallible>(Bytes::from(piece))));
            ([("content-type", "text/event-stream")], body)
        }
    };
    let routes = gate.route().route("/events", get(events));
    let port = free_port().await.with_drain_delay(Duration::from_secs(3));
    let stages = drain.clone();
    let mut world = World::start(port, |port, readiness, metrics, _| {
        tokio::spawn(server::serve(port, routes, readiness, metrics, drain))
    });
    let stream = client().get(world.url("/events")).send().await.unwrap();
    // Its client does not send the next request over a connection that ends with the stream.
    assert_eq!(stream.headers()["connection"], "close");
    let url = world.url("/");
    let asked = tokio::spawn(async move { client().get(url).send().await.unwrap().text().await.unwrap() });
    within("the request", gate.arrived.acquire()).await.unwrap().forget();
    shutdown.cancel();
    // Answered like any other request of the drain time.
    let late = client().get(world.url("/events")).send().await.unwrap();
    assert!(!stages.hang_up().is_cancelled() && late.status().is_success());
    for stream in [stream, late] {
        assert_eq!(within("the end of the stream", stream.text()).await.unwrap(), "begun ended");
    }
    assert!(!stages.over().is_cancelled(), "a request is in flight");
    gate.open.add_permits(1);
    assert_eq!(within("the answer", asked).await.unwrap(), "done");
    within("the end", stages.over().cancelled()).await;
    within("the end", &mut world.serving).await.unwrap();
}
