//! Logs as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::io;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _};
use slipway_api::rest::launcher::{LogChunk, LogEnd};

use super::follow::Piece;

/// A comment is sent after this time without output, so that proxies keep the connection.
const KEEP_ALIVE_S: u64 = 15;

pub(super) fn respond(pieces: impl Stream<Item = io::Result<Piece>> + Send + 'static) -> Response {
    let events = pieces.filter_map(|piece| async move { event(piece).transpose() });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(KEEP_ALIVE_S))).into_response()
}

fn event(piece: io::Result<Piece>) -> io::Result<Option<Event>> {
    let event = match piece? {
        Piece::Begin { .. } => return Ok(None),
        Piece::Output { attempt, offset, bytes } => {
            let next_offset = offset + bytes.len() as u64;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let chunk = LogChunk { attempt, offset, next_offset, text };
            Event::default().event("output").id(format!("{attempt}:{next_offset}")).json_data(chunk)
        }
        Piece::End { attempt } => Event::default().event("end").json_data(LogEnd { attempt }),
    };
    event.map(Some).map_err(io::Error::other)
}

/// Attempt and offset of an event's id.
pub(super) fn parse_id(id: &str) -> Option<(u32, u64)> {
    let (attempt, offset) = id.split_once(':')?;
    let attempt = attempt.parse().ok().filter(|attempt| *attempt > 0)?;
    Some((attempt, offset.parse().ok()?))
}
