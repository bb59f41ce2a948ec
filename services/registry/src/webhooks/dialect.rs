//! A payload format besides CloudEvents, which a protocol adapter provides.

use chrono::{DateTime, Utc};
use serde_json::Value;

/// Name and body of an event.
pub(crate) type Payload = (String, String);

/// The format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    /// The format's event for an event of that subject; `None` if the format has no such event.
    pub(crate) payload: fn(subject: &str, time: DateTime<Utc>, data: &Value) -> Option<Payload>,
    /// Body of a test call for the format's event of that name.
    pub(crate) sample: fn(name: &str) -> Option<String>,
    /// Headers with the id, the time and the signature of a call.
    pub(crate) headers: [&'static str; 3],
}
