//! Migrations next to replicas of another release, and next to each other.

use std::borrow::Cow;

use slipway_service_kit::db;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, SqlStr};
use tokio_util::sync::CancellationToken;

use crate::db::config;

const THINGS: &str = "CREATE TABLE things (id BIGINT PRIMARY KEY)";
/// A release later.
const EXPANDED: &str = "ALTER TABLE things ADD COLUMN more TEXT";

/// The migrations of a release, numbered from 1.
fn release(migrations: &[&'static str]) -> Migrator {
    let one = |(version, sql): (i64, &&'static str)| {
        let sql: SqlStr = sqlx::SqlSafeStr::into_sql_str(*sql);
        Migration::new(version, Cow::Borrowed("test"), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations((1..).zip(migrations).map(one).collect())
}

async fn open(url: &str, migrations: &[&'static str]) -> anyhow::Result<PgPool> {
    db::connect(&config(url), "shop", &[&release(migrations)], &CancellationToken::new()).await
}

async fn count(pool: &PgPool, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(pool).await.expect("the query runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_the_same_time_apply_each_migration_once() {
    let url = slipway_testkit::postgres().await.url;
    let migrations = [THINGS, "INSERT INTO things VALUES (1); SELECT pg_sleep(0.2)", EXPANDED];
    let (one, two, three) =
        tokio::join!(open(&url, &migrations), open(&url, &migrations), open(&url, &migrations));
    for pool in [one, two, three] {
        assert_eq!(count(&pool.unwrap(), "SELECT count(*) FROM things").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_the_release_before_starts_on_the_schema_of_a_newer_one() {
    let url = slipway_testkit::postgres().await.url;
    open(&url, &[THINGS, EXPANDED]).await.unwrap();
    let before = open(&url, &[THINGS]).await.unwrap();
    sqlx::query("INSERT INTO things (id) VALUES (1)").execute(&before).await.unwrap();
    let again = open(&url, &[THINGS, EXPANDED]).await.unwrap();
    assert_eq!(count(&again, "SELECT count(*) FROM things WHERE more IS NULL").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_leaves_nothing_and_applies_once_it_is_right() {
    let url = slipway_testkit::postgres().await.url;
    let failed = open(&url, &[THINGS, "CREATE TABLE more (id BIGINT); INSERT INTO nothing VALUES (1)"]).await;
    let failed = format!("{:#}", failed.unwrap_err());
    assert!(
        failed.contains("the migrations of schema shop failed") && failed.contains("\"nothing\""),
        "{failed}"
    );
    let pool = open(&url, &[THINGS]).await.unwrap();
    assert_eq!(count(&pool, "SELECT count(*) FROM pg_tables WHERE tablename = 'more'").await, 0);
    assert_eq!(count(&pool, "SELECT count(*) FROM _sqlx_migrations").await, 1);
    open(&url, &[THINGS, "CREATE TABLE more (id BIGINT)"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_changed_after_it_was_applied_is_refused() {
    let url = slipway_testkit::postgres().await.url;
    open(&url, &[THINGS]).await.unwrap();
    let failed = format!("{:#}", open(&url, &["CREATE TABLE things (id TEXT)"]).await.unwrap_err());
    assert!(failed.contains("migration 1 of _sqlx_migrations has changed"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_have_limits_of_their_own() {
    let url = slipway_testkit::postgres().await.url;
    let noted = "CREATE TABLE noted AS SELECT current_setting('statement_timeout') AS statement, \
        current_setting('lock_timeout') AS lock";
    let pool = open(&url, &[noted]).await.unwrap();
    let limits: (String, String, String) =
        sqlx::query_as("SELECT statement, lock, current_setting('statement_timeout') FROM noted")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(limits, ("10min".to_owned(), "1s".to_owned(), "30s".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_while_a_migration_waits_for_a_long_transaction() {
    let url = slipway_testkit::postgres().await.url;
    let requests = open(&url, &[THINGS]).await.unwrap();
    // A backup, for example.
    let mut long = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM shop.things").execute(&mut long).await.unwrap();
    let migrating = tokio::spawn(async move { open(&url, &[THINGS, EXPANDED]).await });
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'things'::REGCLASS AND NOT granted";
    // It waits for the lock several times; requests behind it go on each time.
    for number in 0..3 {
        while count(&requests, waits).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        sqlx::query("INSERT INTO things VALUES ($1)").bind(number).execute(&requests).await.unwrap();
    }
    assert!(!migrating.is_finished());
    sqlx::raw_sql("COMMIT").execute(&mut long).await.unwrap();
    let migrated = migrating.await.unwrap().unwrap();
    assert_eq!(count(&migrated, "SELECT count(*) FROM things WHERE more IS NULL").await, 3);
}
