//! An `mlflow server` on a database of its own in the same Postgres.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sqlx::Connection as _;

use crate::mlflow::MlflowServer;
use crate::venv;

/// It listens as soon as one of its workers does; the others take as long again.
const WORKERS_START: Duration = Duration::from_secs(15);

/// Starts it and waits until all of its workers answer.
pub(super) async fn start(database: &str, data_dir: &Path, workers: u32) -> anyhow::Result<MlflowServer> {
    let python = venv::ensure_bench()?;
    let mut connection = sqlx::PgConnection::connect(database).await.context("cannot reach Postgres")?;
    sqlx::query("CREATE DATABASE mlflow").execute(&mut connection).await.context("CREATE DATABASE")?;
    let (_, address) = database.split_once("://").context("the database's URL has no scheme")?;
    let (server, _) = address.rsplit_once('/').context("the database's URL has no path")?;
    let store = format!("postgresql+psycopg2://{server}/mlflow");
    let mlflow = MlflowServer::start(&python, &store, data_dir, workers)?;
    tokio::time::sleep(WORKERS_START).await;
    let health = reqwest::get(format!("{}/health", mlflow.url)).await.context("`mlflow server`")?;
    ensure!(health.status().is_success(), "`mlflow server` is not healthy: {}", health.status());
    Ok(mlflow)
}
