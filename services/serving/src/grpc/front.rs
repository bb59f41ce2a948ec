//! `ModelInfer`, on the quick way in.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use slipway_api::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use slipway_service_kit::front::Front;
use tower::Service as _;

use super::{Service, only_asked_compression};
use crate::access::Access;

const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Answers `ModelInfer`; every other method takes the ordinary way.
#[derive(Clone)]
pub(crate) struct GrpcFront(pub(crate) GrpcInferenceServiceServer<Service>, pub(crate) Access);

impl Front for GrpcFront {
    const ROUTES: &'static [&'static str] = &["/inference.GRPCInferenceService/{*method}"];

    fn route(&self, request: &Request) -> Option<usize> {
        (request.uri().path() == MODEL_INFER).then_some(0)
    }

    fn answer(&self, _route: usize, mut request: Request) -> impl Future<Output = Response> + Send + 'static {
        only_asked_compression(request.headers_mut());
        let admitted = self.1.admit_grpc(&mut request);
        let answered = admitted.map(|()| self.0.clone().call(request));
        async move {
            match answered {
                Ok(answered) => {
                    let Ok(response) = answered.await;
                    response.map(Body::new)
                }
                Err(refusal) => refusal,
            }
        }
    }
}
