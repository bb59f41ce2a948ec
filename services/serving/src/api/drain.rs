//! The end of the process: it is announced, and gRPC calls that their clients would leave open end, which
//! would hold it up.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::response::Response;
use http_body::Frame;
use slipway_service_kit::Drain;
use slipway_service_kit::health::Readiness;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// Part of the readiness that is missing from the shutdown on.
pub(crate) const PROCESS_PART: &str = "process";

/// Not ready from the shutdown on, so that clients and balancers send nothing more here.
pub(crate) async fn announce(readiness: Readiness, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    readiness.waiting(PROCESS_PART, "it is stopping");
}

/// Says when streams in which nothing is outstanding end. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct HangUp(CancellationToken);

impl HangUp {
    /// Comes when the drain time is over: until then requests are taken as ever.
    pub(crate) fn new(drain: &Drain) -> Self {
        Self(drain.hang_up().clone())
    }

    /// Ends when it has come.
    pub(crate) fn come(&self) -> WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }

    /// Error of a stream that ends.
    pub(crate) fn status() -> Status {
        Status::unavailable("the server is stopping")
    }
}

/// Ends an answer that has nothing more to say once it is time.
pub(crate) async fn end_idle(State(hang_up): State<HangUp>, response: Response) -> Response {
    response.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Ending { body, come: Box::pin(hang_up.come()), ended: false })
    })
}

struct Ending {
    body: Body,
    come: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // What there is to say is said first.
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(self.come.as_mut().poll(context));
        self.ended = true;
        let (parts, _) = HangUp::status().into_http::<Body>().into_parts();
        Poll::Ready(Some(Ok(Frame::trailers(parts.headers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}
