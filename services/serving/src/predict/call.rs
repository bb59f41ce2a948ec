//! What a client asks for, and what it gets.

use std::sync::Arc;

use slipway_inference::{Priority, Tensor};
use slipway_runtime::clock::now_unix_ms;

use super::missed::Missed;
use crate::failure::{Failure, Kind};
use crate::models::Described;
use crate::models::ensemble::MAX_DEPTH;
use crate::source::Source;

/// Longest request id that is taken from a client.
const MAX_REQUEST_ID_BYTES: usize = 256;

/// Looks up a header, or what a protocol has in its place, by its name.
pub(crate) type Headers<'call> = &'call (dyn Fn(&str) -> Option<String> + Sync);

/// The headers of a request without a client.
const NO_HEADERS: Headers<'static> = &|_name| None;

/// What a client asked for, but for the inputs.
#[derive(Clone, Copy)]
pub(crate) struct Call<'call> {
    /// A version by number, where the client named one.
    pub version: Option<&'call str>,
    /// The client's id of the request.
    pub request_id: &'call str,
    /// How long the client waits for the answer, in microseconds; a request that has not run by then does not
    /// run.
    pub timeout_us: Option<u64>,
    /// Whether it goes before others that wait.
    pub priority: Priority,
    /// Headers of the request: rules and sticky keys of a traffic table name them.
    pub headers: Headers<'call>,
    /// Ensembles above it; 0 for a request of a client.
    pub depth: usize,
}

impl<'call> Call<'call> {
    /// The call of a copy of a request: no client waits for it, and it goes behind those that wait.
    pub(super) fn of_copy(request_id: &'call str) -> Self {
        Self {
            version: None,
            request_id,
            timeout_us: None,
            priority: Priority::Low,
            headers: NO_HEADERS,
            depth: 0,
        }
    }

    /// The call of an ensemble's steps.
    ///
    /// # Errors
    /// Ensembles are nested too deeply.
    pub(super) fn nested(self) -> Result<Self, Missed> {
        if self.depth >= MAX_DEPTH {
            return Err(Failure::new(Kind::Internal, format!("over {MAX_DEPTH} ensembles deep")).into());
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Version that gave it.
    pub source: Arc<Source>,
    /// Every output of the model.
    pub outputs: Arc<Vec<Tensor>>,
    /// Rows of the request.
    pub rows: u64,
    /// What is known of the version.
    pub described: Arc<Described>,
}

/// The id of a request: the first of the client's that can be used, or a new one.
pub(crate) fn request_id(given: &[Option<&str>]) -> String {
    let usable =
        |id: &&str| !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && !id.contains(char::is_control);
    given.iter().flatten().copied().find(usable).map_or_else(new_request_id, str::to_owned)
}

/// An id that no other request has, and that sorts by time (UUIDv7, RFC 9562). The generator is this
/// thread's: asking the system for every request would cost more than the rest of the id.
fn new_request_id() -> String {
    uuid::Builder::from_unix_timestamp_millis(now_unix_ms(), &rand::random()).into_uuid().to_string()
}
