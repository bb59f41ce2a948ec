//! The launcher's tables. All SQL of the service stands here.

pub(crate) mod attempts;
pub(crate) mod checkpoints;
pub(crate) mod installation;
pub(crate) mod jobs;
pub(crate) mod launchers;
pub(crate) mod processes;
#[cfg(test)]
pub(crate) mod testing;

/// A stored document that no longer reads as its type.
fn unreadable(what: &str, error: impl std::fmt::Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what}: {error}").into())
}

/// The number of an attempt or a process as a column takes it.
fn column(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Unix milliseconds as a column takes them.
fn milliseconds(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
