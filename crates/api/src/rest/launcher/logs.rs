//! Logs as server-sent events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `data` of the event `output`. The event's `id` is `<attempt>:<next_offset>`; the header `Last-Event-ID`
/// resumes after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogChunk {
    /// Attempt that wrote it.
    pub attempt: u32,
    /// Offset of the first byte in the attempt's log.
    pub offset: u64,
    /// Offset after the last byte.
    pub next_offset: u64,
    /// The output. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub text: String,
}

/// `data` of the event `end`, the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEnd {
    /// Last attempt whose log was sent; 0 if there was none.
    pub attempt: u32,
}
