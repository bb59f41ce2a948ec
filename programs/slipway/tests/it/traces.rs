//! One trace shows a promotion from the alias change to the first prediction.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::{Request, Response, Status};

use crate::client::{Client, strategy};
use crate::platform::Platform;

/// Names of spans, by trace id.
type Traces = Arc<Mutex<BTreeMap<Vec<u8>, Vec<String>>>>;

#[derive(Clone, Default)]
struct Collector {
    traces: Traces,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut traces = self.traces.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let service = resource
                .resource
                .iter()
                .flat_map(|resource| &resource.attributes)
                .find(|attribute| attribute.key == "service.name")
                .map(|attribute| format!("{:?}", attribute.value))
                .unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                traces.entry(span.trace_id).or_default().push(format!("{service} {}", span.name));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_one_trace_from_the_alias_to_the_first_prediction() {
    let collector = Collector::default();
    let traces = Arc::clone(&collector.traces);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );

    let platform = Platform::start(&["--otlp-endpoint", &endpoint]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.deploy("m", strategy(1.0)).await;
    let traffic = client.traffic("m");
    let version = client.register("m", "right-2.onnx").await;
    client.set_alias("m", "champion", &version).await;
    client.wait_for_rollout("m", &version, "promoted").await;

    let joined = |spans: &Vec<String>| {
        let has = |service: &str, name: &str| {
            spans.iter().any(|span| span.contains(service) && span.contains(name))
        };
        has("slipway-registry", "registered-models/alias")
            && has("slipway-rollout-controller", "rollout")
            && has("slipway-serving", "first_prediction")
    };
    for _ in 0..300 {
        if traces.lock().unwrap().values().any(joined) {
            assert!(traffic.stop().await.is_empty());
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seen: Vec<Vec<String>> = traces
        .lock()
        .unwrap()
        .values()
        .filter(|spans| spans.iter().any(|span| span.contains("alias") || span.contains("first_prediction")))
        .cloned()
        .collect();
    panic!("no trace joins the alias change with the first prediction: {seen:#?}");
}
