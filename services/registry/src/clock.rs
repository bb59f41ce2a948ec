//! The time, in the unit of the tables.

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(slipway_runtime::clock::now_unix_ms()).unwrap_or(i64::MAX)
}
