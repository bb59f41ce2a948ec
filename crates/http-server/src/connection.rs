//! One connection, over HTTP/1.1 or HTTP/2, whose requests begin on the thread that read them.
//!
//! By itself, hyper makes each request over HTTP/2 a task. Where an answer takes microseconds, waking another
//! thread for that task costs more than the answer, and each answer is written by itself. So the requests of
//! one read are started here, one after the other; what they answered at once leaves in one write, and what
//! has to wait becomes a task then.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use crate::leave::EndConnection;
use crate::linger::body_of;

/// Requests of one read begin on the connection's thread for so long; those that are left then become tasks,
/// which other threads may take.
const HERE_LIMIT: Duration = Duration::from_micros(200);
/// How long a client may take.
const PATIENCE: Patience = Patience {
    first_request: Duration::from_secs(30),
    last_chance: Duration::from_secs(1),
    // Balancers keep connections for up to ten minutes, and would lose a request on one that is closed
    // before.
    next_request: Duration::from_secs(630),
    ping: Duration::from_secs(60),
    pong: Duration::from_secs(20),
};

/// How long a client may take before it is hung up on.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Time in which its first request must start: otherwise the connection is idle, or sends byte by byte.
    first_request: Duration,
    /// What it sends this long after it was asked to leave for that is still answered.
    last_chance: Duration,
    /// Over HTTP/1, until the head of a further request is there.
    next_request: Duration,
    /// Over HTTP/2, until it is asked whether it is there.
    ping: Duration,
    /// Until it has answered that.
    pong: Duration,
}

/// Answers the requests of a connection until its client hangs up, or it has nothing in flight after the
/// `end`. A client that does not ask, or is not there any more, is hung up on.
pub(crate) async fn serve<I, S>(stream: I, service: S, end: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    serve_with(PATIENCE, stream, service, end).await;
}

async fn serve_with<I, S>(patience: Patience, stream: I, service: S, end: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let streams = Streams::default();
    let builder = builder(patience, &streams);
    let asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&asked);
    let end = end.child_token();
    let leave = end.clone();
    let service = service.map_request(move |request: http::Request<Incoming>| {
        asks.store(true, Ordering::Relaxed);
        let version = request.version();
        request.map(|body| body_of(version, body))
    });
    let service = TowerToHyperService::new(service.map_response(move |response: Response| {
        if response.extensions().get::<EndConnection>().is_some() {
            leave.cancel();
        }
        response
    }));
    let http = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    let mut connection = Connection { http, streams };
    let mut ended = pin!(end.cancelled());
    let mut late = pin!(sleep(patience.first_request));
    let (mut told, mut warned, mut trusted) = (false, false, false);
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
            () = &mut late, if !trusted => {
                trusted = asked.load(Ordering::Relaxed);
                if warned && !trusted {
                    return;
                }
                if !trusted {
                    connection.http.as_mut().graceful_shutdown();
                    (told, warned) = (true, true);
                    late.as_mut().reset(tokio::time::Instant::now() + patience.last_chance);
                }
            }
        }
    }
}

fn builder(patience: Patience, streams: &Streams) -> Builder<Streams> {
    let mut builder = Builder::new(streams.clone());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.next_request)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(patience.ping)
        .keep_alive_timeout(patience.pong);
    builder
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

/// Requests over HTTP/2 that were read and not started.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<Vec<Stream>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}

impl Streams {
    /// Begins them; whether there were any.
    #[expect(
        clippy::disallowed_methods,
        reason = "the connection waits for its streams, and hyper awaits no handle"
    )]
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
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

    /// Times of which each is far from the others.
    const HASTE: Patience = Patience {
        first_request: Duration::from_millis(200),
        last_chance: Duration::from_millis(50),
        next_request: Duration::from_secs(2),
        ping: Duration::from_millis(400),
        pong: Duration::from_millis(600),
    };
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    /// GET / over http, as HPACK's static table has it.
    const ASKS: &[u8] = b"\0\0\x09\x01\x05\0\0\0\x01\x82\x84\x86\x41\x04here";

    fn answering() -> Router {
        Router::new().route("/", get(|| async { "answer" }))
    }

    /// What a client hears that has sent this much and then nothing, and when it is hung up on.
    async fn hung_up_on(sent: &[u8]) -> (Vec<u8>, Duration) {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve_with(HASTE, server, answering(), CancellationToken::new()));
        let begun = Instant::now();
        client.write_all(sent).await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        (heard, begun.elapsed())
    }

    #[tokio::test]
    async fn who_does_not_ask_is_hung_up_on() {
        for sent in [&b""[..], b"GET / HTTP/1.1\r\nhost: he", &PREFACE[..12], PREFACE] {
            let (_, after) = hung_up_on(sent).await;
            assert!(after >= HASTE.first_request && after < HASTE.next_request, "{after:?} for {sent:?}");
        }
        let (heard, after) = hung_up_on(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await;
        assert!(heard.ends_with(b"answer"));
        assert!(after >= HASTE.next_request, "a connection that is kept is closed after {after:?}");
    }

    #[tokio::test]
    async fn who_has_left_without_a_word_is_noticed_and_who_is_there_may_be_silent() {
        let (_, after) = hung_up_on(&[PREFACE, ASKS].concat()).await;
        assert!(after >= HASTE.ping + HASTE.pong && after < HASTE.next_request, "{after:?}");

        let (client, server) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve_with(HASTE, server, answering(), CancellationToken::new()));
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(ask(sender.clone(), "/").await.0, StatusCode::OK);
        sleep(HASTE.next_request + HASTE.ping).await;
        assert_eq!(ask(sender, "/").await.0, StatusCode::OK);
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
            // The client deletes the body once the stream was reset.
            let mut all_sent = true;
            for _ in 0..pieces {
                all_sent &= give.send(Ok(Bytes::from_static(&[b'x'; 1024]))).await.is_ok();
                tokio::task::yield_now().await;
            }
            assert_eq!(all_sent, goes_on);
        }
    }

    #[tokio::test]
    async fn an_answer_may_end_its_connection_and_no_other() {
        let last = || async {
            let mut response = Response::new(Body::from("last"));
            response.extensions_mut().insert(EndConnection);
            response
        };
        let app = answering().route("/last", get(last));
        let end = CancellationToken::new();
        let (one, other) = (connect(app.clone(), end.clone()).await, connect(app, end.clone()).await);
        let slow = tokio::spawn(ask(one.clone(), "/last"));
        assert_eq!(slow.await.unwrap().1.unwrap(), "last");
        // GOAWAY has come by then, or comes now.
        let mut again = one.clone();
        let left = async {
            while again.ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), left).await.expect("the connection ends");
        assert_eq!(ask(other, "/").await.1.unwrap(), "answer");
        assert!(!end.is_cancelled());
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
