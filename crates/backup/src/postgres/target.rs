//! The connection, and whether a database may be restored into.

use anyhow::{Context as _, bail};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};

use super::structure::schemas;
use super::{execute, qualified};

/// Name of our sessions.
const APPLICATION: &str = "slipway-backup";
/// Tables that have rows in an installation that has never been used, with the most that it has.
const ROWS_OF_A_NEW_ONE: [(&str, &str, i64); 4] = [
    ("registry", "experiments", 1),
    ("registry", "audit_head", 1),
    ("launcher", "installation", 1),
    ("launcher", "ended_jobs", i64::MAX),
];
/// Tables of every schema whose rows say nothing about whether it was used.
const NOT_COUNTED: [&str; 4] = ["inbox", "outbox", "lease_partitions", "lease"];

/// A session with the longest statements that are necessary.
pub(crate) async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let options = options.clone().application_name(APPLICATION).extra_float_digits(None);
    PgConnection::connect_with(&options).await.with_context(|| {
        format!("cannot connect to Postgres at {}:{}", options.get_host(), options.get_port())
    })
}

/// Checks that no service uses the database, and that it is empty or may be replaced.
///
/// # Errors
/// Otherwise; the message says which and what to do.
pub(crate) async fn check_target(connection: &mut PgConnection, replace: bool) -> anyhow::Result<()> {
    check_stopped(connection).await?;
    if replace {
        return Ok(());
    }
    for schema in schemas() {
        let excluded: Vec<String> =
            schema.migration_tables().into_iter().chain(NOT_COUNTED.map(str::to_owned)).collect();
        for table in tables(connection, schema.name, &excluded).await? {
            let sql = format!("SELECT count(*) FROM {}", qualified(schema.name, &table));
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await?;
            if rows > rows_of_a_new_one(schema.name, &table) {
                bail!(
                    "the installation is not empty: {}.{table} has {rows} rows; use --replace to delete \
                     everything that the installation has in Postgres and NATS, and restore the backup",
                    schema.name
                );
            }
        }
    }
    Ok(())
}

fn rows_of_a_new_one(schema: &str, table: &str) -> i64 {
    let listed = ROWS_OF_A_NEW_ONE.iter().find(|(of, name, _)| *of == schema && *name == table);
    listed.map_or(0, |(_, _, rows)| *rows)
}

async fn tables(
    connection: &mut PgConnection,
    schema: &str,
    excluded: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname <> ALL($2) ORDER BY c.relname",
    )
    .bind(schema)
    .bind(excluded)
    .fetch_all(connection)
    .await
}

/// Sessions of services have the names of their schemas.
async fn check_stopped(connection: &mut PgConnection) -> anyhow::Result<()> {
    let names: Vec<String> = schemas().iter().map(|schema| schema.name.to_owned()).collect();
    let running: Vec<(String, i64)> = sqlx::query_as(
        "SELECT application_name::text, count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = ANY($1)
         GROUP BY 1 ORDER BY 1",
    )
    .bind(names)
    .fetch_all(connection)
    .await?;
    if running.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = running
        .iter()
        .map(|(service, sessions)| format!("{} ({sessions} sessions)", service.replace('_', "-")))
        .collect();
    bail!("services still use the database: {}; stop all services, then restore", listed.join(", "))
}

/// Deletes what a schema has, or makes the schema; the role of the transaction and its search path become
/// those of the schema's owner.
pub(super) async fn clear(connection: &mut PgConnection, schema: &str) -> anyhow::Result<()> {
    let quoted = super::quoted(schema);
    let owner: Option<String> =
        sqlx::query_scalar("SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = $1")
            .bind(schema)
            .fetch_optional(&mut *connection)
            .await?;
    let owner = match owner {
        Some(owner) => owner,
        None => made(connection, schema).await?,
    };
    let enter = format!("SET LOCAL ROLE {}; SET LOCAL search_path = {quoted}", super::quoted(&owner));
    execute(connection, enter).await.with_context(|| {
        format!("cannot become `{owner}`, which owns schema {schema}: use that user, or a superuser")
    })?;
    let mut drops: Vec<String> = sqlx::query_scalar(
        "SELECT format('DROP %s IF EXISTS %s CASCADE', CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN
                'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
         ORDER BY relkind = 'S'",
    )
    .bind(schema)
    .fetch_all(&mut *connection)
    .await?;
    let routines: Vec<String> = sqlx::query_scalar(
        "SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure)
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1",
    )
    .bind(schema)
    .fetch_all(&mut *connection)
    .await?;
    drops.extend(routines);
    execute(connection, format!("SET LOCAL client_min_messages = warning; {}", drops.join("; "))).await?;
    Ok(())
}

/// Makes a schema, for the role of its service where there is one.
async fn made(connection: &mut PgConnection, schema: &str) -> anyhow::Result<String> {
    let owner: Option<String> =
        sqlx::query_scalar("SELECT rolname::text FROM pg_roles WHERE rolname = 'slipway_' || $1")
            .bind(schema)
            .fetch_optional(&mut *connection)
            .await?;
    let owner = match owner {
        Some(owner) => owner,
        None => sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut *connection).await?,
    };
    let sql = format!("CREATE SCHEMA {} AUTHORIZATION {}", super::quoted(schema), super::quoted(&owner));
    execute(connection, sql).await.with_context(|| format!("cannot create schema {schema}"))?;
    Ok(owner)
}
