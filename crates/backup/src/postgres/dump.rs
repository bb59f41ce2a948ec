//! Reads all schemas in one snapshot.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::structure::{Schema, schemas};
use super::{connect, execute, qualified, quoted};
use crate::Progress;
use crate::manifest::{PostgresPart, SchemaPart, TablePart};
use crate::place::Place;

/// Compressed rows leave in pieces of about this length.
const PIECE_BYTES: usize = 256 * 1024;

/// An open transaction that sees one moment of all schemas.
pub(crate) struct Snapshot {
    connection: PgConnection,
    /// When it was taken, RFC 3339, by the clock of Postgres.
    pub(crate) taken_at: String,
}

impl Snapshot {
    /// Takes a snapshot.
    pub(crate) async fn take(options: &PgConnectOptions) -> anyhow::Result<Self> {
        let mut connection = connect(options).await?;
        execute(&mut connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned()).await?;
        // Settings of the transaction, as a pooler may drop those of the session.
        let settings = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
                        SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL \
                        timezone = 'UTC'; SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 3; \
                        SET LOCAL row_security = off";
        execute(&mut connection, settings.to_owned()).await?;
        let now = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
        let taken_at: String = sqlx::query_scalar(now).fetch_one(&mut connection).await?;
        Ok(Self { connection, taken_at })
    }
}

/// Writes the rows of all schemas.
pub(crate) async fn dump(
    mut snapshot: Snapshot,
    place: &Place,
    progress: Progress<'_>,
) -> anyhow::Result<PostgresPart> {
    let connection = &mut snapshot.connection;
    let server_version: String =
        sqlx::query_scalar("SELECT current_setting('server_version')").fetch_one(&mut *connection).await?;
    let mut parts = Vec::new();
    for schema in schemas() {
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
            .bind(schema.name)
            .fetch_one(&mut *connection)
            .await?;
        if !exists {
            progress(&format!("postgres: no schema {}: its service has never run", schema.name));
            continue;
        }
        let part = dump_schema(connection, &schema, place)
            .await
            .with_context(|| format!("Postgres, schema {}", schema.name))?;
        let rows: u64 = part.tables.iter().map(|table| table.rows).sum();
        progress(&format!("postgres: schema {}: {} tables, {rows} rows", part.name, part.tables.len()));
        parts.push(part);
    }
    ensure!(
        !parts.is_empty(),
        "the database has no schema of Slipway: expected registry, launcher, rollout_controller or \
         drift_monitor; check the database in SLIPWAY_POSTGRES_URL"
    );
    execute(connection, "COMMIT".to_owned()).await?;
    Ok(PostgresPart { server_version, schemas: parts })
}

async fn dump_schema(
    connection: &mut PgConnection,
    schema: &Schema,
    place: &Place,
) -> anyhow::Result<SchemaPart> {
    let mut migrations = BTreeMap::new();
    for table in schema.migration_tables() {
        if let Some(applied) = applied(connection, schema.name, &table).await? {
            migrations.insert(table, applied);
        }
    }
    let mut tables = Vec::new();
    for (name, columns) in listed_tables(connection, schema).await? {
        let table = dump_table(connection, schema.name, &name, columns, place).await;
        tables.push(table.with_context(|| format!("table {name}"))?);
    }
    Ok(SchemaPart {
        name: schema.name.to_owned(),
        migrations,
        tables,
        sequences: sequences(connection, schema.name).await?,
    })
}

/// Checksums of applied migrations by version; `None` if the table does not exist.
async fn applied(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> anyhow::Result<Option<BTreeMap<i64, String>>> {
    let name = qualified(schema, table);
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(&name)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(None);
    }
    let sql = format!("SELECT version, encode(checksum, 'hex') FROM {name} WHERE success");
    let rows: Vec<(i64, String)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(connection).await?;
    Ok(Some(rows.into_iter().collect()))
}

/// Tables of a schema with those columns that have values of their own.
async fn listed_tables(
    connection: &mut PgConnection,
    schema: &Schema,
) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let rows = sqlx::query_as(
        "SELECT c.relname::text, array_agg(a.attname::text ORDER BY a.attnum)
         FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
           AND a.attgenerated = ''
         WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname <> ALL($2)
         GROUP BY c.relname ORDER BY c.relname",
    )
    .bind(schema.name)
    .bind(schema.migration_tables())
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

async fn sequences(connection: &mut PgConnection, schema: &str) -> anyhow::Result<BTreeMap<String, i64>> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT sequencename::text, last_value FROM pg_sequences
         WHERE schemaname = $1 AND last_value IS NOT NULL",
    )
    .bind(schema)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn dump_table(
    connection: &mut PgConnection,
    schema: &str,
    name: &str,
    columns: Vec<String>,
    place: &Place,
) -> anyhow::Result<TablePart> {
    let listed: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let sql = format!("COPY {} ({}) TO STDOUT", qualified(schema, name), listed.join(", "));
    let rows = connection.copy_out_raw(&sql).await?;
    let counter = Arc::new(AtomicU64::new(0));
    let file = place
        .write(&format!("postgres/{schema}/{name}.copy.gz"), compressed(rows, Arc::clone(&counter)))
        .await?;
    Ok(TablePart { name: name.to_owned(), columns, rows: counter.load(Ordering::Relaxed), file })
}

/// Compresses rows, and counts them: in the text format, a line feed ends a row and is in no value.
fn compressed(
    rows: BoxStream<'_, Result<Bytes, sqlx::Error>>,
    counter: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    futures::stream::try_unfold((rows, Some(encoder)), move |(mut rows, encoder)| {
        let counter = Arc::clone(&counter);
        async move {
            let Some(mut encoder) = encoder else { return Ok(None) };
            while let Some(chunk) = rows.next().await {
                let chunk = chunk.map_err(std::io::Error::other)?;
                let lines = chunk.iter().filter(|byte| **byte == b'\n').count();
                counter.fetch_add(lines as u64, Ordering::Relaxed);
                encoder.write_all(&chunk)?;
                if encoder.get_ref().len() >= PIECE_BYTES {
                    let piece = std::mem::take(encoder.get_mut());
                    return Ok(Some((Bytes::from(piece), (rows, Some(encoder)))));
                }
            }
            Ok(Some((Bytes::from(encoder.finish()?), (rows, None))))
        }
    })
}
