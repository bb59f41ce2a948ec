//! A database with the launcher's tables, for tests.

use secrecy::SecretString;
use slipway_service_kit::db::{self, PostgresConfig};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) async fn pool() -> PgPool {
    let database = slipway_testkit::postgres().await;
    let config =
        PostgresConfig { postgres_url: SecretString::from(database.url), postgres_max_connections: 4 };
    let migrators = [&crate::MIGRATOR, &slipway_outbox::migrator()];
    db::connect(&config, "launcher", &migrators, &CancellationToken::new()).await.unwrap()
}

/// A job with an attempt, whose log is empty.
pub(crate) async fn attempt(pool: &PgPool, job_id: Uuid) {
    sqlx::query(
        "INSERT INTO jobs (id, name, spec, state, status, cpus)
         VALUES ($1, 'job', '{}', '{\"attempt\": 1}', 'running', 1)",
    )
    .bind(job_id)
    .execute(pool)
    .await
    .unwrap();
    sqlx::query("INSERT INTO attempts (job_id, number, token_sha256, log_bytes) VALUES ($1, 1, '', 0)")
        .bind(job_id)
        .execute(pool)
        .await
        .unwrap();
}
