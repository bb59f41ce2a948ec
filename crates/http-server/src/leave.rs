//! Connections that end without losing a request or an answer: the client is asked to leave with an answer,
//! and what it still sends is read. A connection that is closed with something unread is reset, and the reset
//! takes answers that are on their way with it.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt as _;
use futures::future::{Either, Map};
use http::{HeaderValue, Version, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tower::Service;

/// Who does not hang up within this time after the last answer is hung up on.
const LINGER_MS: u64 = 500;
/// What is thrown away at a time.
const DISCARD_BYTES: usize = 4 * 1024;

/// Response extension that closes the connection after this response and the other requests in flight on it:
/// `Connection: close` over HTTP/1.1, GOAWAY over HTTP/2.
#[derive(Debug, Clone, Copy)]
pub struct EndConnection;

/// A service whose answers over HTTP/1 say `Connection: close` from the shutdown on. Those that have no end
/// of their own, such as event streams, always say so: they end with the drain time, and a client that sent
/// its next request over the same connection would lose that. HTTP/2 has GOAWAY for it.
#[derive(Debug, Clone)]
pub(crate) struct Leaving<S> {
    pub(crate) service: S,
    pub(crate) closing: Arc<AtomicBool>,
}

type Answer = Result<Response, Infallible>;

impl<S> Service<Request> for Leaving<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Map<S::Future, fn(Answer) -> Answer>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let closing = self.closing.load(Ordering::Relaxed);
        let is_http1 = request.version() <= Version::HTTP_11;
        let answer = self.service.call(request);
        if !is_http1 {
            return Either::Left(answer);
        }
        let change: fn(Answer) -> Answer = if closing { closed } else { closed_if_endless };
        Either::Right(answer.map(change))
    }
}

fn closed(answer: Answer) -> Answer {
    let mut response = answer?;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

fn closed_if_endless(answer: Answer) -> Answer {
    let response = answer?;
    if response.extensions().get::<EndConnection>().is_some() {
        return closed(Ok(response));
    }
    let content_type = response.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let streams =
        ["text/event-stream", "text/plain"].iter().any(|kind| content_type.starts_with(kind.as_bytes()));
    let is_endless = streams && response.body().size_hint().exact().is_none();
    if is_endless { closed(Ok(response)) } else { Ok(response) }
}

/// A connection that, from the shutdown on, ends when its client has hung up.
#[derive(Debug)]
pub(crate) struct LingeringStream<S> {
    stream: S,
    closing: Arc<AtomicBool>,
    /// Whether the client knows that nothing more comes.
    shut: bool,
    limit: Option<Pin<Box<Sleep>>>,
}

impl<S> LingeringStream<S> {
    pub(crate) fn new(stream: S, closing: Arc<AtomicBool>) -> Self {
        Self { stream, closing, shut: false, limit: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LingeringStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.shut {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            this.shut = true;
        }
        if !this.closing.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let limit =
            this.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(LINGER_MS))));
        let mut discarded = [0; DISCARD_BYTES];
        while limit.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut discarded);
            match ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // It has hung up.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn an_answer_reaches_a_client_that_still_sends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = Arc::new(AtomicBool::new(true));
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = LingeringStream::new(stream, closing);
            stream.read_u8().await.unwrap();
            stream.write_all(b"answer").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut client = TcpStream::connect(address).await.unwrap();
        // More than is ever asked for, and some of it after the answer.
        client.write_all(&[0; 64]).await.unwrap();
        let mut first = [0; 1];
        client.read_exact(&mut first).await.unwrap();
        client.write_all(&[0; 64]).await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.expect("no reset");
        assert_eq!(rest, "nswer");
        drop(client);
        served.await.unwrap();
    }
}
