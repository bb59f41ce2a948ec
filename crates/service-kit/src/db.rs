//! Postgres: one database, one schema per service, whose migrations are applied first.
//!
//! Everything works through a pooler in transaction mode, such as PgBouncer 1.21 or newer: nothing depends on
//! the session behind a connection, and no lock is one of a session. Session settings travel in the startup
//! parameter `options`. A pooler may drop it; the settings then have to come from the role or the pooler,
//! which [`connect`] checks.

use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgPool};
use tokio_util::sync::CancellationToken;

use crate::migrations;
pub use crate::sql_errors::{is_duplicate, is_unavailable};
pub use crate::transaction::begin;

/// A request that gets no connection within this time answers 503. Long enough for a replica that has just
/// started on a machine without a free core to open several connections.
const ACQUIRE_TIMEOUT_MS: u64 = 10_000;
/// No statement of a request runs longer.
const STATEMENT_TIMEOUT_MS: u64 = 30_000;
/// Postgres ends a connection whose transaction waits this long for its next statement, so that the locks of
/// a process that hangs, or of a lost node, are released.
const IDLE_IN_TRANSACTION_MS: u64 = 5_000;
/// Postgres closes a connection that was not used for this long.
const IDLE_SESSION_MS: u64 = 600_000;
/// A connection that is older is replaced.
const MAX_AGE_MS: u64 = 1_800_000;
/// Postgres asks a silent peer after this time whether it is there, every [`KEEPALIVE_INTERVAL_S`]…
const KEEPALIVE_IDLE_S: u64 = 10;
const KEEPALIVE_INTERVAL_S: u64 = 5;
/// …and ends the connection after so many questions without an answer.
const KEEPALIVE_COUNT: u64 = 3;
/// Postgres ends a connection whose peer does not acknowledge what was sent for this long.
const TCP_USER_TIMEOUT_MS: u64 = 20_000;
const RETRY_DELAY_MS: u64 = 300;
/// A connection that was idle for longer is tested before it is used. A test for each request would cost a
/// round trip; one that broke within this time fails its request, which is answered with 503.
const TRUSTED_IDLE_MS: u64 = 1_000;
/// A transaction that waits for something else says this often that it is alive.
const ALIVE_INTERVAL_MS: u64 = 1_000;

/// Where Postgres is.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Postgres")]
pub struct PostgresConfig {
    /// URL of Postgres, e.g. `postgres://slipway:…@127.0.0.1:5433/slipway`. Each service uses a schema of its
    /// own.
    #[arg(
        long,
        env = "SLIPWAY_POSTGRES_URL",
        hide_env_values = true,
        default_value = "postgres://127.0.0.1:5433/slipway"
    )]
    pub postgres_url: secrecy::SecretString,
    /// Maximum number of connections of this replica, at least 2: one competes for the lease of the service's
    /// leader.
    #[arg(long, env = "SLIPWAY_POSTGRES_MAX_CONNECTIONS", default_value_t = 8, value_name = "N",
        value_parser = clap::value_parser!(u32).range(2..))]
    pub postgres_max_connections: u32,
}

/// Opens a pool whose connections see `schema` first, makes the schema, and runs its migrators in their
/// order: the service's own first, then those of the crates that keep tables in it. While Postgres is
/// unreachable it tries again, until `shutdown`.
///
/// # Errors
/// The URL does not parse, a migration fails, or the shutdown came first.
pub async fn connect(
    config: &PostgresConfig,
    schema: &'static str,
    migrators: &[&Migrator],
    shutdown: &CancellationToken,
) -> anyhow::Result<PgPool> {
    use secrecy::ExposeSecret as _;
    let options = PgConnectOptions::from_str(config.postgres_url.expose_secret())
        .map_err(|error| anyhow::anyhow!("the Postgres URL does not parse (SLIPWAY_POSTGRES_URL): {error}"))?
        .application_name(schema)
        // Poolers do not know this parameter, and numbers are sent in binary.
        .extra_float_digits(None)
        .options([("search_path", schema.to_owned())])
        .options(SESSION_SETTINGS.map(|(name, value)| (name, value.to_string())));
    let pool = pool_of(config, options);
    let mut complained = false;
    loop {
        match make_schema(&pool, schema).await {
            Ok(()) => break,
            // Two services or replicas making it at once: the other one did.
            Err(error) if is_duplicate(&error) => break,
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(%error, "waiting for Postgres");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => anyhow::bail!("stopped while waiting for Postgres"),
            () = tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)) => {}
        }
    }
    while let Err(error) = prepare(&pool, schema, migrators, shutdown).await {
        if !is_interrupted(&error) {
            return Err(error);
        }
        let error = format!("{error:#}");
        tracing::warn!(error, "Postgres became unreachable during the start; retrying");
        tokio::select! {
            () = shutdown.cancelled() => anyhow::bail!("stopped while waiting for Postgres"),
            () = tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)) => {}
        }
    }
    Ok(pool)
}

