//! Postgres: all schemas in one snapshot, as rows in COPY's text format. The structure is not part of a
//! backup: it is that of the migrations which the backup lists.

mod dump;
mod load;
mod structure;
mod target;

pub(crate) use dump::{Snapshot, dump};
pub(crate) use load::load;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
pub(crate) use structure::check_known;
pub use structure::{newer_schemas, schema_names};
pub(crate) use target::{check_target, connect};

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table or sequence with its schema.
fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

/// Runs statements whose names come from the catalog or from our constants, and are quoted.
async fn execute(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(qualified("registry", "a\"; DROP"), "\"registry\".\"a\"\"; DROP\"");
    }
}
