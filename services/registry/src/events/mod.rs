//! Use cases of events: read those of all services, past and live, as far as a caller may read them.
//!
//! NATS keeps events for 14 days; nothing is stored here. An event belongs to what it is about ([`visible`]),
//! and whoever may read that may read the event.

pub(crate) mod history;
pub(crate) mod live;
mod subjects;
mod visible;

use slipway_access::Places;
pub(crate) use slipway_event_bus::position::{From, Stored};
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// Event streams that one replica serves at the same time.
const MAX_STREAMS: usize = 256;

/// What event streams share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    /// Open streams.
    streams: Places,
    /// Ends streams when the service stops, once clients have had time to notice.
    hang_up: CancellationToken,
}

impl Events {
    /// Streams end with `hang_up`.
    pub(crate) fn new(hang_up: CancellationToken) -> Self {
        Self { streams: Places::new(MAX_STREAMS), hang_up }
    }
}

/// NATS did not do what was asked of it.
fn unreachable(error: &slipway_event_bus::Error) -> Error {
    tracing::warn!(%error, "events cannot be read: NATS is unreachable");
    Error::unavailable("NATS")
}
