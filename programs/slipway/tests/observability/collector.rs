//! A receiver of spans over OTLP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
use tonic::{Request, Response, Status};

/// A span: its service and its name.
pub(crate) type Span = (String, String);

/// Spans that have come, by the id of their trace. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<BTreeMap<String, Vec<Span>>>>);

impl Collector {
    /// Listens; answers with the endpoint.
    pub(crate) async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(TraceServiceServer::new(collector.clone()))
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
        );
        (collector, endpoint)
    }

    /// Spans of a trace.
    pub(crate) fn trace(&self, id: &str) -> Vec<Span> {
        self.0.lock().unwrap().get(id).cloned().unwrap_or_default()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut traces = self.0.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.into_iter().flat_map(|resource| resource.attributes);
            let service = attributes
                .filter(|attribute| attribute.key == "service.name")
                .find_map(|attribute| match attribute.value?.value? {
                    StringValue(name) => Some(name),
                    _ => None,
                })
                .unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let id = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
                traces.entry(id).or_default().push((service.clone(), span.name));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
