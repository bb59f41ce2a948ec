//! Runs to be searched.

use anyhow::Context as _;
use serde_json::{Value, json};
use sqlx::Connection as _;

use super::create_run;
use super::load::{Call, Server};

/// Above this the runs are written straight into the registry's tables, which takes seconds instead of an
/// hour.
const MAX_BY_API: u64 = 20_000;
const AT_ONCE: u64 = 8;

/// Makes `count` runs with a metric `score` that is spread evenly over 0 to 1, and a second one.
pub(super) async fn runs(
    server: &Server,
    database: Option<&str>,
    experiment: &str,
    count: u64,
) -> anyhow::Result<()> {
    if let Some(database) = database.filter(|_| count > MAX_BY_API) {
        return by_sql(database, experiment, count).await;
    }
    let mut makers = tokio::task::JoinSet::new();
    for maker in 0..AT_ONCE {
        let (server, experiment) = (server.clone(), experiment.to_owned());
        makers.spawn(async move {
            for number in (maker..count).step_by(AT_ONCE as usize) {
                let run = server.send(&create_run(&experiment, number)).await?;
                let run = run.pointer("/run/info/run_id").and_then(Value::as_str).context("no run id")?;
                let at = 1_700_000_000_000_u64;
                // A stride that is coprime to the count visits every score once, in no order.
                let score = (number * 7919 % count) as f64 / count as f64;
                let metrics = json!([{"key": "score", "value": score, "timestamp": at, "step": 0},
                    {"key": "loss", "value": 1.0 - score, "timestamp": at, "step": 0}]);
                server
                    .send(&Call::post("runs/log-batch", json!({"run_id": run, "metrics": metrics})))
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(maker) = makers.join_next().await {
        maker??;
    }
    Ok(())
}

async fn by_sql(database: &str, experiment: &str, count: u64) -> anyhow::Result<()> {
    let mut connection = sqlx::PgConnection::connect(database).await.context("cannot reach Postgres")?;
    let (experiment, count): (i64, i64) = (experiment.parse()?, count.try_into()?);
    sqlx::query(
        "INSERT INTO registry.runs (run_id, experiment_id, name, user_id, status, start_ms, artifact_uri) \
         SELECT md5(n::TEXT), $1, 'run-' || n, 'bench', 'FINISHED', 1700000000000 + n, 'mlflow-artifacts:/' \
         || $1 || '/' || md5(n::TEXT) || '/artifacts' FROM generate_series(0, $2 - 1) AS n",
    )
    .bind(experiment)
    .bind(count)
    .execute(&mut connection)
    .await?;
    for (key, value) in
        [("score", "(run_key * 7919 % $2)::FLOAT8 / $2"), ("loss", "1 - (run_key * 7919 % $2)::FLOAT8 / $2")]
    {
        for (table, columns, given) in
            [("metrics", "", ""), ("latest_metrics", ", experiment_id", ", experiment_id")]
        {
            let statement = format!(
                "INSERT INTO registry.{table} (run_key, key, value, at_ms, step{columns}) SELECT run_key, \
                 '{key}', {value}, 1700000000000, 0{given} FROM registry.runs WHERE experiment_id = $1"
            );
            sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(experiment)
                .bind(count)
                .execute(&mut connection)
                .await?;
        }
    }
    sqlx::query("ANALYZE registry.runs, registry.metrics, registry.latest_metrics")
        .execute(&mut connection)
        .await?;
    Ok(())
}
