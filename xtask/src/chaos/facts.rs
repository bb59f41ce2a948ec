//! What the platform says after the load: Postgres, NATS KV, the APIs, and the events.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use sqlx::types::chrono::DateTime;
use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection};

use super::faults::{REPLICAS, Replica, Service};
use super::journal::{Point, Run};
use super::load::{self, Attempt, Client, DEPLOYMENT, FILES, MODEL, MONITOR, Request};
use super::nats;
use super::servers::Keys;

const PAGE: usize = 1_000;
/// Runs that are read through the API as well; all are read from Postgres.
const RUNS_READ_BACK: usize = 100;
const FILES_READ_BACK: usize = 50;
const SCHEMAS: [&str; 4] = ["registry", "launcher", "rollout_controller", "drift_monitor"];

/// An event of the stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: String,
    /// Start of the transaction of the change, Unix milliseconds.
    pub(super) time_ms: u64,
    pub(super) data: Value,
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(super) struct Rollout {
    pub(super) id: String,
    pub(super) to_version: String,
    pub(super) phase: String,
}

/// A closed window of the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub(super) struct Window {
    pub(super) sequence: i64,
    pub(super) rows: i64,
}

/// A submitted job.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    pub(super) number: usize,
    pub(super) status: String,
    pub(super) attempts: Vec<Attempt>,
}

/// A job that the monitor submitted when it detected drift.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(super) struct DriftJob {
    /// The event of the detection.
    pub(super) event_id: String,
    pub(super) status: String,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// By id, from Postgres.
    pub(super) runs: BTreeMap<String, Run>,
    /// Some of them, from the API.
    pub(super) runs_read_back: BTreeMap<String, Run>,
    /// Some of the acknowledged files, by path: the API returns them from S3. `None` where it does not.
    pub(super) files: BTreeMap<String, Option<Vec<u8>>>,
    pub(super) versions: BTreeSet<u32>,
    pub(super) alias: Option<u32>,
    /// Rows of the audit trail about the creation of a run, by run.
    pub(super) audited_runs: BTreeMap<String, i64>,
    /// Events with several rows in the audit trail.
    pub(super) audited_twice: Vec<String>,
    pub(super) events: Vec<Event>,
    /// Events that are older than 5 s and not published yet, by schema.
    pub(super) outbox: BTreeMap<String, i64>,
    pub(super) rollouts: Vec<Rollout>,
    /// The traffic table in Postgres.
    pub(super) table: Value,
    /// The traffic table in NATS KV, as each node answers.
    pub(super) table_copies: Vec<Option<Value>>,
    /// Copies of all streams and buckets.
    pub(super) streams: Vec<nats::Copy>,
    /// Revision of the table that each replica of serving routes by.
    pub(super) revisions: BTreeMap<String, Option<u64>>,
    pub(super) jobs: Vec<Job>,
    /// Jobs that the monitor submitted.
    pub(super) drift_jobs: Vec<DriftJob>,
    /// Windows of the monitor: numbers and rows.
    pub(super) windows: Vec<Window>,
}

