//! Server-sent events, read from a response body.
//!
//! Source: <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>.

use futures::StreamExt as _;

use crate::{ByteStream, Error};

/// Longest event that is read.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The last `id` of the stream, with which it is resumed; `None` before the first.
    pub id: Option<String>,
    /// Type of the event; `message` where the server sends none.
    pub event: String,
    /// The lines of `data`, joined.
    pub data: String,
}

/// Reads the events of a body.
pub struct Reader {
    body: ByteStream,
    /// Bytes of a line whose end has not arrived.
    pending: Vec<u8>,
    parser: Parser,
}

impl Reader {
    /// Reads the events of this body.
    pub fn new(body: ByteStream) -> Self {
        Self { body, pending: Vec::new(), parser: Parser::default() }
    }

    /// The last `id` of the stream so far, also that of a message without data.
    pub fn last_id(&self) -> Option<&str> {
        self.parser.id.as_deref()
    }

    /// The next event; `None` at the end of the body.
    ///
    /// # Errors
    /// The body is interrupted, or an event is too long.
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if let Some(message) = self.parser.line(line.trim_end_matches(['\r', '\n'])) {
                    return Ok(Some(message));
                }
            }
            let Some(chunk) = self.body.next().await else { return Ok(None) };
            self.pending.extend_from_slice(&chunk?);
            if self.pending.len() + self.parser.data.len() > MAX_EVENT_BYTES {
                return Err(Error::Unexpected(format!("an event is longer than {MAX_EVENT_BYTES} bytes")));
            }
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reader").field("parser", &self.parser).finish_non_exhaustive()
    }
}

/// Lines to events. Servers that end lines with `\r` alone are not supported.
#[derive(Debug, Default)]
struct Parser {
    id: Option<String>,
    event: String,
    data: String,
    has_data: bool,
}

impl Parser {
    /// Takes a line without its end; an empty line completes an event.
    fn line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            // An event without data is not one; comments keep the connection open.
            return std::mem::take(&mut self.has_data).then(|| Message {
                id: self.id.clone(),
                event: if event.is_empty() { "message".to_owned() } else { event },
                data,
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    async fn read(chunks: &[&'static str]) -> Vec<Message> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        let mut reader = Reader::new(Box::pin(futures::stream::iter(chunks)));
        let mut found = Vec::new();
        while let Some(message) = reader.next().await.unwrap() {
            found.push(message);
        }
        found
    }

    fn message(id: &str, event: &str, data: &str) -> Message {
        Message { id: Some(id.to_owned()), event: event.to_owned(), data: data.to_owned() }
    }

    #[tokio::test]
    async fn events_are_read_however_their_bytes_are_cut() {
        let found =
            read(&[": hello\n\nid: 7\nev", "ent: run\nda", "ta: {\"a\":1}\ndata:more\n\n", "data: x\n\nid:"])
                .await;
        assert_eq!(found, [message("7", "run", "{\"a\":1}\nmore"), message("7", "message", "x")]);
    }

    #[tokio::test]
    async fn comments_and_events_without_data_are_skipped() {
        assert_eq!(
            read(&[":\n\nid: 1\n\nretry: 10\r\nid: 2\r\ndata: y\r\n\r\n"]).await,
            [message("2", "message", "y")]
        );
        assert_eq!(read(&["data: never ended"]).await, []);
        let body = futures::stream::iter([Ok(Bytes::from_static(b"id: 7\n\n"))]);
        let mut reader = Reader::new(Box::pin(body));
        assert_eq!(reader.next().await.unwrap(), None);
        assert_eq!(reader.last_id(), Some("7"), "a client that received nothing yet resumes from there");
    }
}
