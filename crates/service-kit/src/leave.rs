//! Connections that end without losing a request: the client is asked to leave with an answer, and never hung up on while it sends.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use futures::future::Either;
use http::{HeaderValue, Version, header};
use tower::Service;

/// A service whose answers over HTTP/1 say `Connection: close` from the shutdown on. HTTP/2 has GOAWAY for that.
#[derive(Debug, Clone)]
pub(crate) struct Leaving<S> {
    pub(crate) service: S,
    pub(crate) closing: Arc<AtomicBool>,
}

impl<S> Service<Request> for Leaving<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let leaves = self.closing.load(Ordering::Relaxed) && request.version() <= Version::HTTP_11;
        let answer = self.service.call(request);
        if !leaves {
            return Either::Left(answer);
        }
        Either::Right(Box::pin(async move {
            let mut response = answer.await?;
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        }))
    }
}
