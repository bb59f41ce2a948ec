//! One message in, one message out: what `ModelInfer` needs of gRPC over HTTP/2, without the price of
//! streams.
//!
//! The format is that of <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>: each message has a
//! prefix of a flag (1: compressed) and its length, and the status comes in the trailers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use prost::Message;
use tonic::Status;

const PREFIX_BYTES: usize = 5;
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: &str = "grpc-status";
const OK: HeaderValue = HeaderValue::from_static("0");

/// Reads the one message of a body, which is not compressed.
///
/// # Errors
/// None, more than one, a compressed one, one that is cut off, of over `limit` bytes, or not of this type.
pub(crate) async fn read<M: Message + Default>(mut body: Body, limit: usize) -> Result<M, Status> {
    let mut bytes = next(&mut body).await?.unwrap_or_default();
    // Most messages come in one piece, which then is not copied.
    if message_bytes(&bytes, limit)?.is_none_or(|needed| bytes.len() < needed) {
        bytes = gather(bytes, &mut body, limit).await?;
    }
    let needed = message_bytes(&bytes, limit)?.unwrap_or(PREFIX_BYTES);
    if bytes.len() < needed {
        return Err(Status::invalid_argument(format!(
            "the body ends after {} of {needed} bytes",
            bytes.len()
        )));
    }
    while bytes.len() == needed {
        let Some(more) = next(&mut body).await? else {
            bytes.advance(PREFIX_BYTES);
            return M::decode(bytes)
                .map_err(|error| Status::invalid_argument(format!("the message does not parse: {error}")));
        };
        if !more.is_empty() {
            break;
        }
    }
    Err(Status::unimplemented("expected one message, and there are more"))
}

async fn gather(first: Bytes, body: &mut Body, limit: usize) -> Result<Bytes, Status> {
    let mut gathered = BytesMut::from(first);
    while message_bytes(&gathered, limit)?.is_none_or(|needed| gathered.len() < needed) {
        let Some(more) = next(body).await? else { break };
        gathered.extend_from_slice(&more);
    }
    Ok(gathered.freeze())
}

/// Bytes of the first message with its prefix; `None` as long as that is not there.
fn message_bytes(mut bytes: &[u8], limit: usize) -> Result<Option<usize>, Status> {
    let Ok(flag) = bytes.try_get_u8() else { return Ok(None) };
    match flag {
        0 => {}
        1 => return Err(Status::invalid_argument("a compressed message; `grpc-encoding` does not say how")),
        flag => return Err(Status::invalid_argument(format!("a message's flag is 0 or 1, not {flag}"))),
    }
    let Ok(length) = bytes.try_get_u32() else { return Ok(None) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limit {
        return Err(Status::out_of_range(format!(
            "the message has {length} bytes; the limit is {limit} bytes"
        )));
    }
    Ok(length.checked_add(PREFIX_BYTES))
}

/// The next bytes of a body; `None` at its end.
async fn next(body: &mut Body) -> Result<Option<Bytes>, Status> {
    loop {
        let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
        else {
            return Ok(None);
        };
        let frame =
            frame.map_err(|error| Status::cancelled(format!("the request was interrupted: {error}")))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

/// An answer of one message.
///
/// # Errors
/// The message is larger than its prefix can say.
pub(super) fn answer(message: &impl Message) -> Result<Response, Status> {
    let bytes = message.encoded_len();
    let length = u32::try_from(bytes)
        .map_err(|_| Status::resource_exhausted(format!("the answer has {bytes} bytes, over 4 GiB")))?;
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    framed.put_u8(0);
    framed.put_u32(length);
    message.encode_raw(&mut framed);
    let mut response = Response::new(Body::new(Answer::Message(framed.freeze())));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    Ok(response)
}

/// The body of an answer.
enum Answer {
    Message(Bytes),
    Trailers,
    Ended,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &*self {
            Self::Message(_) => Self::Trailers,
            Self::Trailers | Self::Ended => Self::Ended,
        };
        let frame = match std::mem::replace(&mut *self, next) {
            Self::Message(message) => Frame::data(message),
            Self::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(STATUS, OK);
                Frame::trailers(trailers)
            }
            Self::Ended => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Ended)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, stream};
    use proptest::prelude::*;
    use slipway_api::inference::{ModelInferRequest, ServerLiveResponse, ServerMetadataResponse};
    use tonic::Code;

    use super::*;

    fn body(pieces: &[&[u8]]) -> Body {
        let pieces: Vec<Result<Bytes, Infallible>> =
            pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Body::from_stream(stream::iter(pieces))
    }

    fn framed(message: &impl Message) -> Vec<u8> {
        let mut framed = vec![0];
        framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut framed).unwrap();
        framed
    }

    #[tokio::test]
    async fn a_message_is_read_however_it_is_cut() {
        let sent = ServerMetadataResponse { name: "n".repeat(40), ..ServerMetadataResponse::default() };
        let bytes = framed(&sent);
        for size in 1..=bytes.len() {
            let pieces: Vec<&[u8]> = bytes.chunks(size).chain([&[][..]]).collect();
            let read: ServerMetadataResponse = read(body(&pieces), 64).await.unwrap();
            assert_eq!(read, sent, "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn what_is_not_one_message_is_refused() {
        let one = framed(&ServerLiveResponse { live: true });
        let two = [one.clone(), one.clone()].concat();
        let cases: [(&[&[u8]], Code); 9] = [
            (&[], Code::InvalidArgument),
            (&[&one[..4]], Code::InvalidArgument),
            (&[&one[..6]], Code::InvalidArgument),
            (&[&[1, 0, 0, 0, 0]], Code::InvalidArgument),
            (&[&[7, 0, 0, 0, 0]], Code::InvalidArgument),
            (&[&[0, 0, 0, 0, 1, 0xff]], Code::InvalidArgument),
            (&[&[0, 0xff, 0xff, 0xff, 0xff]], Code::OutOfRange),
            (&[&two], Code::Unimplemented),
            (&[&one, &one], Code::Unimplemented),
        ];
        for (pieces, code) in cases {
            let refused = read::<ServerLiveResponse>(body(pieces), 64).await.unwrap_err();
            assert_eq!(refused.code(), code, "{pieces:?}: {refused}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_a_message_and_a_status() {
        let sent = ServerLiveResponse { live: true };
        let mut body = answer(&sent).unwrap().into_body();
        let mut frames = Vec::new();
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
        {
            frames.push(frame.unwrap());
        }
        let [message, status] = <[_; 2]>::try_from(frames).unwrap();
        assert_eq!(message.into_data().unwrap(), framed(&sent));
        assert_eq!(status.into_trailers().unwrap()[STATUS], "0");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn any_body_is_refused_or_read_without_a_wait(
            flag in 0_u8..3,
            said in proptest::option::of(any::<u32>()),
            message in proptest::collection::vec(any::<u8>(), 0..48),
            size in 1_usize..60,
        ) {
            let mut bytes = vec![flag];
            bytes.put_u32(said.unwrap_or_else(|| u32::try_from(message.len()).unwrap()));
            bytes.extend(&message);
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let read = read::<ModelInferRequest>(body(&pieces), 40).now_or_never()
                .expect("all of it is there");
            if let Ok(read) = read {
                prop_assert!(flag == 0 && said.is_none() && message.len() <= 40);
                prop_assert!(read.encoded_len() <= message.len() * 4);
            }
        }
    }
}
