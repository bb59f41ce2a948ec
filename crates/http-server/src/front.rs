//! The quick way in: requests that come by the thousands are answered before the router, its layers and their
//! bookkeeping.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::future::RouteFuture;
use futures::FutureExt as _;
use futures::future::Either;
use http::Method;
use slipway_service_kit::metrics::{Metrics, RouteMeter};
use slipway_telemetry::context::TRACEPARENT;
use tower::Service;
use tracing::Instrument as _;

use crate::Problem;
use crate::peers::PeersRouter;

/// Answers some requests itself.
pub trait Front: Clone + Send + Sync + 'static {
    /// Patterns of the routes that it answers (all by POST), as they are counted.
    const ROUTES: &'static [&'static str];

    /// Which of its routes the request is for; `None`: the router's.
    fn route(&self, request: &Request) -> Option<usize>;

    /// Answers a request that is its own.
    fn answer(&self, route: usize, request: Request) -> impl Future<Output = Response> + Send + 'static;
}

/// Counters of the routes that a front answers, looked up once.
pub(crate) fn meters<F: Front>(metrics: &Metrics) -> Arc<[RouteMeter]> {
    F::ROUTES.iter().map(|route| metrics.route(Method::POST.as_str(), route)).collect()
}

/// A router behind a front. It counts and traces what the front answers as the router's layers do for the
/// rest.
#[derive(Clone)]
pub(crate) struct Fronted<F> {
    pub(crate) front: F,
    pub(crate) meters: Arc<[RouteMeter]>,
    pub(crate) router: PeersRouter,
}

impl<F: Front> Service<Request> for Fronted<F> {
    type Response = Response;
    type Error = Infallible;
    type Future =
        Either<Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>, RouteFuture<Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let found = if request.method() == Method::POST { self.front.route(&request) } else { None };
        let Some((route, meter)) = found.and_then(|route| Some((route, self.meters.get(route)?.clone())))
        else {
            return Either::Right(self.router.call(request));
        };
        let started = Instant::now();
        // A span that is not collected is not worth its cost; a caller's trace is in the logs either way.
        let traced = request.headers().contains_key(TRACEPARENT)
            || (slipway_telemetry::is_exporting()
                && slipway_telemetry::spans::begins_at(request.uri().path()));
        let span =
            traced.then(|| crate::trace::span(&request, F::ROUTES.get(route).copied().unwrap_or_default()));
        let answer = AssertUnwindSafe(self.front.answer(route, request)).catch_unwind();
        Either::Left(Box::pin(async move {
            let answered = match &span {
                Some(span) => answer.instrument(span.clone()).await,
                None => answer.await,
            };
            let response =
                answered.unwrap_or_else(|_panic| Problem::internal("a handler panicked").into_response());
            if let Some(span) = span {
                crate::trace::end(&span, response.status());
            }
            meter.observe(response.status().as_u16(), started.elapsed());
            Ok(response)
        }))
    }
}
