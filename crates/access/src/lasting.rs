//! Responses that last longer than a token may: followed logs and events, gRPC streams, long downloads.
//!
//! While such a response is sent, its caller is checked again every [`CHECK_INTERVAL_MS`]. Once the token was
//! revoked or has expired, or the role was withdrawn, the response ends, and its last words say why: an event
//! `error` of server-sent events, the status of a gRPC call, a last line of plain text. Every other response
//! is cut off, so that no client takes what it has for the whole.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use slipway_http_server::Problem;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Refused;

/// Pause between two checks of the caller of a response, in milliseconds.
pub const CHECK_INTERVAL_MS: u64 = 2_000;
const CHECK_INTERVAL: Duration = Duration::from_millis(CHECK_INTERVAL_MS);

type Checking = Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>>;

/// Has the caller of a response checked by `check` as long as the response lasts. A response whose length is
/// known, as that of most routes, is sent as it is.
pub fn watch<C, F>(response: Response, check: C) -> Response
where
    C: Fn() -> F + Send + Unpin + 'static,
    F: Future<Output = Result<(), Refused>> + Send + 'static,
{
    if response.body().is_end_stream() || response.body().size_hint().exact().is_some() {
        return response;
    }
    let kind = Kind::of(response.headers());
    response.map(|body| {
        let next = Instant::now() + CHECK_INTERVAL;
        Body::new(Watched { body, kind, check, next, wait: None, checking: None, ending: None })
    })
}

/// How a response ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Events,
    Grpc,
    Text,
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let is = |prefix: &str| content_type.starts_with(prefix.as_bytes());
        if is("text/event-stream") {
            Self::Events
        } else if is("application/grpc") {
            Self::Grpc
        } else if is("text/plain") && !headers.contains_key(header::CONTENT_LENGTH) {
            Self::Text
        } else {
            Self::Other
        }
    }
}

/// The end of a response, step by step.
enum Ending {
    /// The last words are sent next.
    Say(Refused),
    /// The connection is to send them before it is cut.
    Flush(Refused),
    Cut(Refused),
    Ended,
}

struct Watched<C> {
    body: Body,
    kind: Kind,
    check: C,
    next: Instant,
    wait: Option<Pin<Box<Sleep>>>,
    checking: Option<Checking>,
    ending: Option<Ending>,
}

type Next = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

impl<C, F> Watched<C>
where
    C: Fn() -> F + Unpin,
    F: Future<Output = Result<(), Refused>> + Send + 'static,
{
    /// Ready once the caller was checked and refused.
    fn poll_refusal(&mut self, context: &mut Context<'_>) -> Poll<Refused> {
        loop {
            if let Some(checking) = &mut self.checking {
                let checked = ready!(checking.as_mut().poll(context));
                self.checking = None;
                self.next = Instant::now() + CHECK_INTERVAL;
                if let Err(refused) = checked {
                    return Poll::Ready(refused);
                }
            }
            if Instant::now() < self.next {
                let next = self.next;
                let wait = self.wait.get_or_insert_with(|| Box::pin(sleep_until(next)));
                if wait.deadline() != next {
                    wait.as_mut().reset(next);
                }
                ready!(wait.as_mut().poll(context));
            }
            self.checking = Some(Box::pin((self.check)()));
        }
    }

    fn poll_ending(&mut self, context: &mut Context<'_>) -> Next {
        match self.ending.take() {
            Some(Ending::Say(refused)) => {
                let (frame, then) = self.kind.last_words(refused);
                self.ending = Some(then);
                match frame {
                    Some(frame) => Poll::Ready(Some(Ok(frame))),
                    None => self.poll_ending(context),
                }
            }
            Some(Ending::Flush(refused)) => {
                self.ending = Some(Ending::Cut(refused));
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Ending::Cut(refused)) => {
                self.ending = Some(Ending::Ended);
                Poll::Ready(Some(Err(axum::Error::new(refused))))
            }
            Some(Ending::Ended) | None => {
                self.ending = Some(Ending::Ended);
                Poll::Ready(None)
            }
        }
    }
}

impl Kind {
    /// What the client is told, and what follows.
    fn last_words(self, refused: Refused) -> (Option<Frame<Bytes>>, Ending) {
        match self {
            Self::Events => {
                let why = refused.to_string().replace(['\r', '\n'], " ");
                let event = format!("event: error\ndata: {why}\n\n");
                (Some(Frame::data(event.into())), Ending::Ended)
            }
            Self::Grpc => {
                let response = tonic::Status::from(Problem::from(refused)).into_http::<Body>();
                let mut trailers = response.into_parts().0.headers;
                trailers.remove(header::CONTENT_TYPE);
                (Some(Frame::trailers(trailers)), Ending::Ended)
            }
            Self::Text => {
                let line = format!("\n==> ended: {refused} <==\n");
                (Some(Frame::data(line.into())), Ending::Flush(refused))
            }
            Self::Other => (None, Ending::Cut(refused)),
        }
    }
}

