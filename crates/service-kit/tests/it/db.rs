//! The pool of a service: its schema, its migrations, and what it takes for a passing failure.

use std::borrow::Cow;
use std::task::Poll;
use std::time::Duration;

use slipway_service_kit::db::{self, PostgresConfig};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, PgPool, SqlStr};
use tokio_util::sync::CancellationToken;

/// A slow machine needs this long at most.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn config(url: &str) -> PostgresConfig {
    PostgresConfig { postgres_url: url.into(), postgres_max_connections: 4 }
}

/// One migration, which notes itself in a table of its own.
fn migrator(table: &'static str, sql: &'static str) -> Migrator {
    let sql: SqlStr = sqlx::SqlSafeStr::into_sql_str(sql);
    let migration = Migration::new(1, Cow::Borrowed("test"), MigrationType::Simple, sql, false);
    let mut migrator = Migrator::with_migrations(vec![migration]);
    migrator.dangerous_set_table_name(table);
    migrator
}

async fn open(url: &str, migrators: &[&Migrator]) -> anyhow::Result<PgPool> {
    db::connect(&config(url), "shop", migrators, &CancellationToken::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_keeps_to_its_schema_and_its_migrators_run_in_their_order_and_once() {
    let url = slipway_testkit::postgres().await.url;
    let own = migrator("_own", "CREATE TABLE things (id BIGINT PRIMARY KEY)");
    let shared =
        migrator("_shared", "ALTER TABLE things ADD COLUMN more TEXT; INSERT INTO things VALUES (1, 'x')");
    for _ in 0..2 {
        let pool = open(&url, &[&own, &shared]).await.unwrap();
        let (schema, rows): (String, i64) =
            sqlx::query_as("SELECT current_schema(), (SELECT count(*) FROM shop.things)")
                .fetch_one(&pool)
                .await
                .unwrap();
        assert_eq!((schema.as_str(), rows), ("shop", 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_names_the_schema() {
    let url = slipway_testkit::postgres().await.url;
    let failed = open(&url, &[&migrator("_own", "CREATE NONSENSE")]).await.unwrap_err();
    assert!(format!("{failed:#}").contains("the migrations of schema shop failed"), "{failed:#}");
}

#[tokio::test]
async fn an_address_that_does_not_parse_is_refused_by_its_setting_and_shows_no_password() {
    let failed = format!("{:#}", open("postgres://me:s3cret@host:port/x", &[]).await.unwrap_err());
    assert!(failed.contains("SLIPWAY_POSTGRES_URL") && !failed.contains("s3cret"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_waits_for_postgres_and_can_be_stopped_meanwhile() {
    let server = slipway_testkit::own_postgres().await;
    server.kill().await;
    let (url, shutdown) = (server.url.clone(), CancellationToken::new());
    let stopped = {
        let (url, shutdown) = (url.clone(), shutdown.clone());
        tokio::spawn(async move { db::connect(&config(&url), "shop", &[], &shutdown).await.map(|_| ()) })
    };
    shutdown.cancel();
    let failed = tokio::time::timeout(PATIENCE, stopped).await.unwrap().unwrap().unwrap_err();
    assert!(failed.to_string().contains("stopped while waiting for Postgres"), "{failed}");
    let waiting = tokio::spawn(async move { open(&url, &[]).await });
    server.start_again().await;
    let pool = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    sqlx::query("SELECT 1").execute(&pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_survives_a_restart_of_postgres_during_its_migrations() {
    let server = slipway_testkit::own_postgres().await;
    let url = server.url.clone();
    let own = migrator("_own", "CREATE TABLE things (id BIGINT PRIMARY KEY)");
    let pool = open(&url, &[&own]).await.unwrap();
    // The next migration waits for this lock until Postgres is killed.
    let mut reader = pool.begin().await.unwrap();
    sqlx::query("SELECT * FROM things").execute(&mut *reader).await.unwrap();
    let starting = tokio::spawn(async move {
        let next = migrator("_next", "ALTER TABLE things ADD COLUMN more TEXT");
        open(&url, &[&next]).await
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
        AND query LIKE '%ALTER TABLE things%'";
    // Not in the transaction of the reader, which would see the same statistics each time.
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(&pool).await.unwrap() == 0 {
        sqlx::query("SELECT 1").execute(&mut *reader).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.kill().await;
    server.start_again().await;
    let pool = tokio::time::timeout(PATIENCE, starting).await.unwrap().unwrap().unwrap();
    // The pool may still hold a connection from before, whose first use shows that it is broken.
    while let Err(error) = sqlx::query("SELECT more FROM things").execute(&pool).await {
        assert!(db::is_unavailable(&error), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_tell_a_duplicate_a_passing_failure_and_a_defect_apart() {
    let server = slipway_testkit::own_postgres().await;
    let pool =
        open(&server.url, &[&migrator("_own", "CREATE TABLE things (id BIGINT PRIMARY KEY)")]).await.unwrap();
    let run = async |sql: &str| sqlx::query(AssertSqlSafe(sql)).execute(&pool).await;
    run("INSERT INTO things VALUES (1)").await.unwrap();
    let twice = run("INSERT INTO things VALUES (1)").await.unwrap_err();
    assert!(db::is_duplicate(&twice) && !db::is_unavailable(&twice), "{twice}");
    let defect = run("SELECT nonsense").await.unwrap_err();
    assert!(!db::is_duplicate(&defect) && !db::is_unavailable(&defect), "{defect}");
    let ended = run("SELECT pg_terminate_backend(pg_backend_pid())").await.unwrap_err();
    assert!(db::is_unavailable(&ended), "{ended}");
    server.kill().await;
    let away = run("SELECT 1").await.unwrap_err();
    assert!(db::is_unavailable(&away), "{away}");
}

/// Polls a future so many times, as if each time an answer could have arrived, and drops it.
async fn cancel_after(polls: usize, work: impl Future) {
    tokio::pin!(work);
    for _ in 0..polls {
        let ready = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_ready())).await;
        if ready {
            return;
        }
    }
}

/// Otherwise the next writer on the connection would be told that its row is stored, and it would not be.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_beginning_is_cancelled_does_not_swallow_what_others_write() {
    let url = slipway_testkit::postgres().await.url;
    let own = migrator("_own", "CREATE TABLE things (id BIGINT PRIMARY KEY)");
    // One connection for all: the one that the cancelled transaction used.
    let config = PostgresConfig { postgres_url: url.as_str().into(), postgres_max_connections: 2 };
    let pool = db::connect(&config, "shop", &[&own], &CancellationToken::new()).await.unwrap();
    let other = PgPool::connect(&url).await.unwrap();
    for id in 0..20_i64 {
        cancel_after(id as usize % 5 + 1, db::begin(&pool)).await;
        sqlx::query("INSERT INTO things VALUES ($1)").bind(id).execute(&pool).await.unwrap();
        let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM shop.things WHERE id = $1")
            .bind(id)
            .fetch_one(&other)
            .await
            .unwrap();
        assert_eq!(stored, 1, "row {id} was acknowledged");
    }
}

/// Of two idle connections that broke, one is old enough to be tested before use; the other one is not.
#[tokio::test(flavor = "multi_thread")]
async fn once_a_request_has_succeeded_after_a_restart_none_meets_a_broken_connection() {
    let url = slipway_testkit::postgres().await.url;
    let pool = open(&url, &[]).await.unwrap();
    let (old, young) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    drop(old);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    drop(young);
    while pool.num_idle() < 2 {
        tokio::task::yield_now().await;
    }
    let other = PgPool::connect(&url).await.unwrap();
    let ended: i64 = sqlx::query_scalar(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
         WHERE application_name = 'shop'",
    )
    .fetch_one(&other)
    .await
    .unwrap();
    assert_eq!(ended, 2);
    for _ in 0..2 {
        sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    }
}
