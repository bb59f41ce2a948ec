//! One connection, over HTTP/1.1 or HTTP/2, whose requests begin on the thread that read them.
//!
//! By itself, hyper makes each request over HTTP/2 a task. Where an answer takes microseconds, waking another thread for that task costs
//! more than the answer, and each answer is written by itself. So requests that came in one read are begun here, one after the other;
//! what they answered at once leaves in one write, and what has to wait becomes a task then.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use crate::linger::body_of;

/// Requests of one read begin on the connection's thread for so long; those that are left then become tasks, which other threads may take.
const HERE_LIMIT: Duration = Duration::from_micros(200);

/// Answers the requests of a connection until its client hangs up, or it has nothing in flight after the `end`.
pub(crate) async fn serve<I, S>(stream: I, service: S, end: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let streams = Streams::default();
    let builder = Builder::new(streams.clone());
    let service = TowerToHyperService::new(service.map_request(|request: http::Request<Incoming>| {
        let version = request.version();
        request.map(|body| body_of(version, body))
    }));
    let http = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    let mut connection = Connection { http, streams };
    let mut ended = pin!(end.cancelled());
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            served = &mut connection => {
                if let Err(error) = served {
                    tracing::trace!(error, "a connection failed");
                }
                return;
            }
            () = &mut ended, if !told => {
                connection.http.as_mut().graceful_shutdown();
                told = true;
            }
        }
    }
}

/// A connection that begins its requests itself.
struct Connection<C> {
    http: Pin<Box<C>>,
    streams: Streams,
}

impl<C: Future> Future for Connection<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        loop {
            let polled = self.http.as_mut().poll(context);
            // What has begun may have answered, which has to be written.
            if !self.streams.begin() || polled.is_ready() {
                return polled;
            }
        }
    }
}

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Requests over HTTP/2 that were read and have not begun.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<Vec<Stream>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}

impl Streams {
    /// Begins them; whether there were any.
    fn begin(&self) -> bool {
        let streams = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if streams.is_empty() {
            return false;
        }
        let begun = Instant::now();
        for mut stream in streams {
            if begun.elapsed() >= HERE_LIMIT || !has_ended(&mut stream) {
                tokio::spawn(stream);
            }
        }
        true
    }
}

/// Whether a request needed no more than to begin. Who polls it next says who is to be woken.
fn has_ended(stream: &mut Stream) -> bool {
    let polled =
        catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
    // A panic costs its own request, as it would in a task, and not all of the connection.
    polled.map_or(true, |polled| polled.is_ready())
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::extract::State;
    use axum::routing::{get, post};
    use bytes::Bytes;
    use futures::future::join_all;
    use futures::stream;
    use http::StatusCode;
    use hyper::client::conn::http2::{SendRequest, handshake};
    use hyper_util::rt::TokioExecutor;
    use tokio::sync::{Barrier, mpsc};

    use super::*;

    const REQUESTS: usize = 50;

    async fn connect(app: Router, end: CancellationToken) -> SendRequest<Body> {
        let (client, server) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(server, app, end));
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn ask(mut sender: SendRequest<Body>, path: &str) -> (StatusCode, Result<Bytes, axum::Error>) {
        let request = Request::get(format!("http://here{path}")).body(Body::empty()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        (response.status(), axum::body::to_bytes(Body::new(response.into_body()), usize::MAX).await)
    }

    #[tokio::test]
    async fn requests_of_one_connection_may_wait_for_each_other() {
        // All have to be in the handler before any goes on.
        let app = Router::new()
            .route(
                "/",
                get(|State(barrier): State<Arc<Barrier>>| async move {
                    barrier.wait().await.is_leader().to_string()
                }),
            )
            .with_state(Arc::new(Barrier::new(REQUESTS)));
        let sender = connect(app, CancellationToken::new()).await;
        for (status, _) in join_all((0..REQUESTS).map(|_| ask(sender.clone(), "/"))).await {
            assert_eq!(status, StatusCode::OK);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_would_take_too_long_here_goes_to_other_threads() {
        let streams = Streams::default();
        let (ended, mut ends) = mpsc::channel(REQUESTS);
        streams.execute(async { std::thread::sleep(HERE_LIMIT) });
        // Two of them have to run at the same time, on two threads.
        let meeting = Arc::new(std::sync::Barrier::new(2));
        for _ in 0..REQUESTS {
            let (meeting, ended) = (Arc::clone(&meeting), ended.clone());
            streams.execute(async move {
                meeting.wait();
                ended.send(()).await.unwrap();
            });
        }
        drop(ended);
        tokio::spawn(async move { streams.begin() });
        for _ in 0..REQUESTS {
            ends.recv().await.expect("each of them ends");
        }
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_request() {
        let broken = || async {
            let pieces =
                [1, 0].map(|divisor| move || Bytes::from(vec![b'x'; 1 / std::hint::black_box(divisor)]));
            Body::from_stream(stream::iter(pieces.into_iter().map(|piece| Ok::<_, Infallible>(piece()))))
        };
        let app = Router::new().route("/broken", get(broken)).route("/whole", get(|| async { "whole" }));
        let sender = connect(app, CancellationToken::new()).await;
        assert!(ask(sender.clone(), "/broken").await.1.is_err(), "its body ends early");
        assert_eq!(ask(sender, "/whole").await.1.unwrap(), "whole");
    }

    #[tokio::test]
    async fn a_refusal_does_not_stop_a_body_that_is_still_being_sent_unless_it_is_long() {
        let app = Router::new().route("/", post(|| async { StatusCode::NOT_FOUND }));
        let mut sender = connect(app, CancellationToken::new()).await;
        for (pieces, goes_on) in [(8, true), (2_000, false)] {
            let (give, taken) = mpsc::channel::<Result<Bytes, Infallible>>(1);
            let taken = stream::unfold(taken, |mut taken| async { taken.recv().await.map(|it| (it, taken)) });
            let request = Request::post("http://here/").body(Body::from_stream(taken)).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
            axum::body::to_bytes(Body::new(response.into_body()), usize::MAX).await.expect("no reset");
            // The client lets go of the body once the stream was reset.
            let mut all_sent = true;
            for _ in 0..pieces {
                all_sent &= give.send(Ok(Bytes::from_static(&[b'x'; 1024]))).await.is_ok();
                tokio::task::yield_now().await;
            }
            assert_eq!(all_sent, goes_on);
        }
    }

    #[tokio::test]
    async fn what_is_in_flight_at_the_end_is_answered() {
        let (begun, end) = (CancellationToken::new(), CancellationToken::new());
        let handler = {
            let (begun, end) = (begun.clone(), end.clone());
            || async move {
                begun.cancel();
                end.cancelled().await;
                tokio::task::yield_now().await;
                "late"
            }
        };
        let sender = connect(Router::new().route("/", get(handler)), end.clone()).await;
        let asked = tokio::spawn(ask(sender.clone(), "/"));
        begun.cancelled().await;
        end.cancel();
        assert_eq!(asked.await.unwrap().1.unwrap(), "late");
        let mut sender = sender;
        while sender.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