impl<C, F> HttpBody for Watched<C>
where
    C: Fn() -> F + Unpin,
    F: Future<Output = Result<(), Refused>> + Send + 'static,
{
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Next {
        let this = self.get_mut();
        if this.ending.is_some() {
            return this.poll_ending(context);
        }
        // First, so that a stream which never pauses is checked, too.
        if let Poll::Ready(refused) = this.poll_refusal(context) {
            this.ending = Some(Ending::Say(refused));
            // What produces the response ends now.
            this.body = Body::empty();
            return this.poll_ending(context);
        }
        Pin::new(&mut this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        match self.ending {
            None => self.body.is_end_stream(),
            Some(Ending::Ended) => true,
            Some(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::{StreamExt as _, stream};

    use super::*;

    /// A response that says `tick` now and then goes on without a word, or says it without a pause; its
    /// caller passes `passes` checks.
    fn response(kind: &str, silent: bool, passes: usize) -> (Response, Arc<AtomicUsize>) {
        let ticks = stream::repeat_with(|| Ok::<_, Infallible>("tick\n\n"));
        let body = match silent {
            true => Body::from_stream(ticks.take(1).chain(stream::pending())),
            false => Body::from_stream(ticks.then(|tick| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                tick
            })),
        };
        let checks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&checks);
        let check = move || {
            let is_refused = counted.fetch_add(1, Ordering::Relaxed) >= passes;
            std::future::ready(match is_refused {
                true => Err(Refused::Unauthenticated("the token is unknown\nor was revoked".to_owned())),
                false => Ok(()),
            })
        };
        let response = Response::builder().header(header::CONTENT_TYPE, kind).body(body).unwrap();
        (watch(response, check), checks)
    }

    /// All data of a response, its trailers, and whether it was cut.
    async fn read(response: Response) -> (String, Option<HeaderMap>, bool) {
        let (mut body, mut text, mut trailers) = (response.into_body(), String::new(), None);
        loop {
            let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            match next {
                None => return (text, trailers, false),
                Some(Err(_cut)) => return (text, trailers, true),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => text.push_str(std::str::from_utf8(&data).unwrap()),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_end_with_an_event_that_says_why_whether_they_pause_or_not() {
        for silent in [true, false] {
            let begun = Instant::now();
            let (response, checks) = response("text/event-stream", silent, 2);
            let (text, _, was_cut) = read(response).await;
            let last = "event: error\ndata: the token is unknown or was revoked\n\n";
            assert!(text.starts_with("tick\n\n") && text.ends_with(last), "{text}");
            assert!(!was_cut);
            assert_eq!(checks.load(Ordering::Relaxed), 3);
            assert_eq!(begun.elapsed().as_secs(), 6, "a check every two seconds");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_grpc_stream_ends_with_its_status() {
        let (response, _) = response("application/grpc", true, 0);
        let (_, trailers, was_cut) = read(response).await;
        let trailers = trailers.unwrap();
        assert_eq!(trailers["grpc-status"], "16");
        assert!(trailers["grpc-message"].to_str().unwrap().starts_with("the%20token%20is%20unknown"));
        assert!(!was_cut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_says_why_and_everything_else_is_cut() {
        let (response, _) = response("text/plain; charset=utf-8", false, 1);
        let (text, _, was_cut) = read(response).await;
        assert!(text.ends_with("\n==> ended: the token is unknown\nor was revoked <==\n"), "{text}");
        assert!(was_cut, "a client must not take it for the whole");
        let (response, _) = self::response("application/octet-stream", false, 1);
        let (text, _, was_cut) = read(response).await;
        assert!(was_cut && text.replace("tick\n\n", "").is_empty(), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_of_known_length_is_not_touched_and_one_that_ends_in_time_is_whole() {
        let whole = watch(Response::new(Body::from("all of it")), || async { panic!("it was checked") });
        assert_eq!(whole.body().size_hint().exact(), Some(9));
        let body = Body::from_stream(stream::iter(["a", "b"]).map(Ok::<_, Infallible>));
        let streamed = watch(Response::new(body), || async { panic!("it was checked") });
        assert_eq!(read(streamed).await, ("ab".to_owned(), None, false));
    }
}
