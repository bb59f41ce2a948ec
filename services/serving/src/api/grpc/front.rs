//! `ModelInfer`, on the quick way in.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use slipway_api::inference::ModelInferRequest;
use slipway_api::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use slipway_http_server::EndConnection;
use slipway_http_server::front::Front;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tower::Service as _;

use super::compression::{ENCODING, only_asked_compression};
use super::service::{Answered, REQUEST_ID, Service};
use super::unary;
use crate::api::access::Access;
use crate::api::paths::MODEL_INFER;

/// Answers `ModelInfer`; every other method takes the ordinary way.
#[derive(Clone)]
pub(crate) struct GrpcFront(pub(crate) Arc<Infer>);

/// What answers it. Behind one pointer, because it is cloned for every request.
pub(crate) struct Infer {
    pub(crate) service: Service,
    /// The same, for what is compressed.
    pub(crate) server: GrpcInferenceServiceServer<Service>,
    pub(crate) access: Access,
    pub(crate) max_message_bytes: usize,
}

impl Front for GrpcFront {
    const ROUTES: &'static [&'static str] = &["/inference.GRPCInferenceService/{*method}"];

    fn route(&self, request: &Request) -> Option<usize> {
        (request.uri().path() == MODEL_INFER).then_some(0)
    }

    fn answer(&self, _route: usize, mut request: Request) -> impl Future<Output = Response> + Send + 'static {
        let infer = Arc::clone(&self.0);
        let admitted = infer.access.admit_grpc(&mut request);
        async move {
            if let Err(refusal) = admitted {
                return refusal;
            }
            if is_plain(request.headers()) {
                return infer.answer_plain(request).await.unwrap_or_else(Status::into_http);
            }
            only_asked_compression(request.headers_mut());
            let Ok(response) = infer.server.clone().call(request).await;
            response.map(Body::new)
        }
    }
}

impl Infer {
    async fn answer_plain(&self, request: Request) -> Result<Response, Status> {
        let (parts, body) = request.into_parts();
        let message: ModelInferRequest = unary::read(body, self.max_message_bytes).await?;
        let metadata = MetadataMap::from_headers(parts.headers);
        let Answered { response: answer, id, is_last } =
            self.service.infer(&metadata, &parts.extensions, message).await?;
        let mut response = unary::answer(&answer)?;
        if is_last {
            response.extensions_mut().insert(EndConnection);
        }
        if let Ok(mut id) = HeaderValue::try_from(id) {
            // No two are the same, so the header compression of HTTP/2 (RFC 7541, section 7.1.3) is not to
            // remember it.
            id.set_sensitive(true);
            response.headers_mut().insert(REQUEST_ID, id);
        }
        Ok(response)
    }
}

/// Whether messages come as they are.
fn is_plain(headers: &HeaderMap) -> bool {
    headers.get(ENCODING).is_none_or(|encoding| encoding == "identity")
}
