//! Errors that reach the client: a body that was not read to its end is drained for a while.
//!
//! A connection that is closed while the client still sends is reset, and the reset takes an answer like
//! "413, the body is too large" with it (RFC 9112, section 9.6, asks servers to close in stages for that
//! reason). Over HTTP/2 a stream whose body is not taken is reset after the answer, without an error; some
//! clients, curl 7 among them, take that for a failure of the request.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use futures::future::poll_fn;
use http::{Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

/// A client that sends for longer than this after the error loses the response.
const LINGER_MS: u64 = 2_000;

/// Over HTTP/2, so much of an unread body is drained: what a client may have sent before it could hear the
/// refusal. Longer ones are stopped, which costs their connection nothing.
const STREAM_LIMIT_BYTES: usize = 1024 * 1024;

/// Middleware, for `axum::middleware::map_request`: makes the request's body outlive a handler that did not
/// read all of it.
///
/// Bodies over HTTP/2 do so by themselves, see [`body_of`], and a client with `Expect: 100-continue` waits
/// for it before it sends.
pub async fn linger(request: Request) -> Request {
    lingering(request)
}

/// A request whose body outlives a reader that did not read all of it.
pub(crate) fn lingering(request: Request) -> Request {
    let waits = request.headers().contains_key(header::EXPECT);
    if waits || request.version() > Version::HTTP_11 || request.body().is_end_stream() {
        return request;
    }
    request.map(|body| Body::new(Lingering { body: Some(body), limit_bytes: usize::MAX }))
}

/// The body of a request as it comes from a connection.
pub(crate) fn body_of(version: Version, body: Incoming) -> Body {
    if version < Version::HTTP_2 || body.is_end_stream() {
        return Body::new(body);
    }
    Body::new(Lingering { body: Some(body), limit_bytes: STREAM_LIMIT_BYTES })
}

struct Lingering<B: http_body::Body<Data = Bytes> + Unpin + Send + 'static> {
    /// `None` once it has ended.
    body: Option<B>,
    limit_bytes: usize,
}

impl<B: http_body::Body<Data = Bytes> + Unpin + Send + 'static> http_body::Body for Lingering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin + Send + 'static> Drop for Lingering<B> {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        let mut left_bytes = self.limit_bytes;
        // Most of an unread body has arrived with the request; it needs no task.
        let here = discard(&mut body, &mut left_bytes, &mut Context::from_waker(Waker::noop()));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if here.is_pending() {
            runtime.spawn(async move {
                let discarded = poll_fn(|context| discard(&mut body, &mut left_bytes, context));
                let _late = tokio::time::timeout(Duration::from_millis(LINGER_MS), discarded).await;
            });
        }
    }
}

/// Takes what has come of a body, to its end or until there are no bytes left that may be taken.
fn discard<B: http_body::Body<Data = Bytes> + Unpin>(
    body: &mut B,
    left_bytes: &mut usize,
    context: &mut Context<'_>,
) -> Poll<()> {
    while *left_bytes > 0 {
        match Pin::new(&mut *body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let taken = frame.data_ref().map_or(0, Bytes::len);
                *left_bytes = left_bytes.saturating_sub(taken);
            }
            Poll::Ready(None | Some(Err(_))) => break,
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use axum::Router;
    use axum::extract::DefaultBodyLimit;
    use axum::middleware::map_request;
    use axum::routing::post;

    use super::*;

    /// Sends all of `body` before reading anything, as simple clients do; what came back.
    fn send(address: std::net::SocketAddr, body: &[u8]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusal_reaches_a_client_that_sends_everything_first() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/", post(|body: Bytes| async move { body.len().to_string() }))
            .layer(DefaultBodyLimit::max(1024))
            .layer(map_request(linger));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let answers = tokio::task::spawn_blocking(move || {
            [send(address, &[b'x'; 1024]), send(address, &vec![b'x'; 32 * 1024 * 1024])]
        });
        let [within, over] = answers.await.unwrap().map(Result::unwrap);
        assert!(within.starts_with("HTTP/1.1 200") && within.ends_with("1024"), "{within}");
        assert!(over.starts_with("HTTP/1.1 413"), "{over}");
    }
}