/// A pool whose connections are tested before use, unless they were used just now.
fn pool_of(config: &PostgresConfig, options: PgConnectOptions) -> PgPool {
    // A new connection may mean that Postgres was restarted: those that were idle then are tested as well, so
    // that a request does not fail after others have succeeded again.
    let opened = Arc::new(Mutex::new(Instant::now()));
    let last_opened = Arc::clone(&opened);
    PgPoolOptions::new()
        // The lease has a connection of its own.
        .max_connections(config.postgres_max_connections.saturating_sub(1).max(1))
        .acquire_timeout(Duration::from_millis(ACQUIRE_TIMEOUT_MS))
        // Without these, sqlx has no maintenance task. That task puts idle connections back as if they had
        // just been used, broken ones as well.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |_, _| {
            *opened.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            Box::pin(std::future::ready(Ok(())))
        })
        .before_acquire(move |connection, about| {
            let opened = *last_opened.lock().unwrap_or_else(PoisonError::into_inner);
            let trusted = opened.elapsed().min(Duration::from_millis(TRUSTED_IDLE_MS));
            Box::pin(async move {
                if about.age >= Duration::from_millis(MAX_AGE_MS) {
                    return Ok(false);
                }
                if about.idle_for >= trusted {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// Checks the sessions and runs the migrations. Each migration is a transaction, so it may be called again.
async fn prepare(
    pool: &PgPool,
    schema: &str,
    migrators: &[&Migrator],
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    check_session(pool, schema).await?;
    migrations::run(&pool.connect_options(), schema, migrators, shutdown).await
}

/// Whether a step of the start failed because Postgres ended or the connection to it was lost.
fn is_interrupted(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| match cause.downcast_ref::<MigrateError>() {
        Some(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            is_unavailable(error)
        }
        _ => cause.downcast_ref::<sqlx::Error>().is_some_and(is_unavailable),
    })
}

/// What every session of a service has.
const SESSION_SETTINGS: [(&str, u64); 7] = [
    ("statement_timeout", STATEMENT_TIMEOUT_MS),
    (IDLE_IN_TRANSACTION, IDLE_IN_TRANSACTION_MS),
    ("idle_session_timeout", IDLE_SESSION_MS),
    ("tcp_keepalives_idle", KEEPALIVE_IDLE_S),
    ("tcp_keepalives_interval", KEEPALIVE_INTERVAL_S),
    ("tcp_keepalives_count", KEEPALIVE_COUNT),
    ("tcp_user_timeout", TCP_USER_TIMEOUT_MS),
];
const IDLE_IN_TRANSACTION: &str = "idle_in_transaction_session_timeout";

/// Sessions must see the schema first, and should have time-outs.
async fn check_session(pool: &PgPool, schema: &str) -> anyhow::Result<()> {
    let (seen, timeout): (Option<String>, String) =
        sqlx::query_as("SELECT current_schema(), current_setting($1)")
            .bind(IDLE_IN_TRANSACTION)
            .fetch_one(pool)
            .await
            .context("the session's settings")?;
    anyhow::ensure!(
        seen.as_deref() == Some(schema),
        "sessions of Postgres have `{}` as their first schema, expected `{schema}`: a pooler has dropped the \
         startup parameter `options`; set `search_path` for the role (ALTER ROLE … SET search_path = \
         {schema}) or in the pooler (connect_query of PgBouncer)",
        seen.as_deref().unwrap_or_default()
    );
    if timeout == "0" {
        tracing::warn!(
            setting = IDLE_IN_TRANSACTION,
            "a pooler has dropped the session time-outs: locks of a process that hangs may last; set them \
             for the role or in the pooler"
        );
    }
    Ok(())
}

/// Does `work` within an open transaction that waits for something else than Postgres, e.g. for the artifact
/// store. The transaction says every second that it is alive, so that Postgres ends it only where this
/// process hangs.
///
/// # Errors
/// The connection broke; `work` was not finished then.
pub async fn while_open<W: Future>(connection: &mut PgConnection, work: W) -> Result<W::Output, sqlx::Error> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(Duration::from_millis(ALIVE_INTERVAL_MS)) => {
                sqlx::query("SELECT 1").execute(&mut *connection).await?;
            }
        }
    }
}

/// Only where it is not there: a role that owns its schema need not be allowed to make others, and Postgres
/// asks for that even with `IF NOT EXISTS`.
async fn make_schema(pool: &PgPool, schema: &'static str) -> Result<(), sqlx::Error> {
    let exists: (bool,) = sqlx::query_as("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(pool)
        .await?;
    if !exists.0 {
        // The name is one of our own constants, and identifiers cannot be bound.
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}"))).execute(pool).await?;
    }
    Ok(())
}
