//! Refusals that reach the client: a body that nobody read to its end is taken and thrown away for a while.
//!
//! A connection that is closed while the client still sends is reset, and the reset takes an answer like "413, the body is too
//! large" with it (RFC 9112, section 9.6, asks servers to close in stages for that reason).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use http::{Version, header};
use http_body::{Frame, SizeHint};

/// Whoever sends for longer than this after the refusal loses the answer.
const LINGER_MS: u64 = 2_000;

/// Middleware, for `axum::middleware::map_request`: makes the request's body outlive a handler that did not read all of it.
///
/// HTTP/2 stops a sender without closing the connection, and a client with `Expect: 100-continue` waits to be told before it
/// sends; neither needs this.
pub async fn linger(request: Request) -> Request {
    let waits = request.headers().contains_key(header::EXPECT);
    if waits || request.version() > Version::HTTP_11 || request.body().is_end_stream() {
        return request;
    }
    request.map(|body| Body::new(Lingering { body, ended: false }))
}

struct Lingering {
    body: Body,
    ended: bool,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.ended |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if self.ended || self.body.is_end_stream() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut body = std::mem::take(&mut self.body);
        runtime.spawn(async move {
            let discard = async {
                while let Some(Ok(_)) =
                    std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
                {
                }
            };
            let _late = tokio::time::timeout(Duration::from_millis(LINGER_MS), discard).await;
        });
    }
}

#[cfg(test)]
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