/// Asks for everything. `client` is one whose failures are violations.
pub(super) async fn gather(keys: &Keys, client: &Client, dir: &Path) -> anyhow::Result<Facts> {
    let mut db = PgConnection::connect(&keys.postgres_url).await.context("Postgres")?;
    let mut facts = Facts { runs: runs(&mut db).await.context("runs")?, ..Facts::default() };
    registry(&mut db, &mut facts).await.context("tables of the registry")?;
    for schema in SCHEMAS {
        // The load that remains publishes events all the time.
        let query = format!(
            "SELECT count(*) FROM {schema}.outbox \
             WHERE published_at IS NULL AND occurred_at < now() - interval '5 seconds'"
        );
        let waiting: i64 =
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut db).await.context("outbox")?;
        facts.outbox.insert(schema.to_owned(), waiting);
    }
    let rollouts = "SELECT id::text, state->'to'->>'version' AS to_version, phase \
        FROM rollout_controller.rollouts WHERE deployment = $1 ORDER BY seq";
    facts.rollouts = sqlx::query_as(rollouts).bind(DEPLOYMENT).fetch_all(&mut db).await?;
    let table = "SELECT traffic FROM rollout_controller.deployments WHERE name = $1";
    facts.table = sqlx::query_scalar(table).bind(DEPLOYMENT).fetch_one(&mut db).await?;
    let windows = "SELECT sequence, rows FROM drift_monitor.windows JOIN drift_monitor.monitors \
        ON monitors.id = monitor_id WHERE name = $1 ORDER BY sequence";
    facts.windows = sqlx::query_as(windows).bind(MONITOR).fetch_all(&mut db).await?;
    for url in &keys.nats_urls {
        let copy = nats::get(url, "slipway-traffic", DEPLOYMENT).await.context("NATS KV")?;
        facts.table_copies.push(copy);
    }
    facts.streams = nats::copies(keys.nats_urls.first().context("a node")?).await.context("streams")?;
    facts.revisions = followed(client).await.context("replicas of serving")?;
    facts.jobs = jobs(&mut db, client, dir).await.context("jobs")?;
    let drift_jobs = "SELECT spec::jsonb->'env'->>'DRIFT_EVENT_ID' AS event_id, status FROM launcher.jobs \
        WHERE spec::jsonb->'env' ? 'DRIFT_EVENT_ID'";
    facts.drift_jobs = sqlx::query_as(drift_jobs).fetch_all(&mut db).await.context("jobs of the monitor")?;
    facts.events = events(client).await.context("events")?;
    facts.files = files(client).await.context("files")?;
    facts.runs_read_back = read_back(client).await.context("runs over the API")?;
    Ok(facts)
}

/// A row of the query of [`runs`].
#[derive(Debug, FromRow)]
struct PointRow {
    run_id: String,
    status: String,
    step: Option<i64>,
    at_ms: Option<i64>,
    value: Option<f64>,
}

async fn runs(db: &mut PgConnection) -> anyhow::Result<BTreeMap<String, Run>> {
    let rows = sqlx::query_as(
        "SELECT run_id, status, step, at_ms, value FROM registry.runs \
         LEFT JOIN registry.metrics USING (run_key) ORDER BY run_id, step",
    );
    let rows: Vec<PointRow> = rows.fetch_all(db).await?;
    let mut runs = BTreeMap::<String, Run>::new();
    for row in rows {
        let run = runs.entry(row.run_id).or_default();
        run.finished = row.status == "FINISHED";
        if let (Some(step), Some(at_ms), Some(value)) = (row.step, row.at_ms, row.value) {
            run.points.push(Point { step, at_ms, value });
        }
    }
    Ok(runs)
}

async fn registry(db: &mut PgConnection, facts: &mut Facts) -> anyhow::Result<()> {
    let versions = "SELECT version FROM registry.model_versions JOIN registry.registered_models \
        USING (model_key) WHERE name = $1";
    let versions: Vec<i32> = sqlx::query_scalar(versions).bind(MODEL).fetch_all(&mut *db).await?;
    facts.versions = versions.into_iter().map(i32::cast_unsigned).collect();
    let alias = "SELECT version FROM registry.model_aliases JOIN registry.registered_models \
        USING (model_key) WHERE name = $1 AND alias = 'champion'";
    let alias: Option<i32> = sqlx::query_scalar(alias).bind(MODEL).fetch_optional(&mut *db).await?;
    facts.alias = alias.map(i32::cast_unsigned);
    let audited = "SELECT id, count(*) FROM registry.audit WHERE entity = 'run' AND what = 'created' \
        GROUP BY id";
    let audited: Vec<(String, i64)> = sqlx::query_as(audited).fetch_all(&mut *db).await?;
    facts.audited_runs = audited.into_iter().collect();
    let twice = "SELECT event_id::text FROM registry.audit GROUP BY event_id HAVING count(*) > 1";
    facts.audited_twice = sqlx::query_scalar(twice).fetch_all(&mut *db).await?;
    Ok(())
}

