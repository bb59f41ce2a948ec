//! What the statements read, and how jobs are counted.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use super::*;
use crate::store::testing;

/// So many times 50 jobs that have ended, and two that have not.
async fn with_ended(batches: usize) -> PgPool {
    let pool = testing::pool().await;
    for _ in 0..batches {
        sqlx::query(
            "INSERT INTO jobs (id, name, spec, state, status, cpus, finished_at)
         SELECT gen_random_uuid(), 'job', '{}', '{\"attempt\": 1}',
           CASE WHEN number % 10 = 0 THEN 'failed' ELSE 'succeeded' END, 1, now()
         FROM generate_series(1, 50) AS number",
        )
        .execute(&pool)
        .await
        .unwrap();
    }
    for status in ["queued", "running"] {
        sqlx::query(
            "INSERT INTO jobs (id, name, spec, state, status, cpus)
             VALUES (gen_random_uuid(), 'job', '{}', '{\"attempt\": 1}', $1, 1)",
        )
        .bind(status)
        .execute(&pool)
        .await
        .unwrap();
    }
    sqlx::query("ANALYZE").execute(&pool).await.unwrap();
    pool
}

/// Rows that a statement reads, those too that it then leaves out. Pages would count the versions of rows
/// that Postgres has not removed yet, and when it does depends on what else it is doing.
async fn rows_read(pool: &PgPool, statement: &str) -> f64 {
    let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) {statement}");
    let mut query = sqlx::query_scalar::<_, Value>(AssertSqlSafe(explain));
    if statement.contains("$2") {
        query = query.bind(0_i64).bind(256_i64).bind("local");
    }
    let plan = query.fetch_one(pool).await.unwrap();
    rows_of_scans(&plan[0]["Plan"])
}

fn rows_of_scans(node: &Value) -> f64 {
    let below = node["Plans"].as_array().into_iter().flatten().map(rows_of_scans).sum::<f64>();
    if node["Relation Name"].is_null() && node["Index Name"].is_null() {
        return below;
    }
    let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
    let left_out = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
    below + (number("Actual Rows") + left_out) * number("Actual Loops")
}

#[tokio::test]
async fn what_every_pass_reads_does_not_grow_with_the_jobs_that_have_ended() {
    let (few, many) = (with_ended(2).await, with_ended(300).await);
    for statement in [ACTIVE, STARTABLE, COUNT_BY_STATUS] {
        let (of_few, of_many) = (rows_read(&few, statement).await, rows_read(&many, statement).await);
        assert!(of_few > 0.0, "{statement}");
        assert!(of_many <= of_few + 20.0, "{of_few} rows, then {of_many}: {statement}");
    }
}

#[tokio::test]
async fn jobs_are_counted_by_status_as_they_end() {
    let pool = with_ended(1).await;
    let mut connection = pool.acquire().await.unwrap();
    sqlx::query("UPDATE jobs SET status = 'cancelled' WHERE status = 'running'")
        .execute(&mut *connection)
        .await
        .unwrap();
    // It has ended already, and counts once.
    sqlx::query("UPDATE jobs SET status = status").execute(&mut *connection).await.unwrap();
    let mut counts = count_by_status(&mut connection).await.unwrap();
    counts.sort();
    let counts: Vec<(&str, i64)> = counts.iter().map(|(status, count)| (&**status, *count)).collect();
    assert_eq!(counts, [("cancelled", 1), ("failed", 5), ("queued", 1), ("succeeded", 45)]);
}
