//! What an error of Postgres means.

/// Whether a row with the same key exists already.
pub fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// Whether Postgres is unreachable or overloaded: the same request may go well a little later.
pub fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => {
            true
        }
        // 57P01..03: shutting down or starting up; 53: out of a resource; 08: connection; 25P03: it waited
        // too long within a transaction; 40001, 40P01: try again.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("57P")
                || code.starts_with("53")
                || code.starts_with("08")
                || code == "25P03"
                || code == "40001"
                || code == "40P01"
        }),
        _ => false,
    }
}