/// Revision that each replica of serving routes by, as the rollout controller knows.
async fn followed(client: &Client) -> anyhow::Result<BTreeMap<String, Option<u64>>> {
    let request = Request::get(Service::RolloutController, format!("/api/v1/deployments/{DEPLOYMENT}"));
    let answer = client.send("show the deployment", &request).await.context("no replica shows it")?;
    anyhow::ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.body);
    let known = answer.body["replicas"].as_array().cloned().unwrap_or_default();
    let revision =
        |replica: &str| known.iter().find(|known| known["replica_id"] == replica)?["table_revision"].as_u64();
    let names = (0..REPLICAS).map(|number| Replica { service: Service::Serving, number }.to_string());
    Ok(names.map(|name| (name.clone(), revision(&name))).collect())
}

async fn jobs(db: &mut PgConnection, client: &Client, dir: &Path) -> anyhow::Result<Vec<Job>> {
    let statuses: Vec<(String, String)> =
        sqlx::query_as("SELECT id::text, status FROM launcher.jobs").fetch_all(db).await?;
    let statuses: BTreeMap<String, String> = statuses.into_iter().collect();
    let submitted = client.journal().lock().jobs.clone();
    let job = |(number, id): (usize, String)| Job {
        number,
        status: statuses.get(&id).cloned().unwrap_or_else(|| "lost".to_owned()),
        attempts: load::attempts(dir, number),
    };
    Ok(submitted.into_iter().map(job).collect())
}

/// All events of the stream, through the registry.
async fn events(client: &Client) -> anyhow::Result<Vec<Event>> {
    let (mut events, mut token) = (Vec::new(), None::<String>);
    loop {
        let page = token.as_ref().map(|token| format!("&page_token={token}")).unwrap_or_default();
        let request = Request::get(Service::Registry, format!("/api/v1/events?limit={PAGE}{page}"));
        let answer = client.send("list events", &request).await.context("no replica lists events")?;
        anyhow::ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.body);
        for event in answer.body["events"].as_array().into_iter().flatten() {
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            let time = DateTime::parse_from_rfc3339(&text("time")).context("a time")?;
            let time_ms = time.timestamp_millis().cast_unsigned();
            let data = event["data"].clone();
            events.push(Event { id: text("id"), kind: text("type"), time_ms, data });
        }
        token = answer.body["next_page_token"].as_str().map(str::to_owned);
        if token.is_none() {
            return Ok(events);
        }
    }
}

/// Some runs that were acknowledged, as the API shows them.
async fn read_back(client: &Client) -> anyhow::Result<BTreeMap<String, Run>> {
    let ids: Vec<String> = client.journal().lock().runs.keys().cloned().collect();
    let mut runs = BTreeMap::new();
    for id in ids.iter().step_by((ids.len() / RUNS_READ_BACK).max(1)) {
        let run = Request::get(Service::Registry, format!("/api/2.0/mlflow/runs/get?run_id={id}"));
        let run = client.send("read a run", &run).await.context("no replica reads runs")?;
        let history = format!("/api/2.0/mlflow/metrics/get-history?run_id={id}&metric_key=loss");
        let history = client.send("read a metric", &Request::get(Service::Registry, history)).await;
        let history = history.context("no replica reads metrics")?;
        if !run.status.is_success() {
            continue;
        }
        let point = |point: &Value| {
            Some(Point {
                step: integer(&point["step"])?,
                at_ms: integer(&point["timestamp"])?,
                value: point["value"].as_f64()?,
            })
        };
        let points = history.body["metrics"].as_array().into_iter().flatten().filter_map(point).collect();
        let finished = run.body["run"]["info"]["status"] == "FINISHED";
        runs.insert(id.clone(), Run { points, finished });
    }
    Ok(runs)
}

async fn files(client: &Client) -> anyhow::Result<BTreeMap<String, Option<Vec<u8>>>> {
    let paths: Vec<String> = client.journal().lock().files.keys().cloned().collect();
    let mut files = BTreeMap::new();
    for path in paths.iter().step_by((paths.len() / FILES_READ_BACK).max(1)) {
        let read = Request { needs: FILES, ..Request::get(Service::Registry, path.as_str()) };
        let answer = client.send("read a file", &read).await.context("no replica reads files")?;
        files.insert(path.clone(), answer.status.is_success().then_some(answer.bytes));
    }
    Ok(files)
}

/// An integer that MLflow's API writes as a number or as text.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
