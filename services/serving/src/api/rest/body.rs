//! Bodies: read with a limit, unpacked with a limit.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, header};

use crate::codec::compression::{Coding, too_large};
use crate::failure::{Failure, Kind};

/// Bodies longer than this are unpacked and parsed on a blocking thread.
const OFFLOAD_BYTES: usize = 512 * 1024;
/// A body that has not arrived within this time is given up.
const READ_TIMEOUT_MS: u64 = 60_000;

/// A header as text.
pub(super) fn header<'headers>(headers: &'headers HeaderMap, name: &str) -> Option<&'headers str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads a body, and unpacks it where it is packed.
///
/// # Errors
/// It is too long, was interrupted, or is packed in a way that is not served.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit_bytes: usize) -> Result<Bytes, Failure> {
    let announced =
        header(headers, header::CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<usize>().ok());
    let coding = Coding::of_request(header(headers, header::CONTENT_ENCODING.as_str()))?;
    if announced.is_some_and(|announced| announced > limit_bytes) {
        return Err(too_large(limit_bytes));
    }
    let collected = collect(body.into_data_stream(), announced.unwrap_or(0), limit_bytes);
    let body = tokio::time::timeout(Duration::from_millis(READ_TIMEOUT_MS), collected)
        .await
        .unwrap_or_else(|_late| Err(Failure::invalid("the request body did not arrive in time")))?;
    match coding {
        None => Ok(body),
        Some(coding) => {
            let unpacked = offload(body.len(), move || coding.unpack(&body, limit_bytes)).await?;
            Ok(unpacked.into())
        }
    }
}

async fn collect(mut chunks: BodyDataStream, announced: usize, limit_bytes: usize) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_cut| Failure::invalid("the request body is truncated"))?;
        if body.len() + chunk.len() > limit_bytes {
            return Err(too_large(limit_bytes));
        }
        if body.is_empty() {
            // One chunk is all of a short body; the announced room is taken only once something has come.
            if chunk.len() == announced {
                return Ok(chunk);
            }
            body.reserve(announced.min(limit_bytes));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Runs `work` here where it is about few bytes, else on a blocking thread.
pub(super) async fn offload<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    if bytes < OFFLOAD_BYTES {
        return work();
    }
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|_panic| Err(Failure::new(Kind::Internal, "reading or writing the tensors failed")))
}
