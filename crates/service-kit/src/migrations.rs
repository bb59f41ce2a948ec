//! Migrations of a schema, while replicas of the release before still use it.
//!
//! Each migration has a transaction of its own, which also holds the lock that keeps other replicas out: a
//! failure leaves nothing, a replica that dies holds up no other one, and a pooler in transaction mode may
//! give each of them another session. The connection is not one of the pool's, and has limits of its own: a
//! statement may take longer than one of a request, and waits for the lock on a table only briefly, because
//! requests queue behind it.
//!
//! A schema may have migrations that this release does not know: a newer release has begun to run. They only
//! add to the schema (`docs/development/change-the-database.md`), so this release goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::migrate::{Migrate as _, MigrateError, Migration, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};
use tokio_util::sync::CancellationToken;

use crate::sql_errors::is_unavailable;

/// Key of the lock under which one replica at a time migrates a schema.
const LOCK_KEY: i32 = 0x51_1B_4D;
/// No statement of a migration runs longer.
const STATEMENT_TIMEOUT_MS: u64 = 600_000;
/// A migration waits this long for the lock on a table; requests for the table wait as long.
const LOCK_TIMEOUT_MS: u64 = 1_000;
/// Pause while another replica migrates.
const BUSY_DELAY_MS: u64 = 300;
/// Pauses after a lock that could not be had, in which requests go on: from the first to the longest one.
const RETRY_DELAY_MS: u64 = 500;
const MAX_RETRY_DELAY_MS: u64 = 5_000;
/// `lock_not_available` and `deadlock_detected`: statements of requests were first.
const IN_USE: [&str; 2] = ["55P03", "40P01"];

/// Why a migration is not applied.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Postgres(#[from] sqlx::Error),
    #[error(transparent)]
    Migration(#[from] MigrateError),
    #[error("migration {0} of {1} has changed since it was applied")]
    Changed(i64, String),
    #[error("migration {0} is marked `no-transaction`, which is not supported")]
    NoTransaction(i64),
}

/// What a look at a schema came to.
enum Outcome {
    Complete,
    /// Another replica migrates.
    Busy,
}

/// Applies what is missing, the migrators in their order.
///
/// # Errors
/// A migration fails or has changed, or the shutdown came first.
pub(crate) async fn run(
    options: &PgConnectOptions,
    schema: &str,
    migrators: &[&Migrator],
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut delay_ms = RETRY_DELAY_MS;
    loop {
        let outcome = tokio::select! {
            () = shutdown.cancelled() => anyhow::bail!("stopped before schema {schema} was migrated"),
            outcome = complete(options, schema, migrators) => outcome,
        };
        let pause_ms = match outcome {
            Ok(Outcome::Complete) => return Ok(()),
            Ok(Outcome::Busy) => BUSY_DELAY_MS,
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, schema, delay_ms, "migration not applied; retrying");
                let pause_ms = delay_ms;
                delay_ms = (delay_ms * 2).min(MAX_RETRY_DELAY_MS);
                pause_ms
            }
            Err(error) => {
                return Err(error).with_context(|| format!("the migrations of schema {schema} failed"));
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => anyhow::bail!("stopped before schema {schema} was migrated"),
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
}

impl Error {
    /// Whether the same may go well a little later.
    fn is_passing(&self) -> bool {
        let cause = match self {
            Self::Postgres(error)
            | Self::Migration(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                error
            }
            _ => return false,
        };
        let code = cause.as_database_error().and_then(sqlx::error::DatabaseError::code);
        is_unavailable(cause) || code.is_some_and(|code| IN_USE.contains(&&*code))
    }
}

async fn complete(
    options: &PgConnectOptions,
    schema: &str,
    migrators: &[&Migrator],
) -> Result<Outcome, Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    for migrator in migrators {
        while let Some(migration) = missing(&mut connection, migrator).await? {
            if !apply(&mut connection, schema, migrator, migration).await? {
                return Ok(Outcome::Busy);
            }
        }
    }
    connection.close().await?;
    Ok(Outcome::Complete)
}

/// The first migration that is not applied. Those that this release does not know are ignored.
async fn missing<'migrator>(
    connection: &mut PgConnection,
    migrator: &'migrator Migrator,
) -> Result<Option<&'migrator Migration>, Error> {
    let table = &*migrator.table_name;
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(table)
        .fetch_one(&mut *connection)
        .await?;
    let applied = if exists { connection.list_applied_migrations(table).await? } else { Vec::new() };
    let applied: BTreeMap<i64, _> = applied.into_iter().map(|done| (done.version, done.checksum)).collect();
    for migration in migrator.iter() {
        match applied.get(&migration.version) {
            None => return Ok(Some(migration)),
            Some(checksum) if *checksum != migration.checksum => {
                return Err(Error::Changed(migration.version, table.to_owned()));
            }
            Some(_) => {}
        }
    }
    if let Some(unknown) = applied.keys().rev().find(|version| !migrator.version_exists(**version)) {
        tracing::info!(table, migration = unknown, "the schema is of a newer release");
    }
    Ok(None)
}

/// Applies one migration; `false` while another replica migrates.
async fn apply(
    connection: &mut PgConnection,
    schema: &str,
    migrator: &Migrator,
    migration: &Migration,
) -> Result<bool, Error> {
    if migration.no_tx {
        return Err(Error::NoTransaction(migration.version));
    }
    let table = &*migrator.table_name;
    let mut transaction = connection.begin().await?;
    // Of the transaction, as a pooler may drop those of the session.
    let limits = format!(
        "SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
    );
    sqlx::raw_sql(AssertSqlSafe(limits)).execute(&mut *transaction).await?;
    let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1, hashtext($2))")
        .bind(LOCK_KEY)
        .bind(schema)
        .fetch_one(&mut *transaction)
        .await?;
    if !locked {
        return Ok(false);
    }
    transaction.ensure_migrations_table(table).await?;
    // Another replica may have applied it before this one had the lock.
    if missing(&mut transaction, migrator).await?.is_some_and(|missing| missing.version == migration.version)
    {
        transaction.apply(table, migration).await?;
        transaction.commit().await?;
        tracing::info!(schema, table, version = migration.version, "migration applied");
    }
    Ok(true)
}
