//! Writes all schemas in one transaction: a restore that fails changes nothing.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, ensure};
use flate2::write::MultiGzDecoder;
use futures::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::structure::{find, make, schemas};
use super::target::clear;
use super::{execute, qualified, quoted};
use crate::Progress;
use crate::manifest::{PostgresPart, SchemaPart, TablePart};
use crate::place::{FileRef, Place};

/// Replaces the schemas by those of the backup.
pub(crate) async fn load(
    connection: &mut PgConnection,
    part: &PostgresPart,
    place: &Place,
    progress: Progress<'_>,
) -> anyhow::Result<()> {
    let mut transaction = connection.begin().await?;
    let settings = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '10s'; SET LOCAL \
                    idle_in_transaction_session_timeout = 0; SET LOCAL datestyle = 'ISO'; SET LOCAL \
                    intervalstyle = 'postgres'; SET LOCAL timezone = 'UTC'";
    execute(&mut transaction, settings.to_owned()).await?;
    let known = schemas();
    for part in &part.schemas {
        let load = async {
            let schema = find(&known, part)?;
            clear(&mut transaction, schema.name).await?;
            make(&mut transaction, schema, part).await?;
            load_schema(&mut transaction, part, place).await?;
            execute(&mut transaction, "RESET ROLE; RESET search_path".to_owned()).await?;
            anyhow::Ok(())
        };
        load.await.with_context(|| format!("Postgres, schema {}", part.name))?;
        let rows: u64 = part.tables.iter().map(|table| table.rows).sum();
        progress(&format!("postgres: schema {}: {} tables, {rows} rows", part.name, part.tables.len()));
    }
    Ok(transaction.commit().await?)
}

/// Foreign keys are made again after the rows, which checks all of them, so the order of tables is free.
async fn load_schema(connection: &mut PgConnection, part: &SchemaPart, place: &Place) -> anyhow::Result<()> {
    let keys: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT r.relname::text, k.conname::text, pg_get_constraintdef(k.oid)
         FROM pg_constraint k JOIN pg_class r ON r.oid = k.conrelid
         JOIN pg_namespace n ON n.oid = r.relnamespace
         WHERE n.nspname = $1 AND k.contype = 'f' ORDER BY 1, 2",
    )
    .bind(&part.name)
    .fetch_all(&mut *connection)
    .await?;
    for (table, key, _) in &keys {
        let table = qualified(&part.name, table);
        execute(connection, format!("ALTER TABLE {table} DROP CONSTRAINT {}", quoted(key))).await?;
    }
    for table in &part.tables {
        let load = load_table(connection, &part.name, table, place).await;
        load.with_context(|| format!("table {}", table.name))?;
    }
    for (table, key, definition) in &keys {
        let add = format!(
            "ALTER TABLE {} ADD CONSTRAINT {} {definition}",
            qualified(&part.name, table),
            quoted(key)
        );
        execute(connection, add).await.with_context(|| format!("foreign key {key} of table {table}"))?;
    }
    set_sequences(connection, &part.name, &part.sequences).await
}

/// Triggers do not run: what they did is among the rows.
async fn load_table(
    connection: &mut PgConnection,
    schema: &str,
    table: &TablePart,
    place: &Place,
) -> anyhow::Result<()> {
    let name = qualified(schema, &table.name);
    execute(connection, format!("ALTER TABLE {name} DISABLE TRIGGER USER")).await?;
    // Rows that migrations insert.
    execute(connection, format!("DELETE FROM {name}")).await?;
    let columns: Vec<String> = table.columns.iter().map(|column| quoted(column)).collect();
    let sql = format!("COPY {name} ({}) FROM STDIN", columns.join(", "));
    let mut copy = connection.copy_in_raw(&sql).await?;
    match send(&mut copy, &table.file, place).await {
        Ok(()) => {}
        Err(error) => {
            let _ = copy.abort("the backup cannot be read").await;
            return Err(error);
        }
    }
    let rows = copy.finish().await?;
    ensure!(rows == table.rows, "{rows} rows were restored, expected {}", table.rows);
    execute(connection, format!("ALTER TABLE {name} ENABLE TRIGGER USER")).await?;
    Ok(())
}

async fn send(
    copy: &mut sqlx::postgres::PgCopyIn<&mut PgConnection>,
    file: &FileRef,
    place: &Place,
) -> anyhow::Result<()> {
    let mut stream =
        place.open(&file.path).await?.with_context(|| format!("{place}: {} is missing", file.path))?;
    let (mut hasher, mut decoder) = (Sha256::new(), MultiGzDecoder::new(Vec::new()));
    while let Some(chunk) = stream.try_next().await? {
        hasher.update(&chunk);
        decoder.write_all(&chunk).with_context(|| format!("{}: not gzip", file.path))?;
        let rows = std::mem::take(decoder.get_mut());
        if !rows.is_empty() {
            copy.send(rows).await?;
        }
    }
    let rows = decoder.finish().with_context(|| format!("{}: truncated", file.path))?;
    if !rows.is_empty() {
        copy.send(rows).await?;
    }
    let actual = hex::encode(hasher.finalize());
    ensure!(actual == file.sha256, "{}: SHA-256 is {actual}, expected {}", file.path, file.sha256);
    Ok(())
}

async fn set_sequences(
    connection: &mut PgConnection,
    schema: &str,
    sequences: &BTreeMap<String, i64>,
) -> anyhow::Result<()> {
    for (name, value) in sequences {
        let sql = format!("SELECT setval('{}', $1)", qualified(schema, name).replace('\'', "''"));
        sqlx::query(AssertSqlSafe(sql))
            .bind(value)
            .execute(&mut *connection)
            .await
            .with_context(|| format!("sequence {name}"))?;
    }
    Ok(())
}
