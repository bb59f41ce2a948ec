//! Trace context on gRPC calls that go out.

use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::context::{TRACEPARENT, current_traceparent};

/// Client interceptor: adds the current span's `traceparent` to each call.
#[derive(Debug, Clone, Copy, Default)]
pub struct PropagateTrace;

impl Interceptor for PropagateTrace {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = current_traceparent().and_then(|text| MetadataValue::try_from(text).ok()) {
            request.metadata_mut().insert(TRACEPARENT, value);
        }
        Ok(request)
    }
}
