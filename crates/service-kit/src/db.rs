//! Postgres: one database, one schema per service, migrations at the start.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgPool};
use tokio_util::sync::CancellationToken;

/// A request that gets no connection within this time answers 503.
const ACQUIRE_TIMEOUT_MS: u64 = 5_000;
/// No statement of a request runs longer.
const STATEMENT_TIMEOUT_MS: u64 = 30_000;
const RETRY_DELAY_MS: u64 = 300;
/// A connection that lay idle for longer is tried before it is used. Asking each time would cost a round trip
/// a request; one that broke within this time fails its request, which is answered with 503.
const TRUSTED_IDLE_MS: u64 = 1_000;

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
    /// Maximum number of connections of this service.
    #[arg(long, env = "SLIPWAY_POSTGRES_MAX_CONNECTIONS", default_value_t = 16)]
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
        .options([
            ("search_path", schema.to_owned()),
            ("statement_timeout", STATEMENT_TIMEOUT_MS.to_string()),
        ]);
    let pool = PgPoolOptions::new()
        .max_connections(config.postgres_max_connections)
        .acquire_timeout(Duration::from_millis(ACQUIRE_TIMEOUT_MS))
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for >= Duration::from_millis(TRUSTED_IDLE_MS) {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options);
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
    for migrator in migrators {
        migrator.run(&pool).await.with_context(|| format!("the migrations of schema {schema} failed"))?;
    }
    Ok(pool)
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
        // 57P01..03: shutting down or starting up; 53: out of a resource; 08: connection; 40001, 40P01: try
        // again.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("57P")
                || code.starts_with("53")
                || code.starts_with("08")
                || code == "40001"
                || code == "40P01"
        }),
        _ => false,
    }
}
