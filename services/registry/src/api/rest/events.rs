//! REST v1: events of all services, past and live.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use chrono::DateTime;
use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use slipway_api::rest::registry as body;
use slipway_event_bus::Received;
use slipway_http_server::Problem;
use slipway_http_server::extract::Query;
use slipway_http_server::page::{PageQuery, encode};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use crate::access::caller::Caller;
use crate::clock::now_ms;
use crate::error::Error;
use crate::events::live::{self, Item};
use crate::events::{From, history};
use crate::state::Registry;

/// Pause between two comments that keep an idle connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Header with the ID of the last event that a client received.
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(list)).routes(routes!(stream))
}

/// Where reading starts for `since`. A time in the future is now: NATS cannot represent distant ones.
fn starting_at(since: &str) -> Result<From, Problem> {
    let time = DateTime::parse_from_rfc3339(since).map_err(|_| {
        Problem::invalid("since", format!("expected a time such as 2026-01-31T12:00:00Z, got '{since}'"))
    })?;
    Ok(if time.timestamp_millis() > now_ms() {
        From::Now
    } else {
        From::Time(SystemTime::from(time).max(SystemTime::UNIX_EPOCH))
    })
}

/// Lists past events of all services that the caller may read, oldest first. Events are kept for 14 days.
///
/// A page may have fewer events than `limit`, or none, and a `next_page_token`: the others were not for the
/// caller.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(body::EventsQuery),
    responses((status = 200, body = body::EventPage)))]
async fn list(
    State(registry): State<Registry>,
    caller: Caller,
    Query(query): Query<body::EventsQuery>,
) -> Answer<body::EventPage> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<u64>()?);
    let from = match (after, query.since.as_deref()) {
        (Some(sequence), _) => From::After(sequence),
        (None, Some(since)) => starting_at(since)?,
        (None, None) => From::Time(SystemTime::UNIX_EPOCH),
    };
    let prefix = query.event_type.as_deref().unwrap_or_default();
    let page = history::page(&registry, &caller, prefix, from, limit as usize).await?;
    Ok(Json(body::EventPage {
        events: page.events.iter().map(|stored| event_body(&stored.event)).collect(),
        next_page_token: page.next.map(|sequence| encode(&sequence)),
    }))
}

/// Where a client goes on.
fn resumed(headers: &HeaderMap, since: Option<&str>) -> Result<From, Problem> {
    if let Some(id) = headers.get(LAST_EVENT_ID) {
        let sequence = id.to_str().ok().and_then(|id| id.trim().parse().ok());
        let refused = || Problem::invalid("Last-Event-ID", "expected the `id` of an event of this stream");
        return sequence.map(From::After).ok_or_else(refused);
    }
    since.map_or(Ok(From::Now), starting_at)
}

/// Streams live events that the caller may read, as server-sent events.
///
/// Each message has the type of the event as `event`, an [`Event`](body::Event) as `data`, and an `id` with
/// which a client that lost its connection goes on: `Last-Event-ID`. A message of the type `error` says why
/// the stream ends. Nothing is buffered for slow clients beyond what NATS holds; what is older than 14 days
/// is lost to them.
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events",
    params(body::EventStreamQuery, ("Last-Event-ID" = Option<String>, Header,
        description = "`id` of the last event received; takes precedence over `since`")),
    responses((status = 200, body = body::Event, content_type = "text/event-stream")))]
async fn stream(
    State(registry): State<Registry>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<body::EventStreamQuery>,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Problem> {
    let from = resumed(&headers, query.since.as_deref())?;
    let prefix = query.event_type.unwrap_or_default();
    let live = live::follow(&registry, caller, headers, prefix, from).await?;
    let messages = live.into_stream().map(|found| Ok(message(found)));
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn event_body(event: &Received) -> body::Event {
    body::Event {
        id: event.id.clone(),
        time: event.time.clone(),
        event_type: event.subject.clone(),
        subject: event.entity.clone(),
        traceparent: event.traceparent.clone(),
        data: serde_json::from_slice(&event.data).unwrap_or_default(),
    }
}

fn message(found: Result<Item, Error>) -> Message {
    let written = match found {
        // Without data, so that no client dispatches it; the ID counts all the same.
        Ok(Item::Start(sequence)) => Ok(Message::default().id(sequence.to_string())),
        Ok(Item::Event(stored)) => {
            let message = Message::default().id(stored.sequence.to_string()).event(&stored.event.subject);
            message.json_data(event_body(&stored.event)).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    written.unwrap_or_else(|why| Message::default().event("error").data(why.replace(['\r', '\n'], " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_received_takes_precedence() {
        let mut headers = HeaderMap::new();
        assert_eq!(resumed(&headers, None).unwrap(), From::Now);
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(resumed(&headers, Some("1970-01-01T00:00:01Z")).unwrap(), From::Time(since));
        headers.insert(LAST_EVENT_ID, "17".parse().unwrap());
        assert_eq!(resumed(&headers, Some("1970-01-01T00:00:01Z")).unwrap(), From::After(17));
        headers.insert(LAST_EVENT_ID, "x".parse().unwrap());
        assert!(resumed(&headers, None).unwrap_err().detail().contains("Last-Event-ID"));
        assert_eq!(resumed(&HeaderMap::new(), Some("9999-01-01T00:00:00Z")).unwrap(), From::Now);
        assert!(resumed(&HeaderMap::new(), Some("yesterday")).unwrap_err().detail().contains("since"));
    }
}
