//! A replica starts from what it has on disk, and the decision's trace ends in its first prediction.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use slipway_api::traffic::TrafficTable;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::serving::{Serving, cache};
use crate::world::{World, canary, table};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_answers_again_without_nats_and_registry() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&canary(1, &first, &second, 50)).await;
    let mut serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    world.put(&table(2, &second)).await;
    world.routed(2).await;
    serving.kill();
    drop(serving);
    world.registry.stop();
    world.nats.kill().await;

    let serving = Serving::ready(&world, &cache).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "2");
    // And takes up where the others are, once they are there.
    world.nats.start_again().await;
    world.put(&TrafficTable { warm: vec![second], ..table(3, &first) }).await;
    // The first version's bytes are in the cache, so the registry is not needed for the rollback.
    world.routed(3).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cache_is_mended() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let mut serving = Serving::ready(&world, &cache).await;
    serving.kill();
    drop(serving);
    for blob in std::fs::read_dir(cache.path().join("serving/blobs")).unwrap() {
        std::fs::write(blob.unwrap().path(), b"torn").unwrap();
    }
    std::fs::write(cache.path().join("serving/tables.json"), b"{\"points\"").unwrap();
    let serving = Serving::ready(&world, &cache).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.score, -1.0);
}

/// Trace id, parent and name of each span.
type Spans = Arc<Mutex<Vec<(String, String, String)>>>;

struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes =
            request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        let seen =
            spans.map(|span| (hex::encode(span.trace_id), hex::encode(span.parent_span_id), span.name));
        self.0.lock().expect("nobody panics with it").extend(seen);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_prediction_ends_the_trace_of_the_decision() {
    let (world, cache) = (World::start().await, cache());
    let spans = Spans::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = TraceServiceServer::new(Collector(Arc::clone(&spans)));
    let server = tonic::transport::Server::builder().add_service(collector);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let stable = world.version("1", "linear_minus_one.onnx").await;
    world.put(&TrafficTable { traceparent: Some(traceparent.into()), ..table(1, &stable) }).await;
    let mut serving = Serving::start(&world, &cache, &[("SLIPWAY_OTLP_ENDPOINT", &endpoint)]).await;
    serving.wait_until_ready().await;
    for _ in 0..5 {
        serving.predict([0.0, 0.0]).await;
    }
    assert_eq!(serving.terminate(), Some(0));
    let spans = spans.lock().unwrap();
    let first: Vec<_> = spans.iter().filter(|(_, _, name)| name == "serving.first_prediction").collect();
    assert_eq!(first.len(), 1);
    assert_eq!(
        (first[0].0.as_str(), first[0].1.as_str()),
        ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    );
}
