//! An installation without services: servers, and what services would have written.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::time::Duration;

use async_nats::jetstream;
use bytes::Bytes;
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_backup::Installation;
use slipway_event_bus::{EventBus, NatsConfig, StreamSettings};
use slipway_testkit::{TestDatabase, TestNats};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};

/// Servers of their own.
pub(crate) struct World {
    pub(crate) database: TestDatabase,
    _nats: TestNats,
    pub(crate) installation: Installation,
}

impl World {
    /// With streams and buckets, and without schemas.
    pub(crate) async fn new() -> Self {
        let (database, nats, s3) =
            (slipway_testkit::postgres().await, slipway_testkit::nats().await, slipway_testkit::s3().await);
        let bus = EventBus::connect(&NatsConfig { nats_url: nats.url.clone() }, "test").await.unwrap();
        let bus = bus.with_streams(StreamSettings::default());
        while bus.ensure_resources().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let config = S3Config {
            s3_endpoint: s3.endpoint.clone(),
            s3_region: "us-east-1".to_owned(),
            s3_bucket: s3.bucket.clone(),
            s3_access_key: s3.access_key.clone(),
            s3_secret_key: s3.secret_key.clone().into(),
        };
        let artifacts = ArtifactStore::new(&config);
        artifacts.ensure_bucket().await.unwrap();
        let postgres = PgConnectOptions::from_str(&database.url).unwrap();
        Self { database, _nats: nats, installation: Installation { postgres, nats: bus, artifacts } }
    }

    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.database.url).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let mut connection = self.connection().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    }

    /// The schema of the registry as its service makes it, with `runs` runs.
    pub(crate) async fn registry(&self, runs: u32) {
        use sqlx::migrate::Migrator;
        let own: Migrator = sqlx::migrate!("../../migrations/registry");
        self.execute("CREATE SCHEMA IF NOT EXISTS registry").await;
        let options = self.installation.postgres.clone().options([("search_path", "registry")]);
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        let (outbox, audit, lease) =
            (slipway_outbox::migrator(), slipway_audit::migrator(), slipway_lease::migrator());
        for migrator in [&own, &outbox, &audit, &lease] {
            migrator.run(&mut connection).await.unwrap();
        }
        let rows = format!(
            "INSERT INTO runs (run_id, experiment_id, name, user_id, status, start_ms, artifact_uri)
             SELECT md5(i::text), 0, E'run\\t\\\\ \"ü\"\\n' || i, 'ada', 'FINISHED', i, 's3://a/' || i
             FROM generate_series(1, {runs}) i;
             INSERT INTO run_params (run_key, key, value)
             SELECT run_key, 'trees', run_key::text FROM runs"
        );
        sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
    }

    pub(crate) async fn publish(&self, subject: &str, text: &str) {
        let stored = self.installation.nats.jetstream().publish(subject.to_owned(), text.to_owned().into());
        stored.await.unwrap().await.unwrap();
    }

    pub(crate) async fn put(&self, key: &str, bytes: &'static [u8]) {
        self.installation.artifacts.put_bytes(key, Bytes::from_static(bytes)).await.unwrap();
    }

    /// Every row of every table but those that list migrations, as text.
    pub(crate) async fn rows(&self) -> BTreeMap<String, Vec<String>> {
        let mut connection = self.connection().await;
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND nspname = 'registry' AND relname NOT LIKE '%migrations'",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let mut rows = BTreeMap::new();
        for table in tables {
            let sql = format!("SELECT t::text FROM {table} t ORDER BY 1");
            let found = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
            rows.insert(table, found);
        }
        rows
    }

    /// Columns, constraints, indexes and triggers.
    pub(crate) async fn structure(&self) -> Vec<String> {
        let sql = "SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' '
                      || is_nullable || coalesce(column_default, '') FROM information_schema.columns
                      WHERE table_schema = 'registry'
                   UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
                      FROM pg_constraint WHERE connamespace = 'registry'::regnamespace
                   UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'registry'
                   UNION ALL SELECT pg_get_triggerdef(t.oid) || t.tgenabled::text FROM pg_trigger t JOIN
                      pg_class c ON c.oid = t.tgrelid WHERE relnamespace = 'registry'::regnamespace
                      AND NOT tgisinternal
                   ORDER BY 1";
        sqlx::query_scalar(sql).fetch_all(&mut self.connection().await).await.unwrap()
    }

    /// Every object with its bytes.
    pub(crate) async fn objects(&self) -> BTreeMap<String, Bytes> {
        let store = &self.installation.artifacts;
        let mut objects = BTreeMap::new();
        for found in store.list("", 1_000_000).await.unwrap() {
            let bytes = store.get_bytes(&found.key, u64::MAX).await.unwrap();
            objects.insert(found.key, bytes);
        }
        objects
    }

    /// Sequence number, subject and text of every message of a stream.
    pub(crate) async fn messages(&self, name: &str) -> Vec<(u64, String, String)> {
        let stream: jetstream::stream::Stream =
            self.installation.nats.jetstream().get_stream(name).await.unwrap();
        let state = stream.cached_info().state.clone();
        let mut messages = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let Ok(message) = stream.get_raw_message(sequence).await else { continue };
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            messages.push((sequence, message.subject.to_string(), text));
        }
        messages
    }
}

/// No progress.
pub(crate) fn quiet(_: &str) {}
