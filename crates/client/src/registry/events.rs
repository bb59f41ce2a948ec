//! Events of all services, past and live.

use slipway_api::rest::registry::{Event, EventPage, EventStreamQuery, EventsQuery};

use super::Registry;
use crate::Error;
use crate::sse::{Message, Reader};

/// Header that names the last event seen.
const LAST_EVENT_ID: &str = "last-event-id";
/// Type of the message that reports how an event stream ended.
const ERROR_MESSAGE: &str = "error";

impl Registry {
    /// Lists past events, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn events(&self, query: &EventsQuery) -> Result<EventPage, Error> {
        self.get(&["events"]).query(query).read().await
    }

    /// Follows live events. Nothing is requested before the first event is read.
    pub fn follow_events(&self, query: EventStreamQuery) -> EventStream {
        EventStream { registry: self.clone(), query, last_id: None, was_open: false, reader: None }
    }
}

/// Live events. After an error the next call resumes behind the last event that was returned.
#[derive(Debug)]
pub struct EventStream {
    registry: Registry,
    query: EventStreamQuery,
    last_id: Option<String>,
    was_open: bool,
    reader: Option<Reader>,
}

impl EventStream {
    /// Whether the registry accepted the request at least once.
    pub const fn was_open(&self) -> bool {
        self.was_open
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// The registry cannot be reached or rejects the request, or the stream ended. If the error is
    /// [transient](Error::is_transient), call again after a pause.
    pub async fn next(&mut self) -> Result<Event, Error> {
        let read = self.read().await;
        if read.is_err() {
            self.reader = None;
        }
        read
    }

    async fn read(&mut self) -> Result<Event, Error> {
        if self.reader.is_none() {
            self.reader = Some(Reader::new(self.open().await?));
            self.was_open = true;
        }
        let Some(reader) = self.reader.as_mut() else { return Err(ended()) };
        let message = reader.next().await;
        if let Some(id) = reader.last_id() {
            self.last_id = Some(id.to_owned());
        }
        let Some(Message { event, data, .. }) = message? else { return Err(ended()) };
        if event == ERROR_MESSAGE {
            return Err(Error::Unreachable(data));
        }
        serde_json::from_str(&data)
            .map_err(|error| Error::Unexpected(format!("an event is not what this API documents: {error}")))
    }

    async fn open(&self) -> Result<crate::ByteStream, Error> {
        let request = self.registry.get(&["events", "stream"]).query(&self.query);
        let request = match &self.last_id {
            Some(id) => request.header(LAST_EVENT_ID, id),
            None => request,
        };
        request.stream().await
    }
}

fn ended() -> Error {
    Error::Unreachable("the registry ended the stream of events".to_owned())
}
