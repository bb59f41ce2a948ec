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
        EventStream { registry: self.clone(), query, last_id: None, reader: None }
    }
}

/// Live events. After an error the next call resumes behind the last event that was returned.
#[derive(Debug)]
pub struct EventStream {
    registry: Registry,
    query: EventStreamQuery,
    last_id: Option<String>,
    reader: Option<Reader>,
}

impl EventStream {
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
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::new(self.open().await?),
        };
        let message = reader.next().await?;
        let Some(Message { id, event, data }) = message else {
            return Err(Error::Unreachable("the registry ended the stream of events".to_owned()));
        };
        if event == ERROR_MESSAGE {
            return Err(Error::Unreachable(data));
        }
        self.last_id = id.or(self.last_id.take());
        self.reader = Some(reader);
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
