//! The real clock, for the edge: the domain takes times as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
pub fn now_unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// Unix time in milliseconds, as a `BIGINT` column stores it.
pub fn now_unix_ms_column() -> i64 {
    i64::try_from(now_unix_ms()).unwrap_or(i64::MAX)
}
