//! Logs in a real store.
#![expect(clippy::disallowed_methods, reason = "tests make ids of their own")]

use slipway_artifact_store::S3Config;

use super::*;
use crate::store::testing;

struct World {
    logs: Logs,
    store: ArtifactStore,
    pool: PgPool,
    job: Uuid,
    folder: tempfile::TempDir,
}

impl World {
    async fn begin(max_bytes: u64) -> Self {
        slipway_runtime::install_tls_provider();
        let bucket = slipway_testkit::s3().await;
        let store = ArtifactStore::new(&S3Config {
            s3_endpoint: bucket.endpoint.clone(),
            s3_region: "us-east-1".into(),
            s3_bucket: bucket.bucket.clone(),
            s3_access_key: bucket.access_key.clone(),
            s3_secret_key: bucket.secret_key.clone().into(),
        });
        store.ensure_bucket().await.unwrap();
        let (pool, job) = (testing::pool().await, Uuid::new_v4());
        testing::attempt(&pool, job).await;
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(store.clone(), folder.path(), max_bytes);
        Self { logs, store, pool, job, folder }
    }

    fn key(&self) -> LogKey {
        LogKey { job_id: self.job, attempt: 1, process: None }
    }

    async fn stored(&self) -> StoredLog {
        let mut connection = self.pool.acquire().await.unwrap();
        self.key().stored(&mut connection).await.unwrap().unwrap()
    }

    async fn append(&self, offset: u64, chunk: &[u8]) -> u64 {
        let stored = self.stored().await;
        self.append_to(stored, offset, chunk).await
    }

    async fn append_to(&self, stored: StoredLog, offset: u64, chunk: &[u8]) -> u64 {
        let chunk = Bytes::copy_from_slice(chunk);
        self.logs.append(&self.pool, self.key(), stored, offset, chunk).await.unwrap()
    }

    async fn text(&self) -> String {
        let (stored, mut text) = (self.stored().await, Vec::new());
        loop {
            let read = self.logs.read(self.key(), stored, text.len() as u64).await.unwrap();
            if read.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            text.extend_from_slice(&read);
        }
    }

    async fn keys(&self) -> Vec<String> {
        let found = self.store.list(&format!("{}/", prefix(self.job)), 1_000).await.unwrap();
        found.into_iter().map(|object| object.key).collect()
    }
}

#[tokio::test]
async fn a_chunk_that_comes_twice_is_stored_once_and_a_gap_is_asked_for() {
    let world = World::begin(1_000_000).await;
    assert_eq!(world.append(0, b"one\n").await, 4);
    assert_eq!(world.append(0, b"one\n").await, 4);
    assert_eq!(world.append(2, b"e\ntwo\n").await, 8);
    assert_eq!(world.append(100, b"gap").await, 8);
    assert_eq!(world.text().await, "one\ntwo\n");
    assert_eq!(world.keys().await, [world.key().object(8)], "what was replaced is deleted");
}

#[tokio::test]
async fn what_an_agent_sends_beyond_the_limit_is_dropped_and_not_asked_for_again() {
    let world = World::begin(10).await;
    let limit = 10 + LIMIT_SLACK_BYTES;
    let chunk = vec![b'x'; usize::try_from(limit).unwrap() + 5];
    assert_eq!(world.append(0, &chunk).await, limit + 5);
    assert_eq!(world.append(limit + 5, b"more").await, limit + 9);
    assert_eq!(world.stored().await, StoredLog::Objects(limit));
}

/// Lines of a log that is longer than three chunks.
fn lines() -> String {
    (0..20_000).map(|number| format!("line {number}\n")).collect()
}

#[tokio::test]
async fn a_long_log_is_stored_in_chunks_wherever_the_agent_cuts_it() {
    for (step, aligned) in [(50_000, false), (50_000, true), (200_000, true), (7_001, false)] {
        let (world, text) = (World::begin(10_000_000).await, lines());
        let (mut sent, unit) = (0, usize::try_from(CHUNK_BYTES).unwrap());
        while sent < text.len() {
            let start = if aligned { sent - sent % unit } else { sent };
            let end = (sent + step).min(text.len());
            sent = usize::try_from(world.append(start as u64, &text.as_bytes()[start..end]).await).unwrap();
        }
        assert!(world.text().await == text, "step {step}");
        let expected: Vec<String> = keys(&world.key(), text.len() as u64).collect();
        assert_eq!(world.keys().await, expected, "step {step}");
    }
}

/// A launcher was slow: the same part came through another one meanwhile, and more.
#[tokio::test]
async fn a_late_launcher_takes_nothing_away() {
    let (world, text) = (World::begin(10_000_000).await, lines());
    let bytes = text.as_bytes();
    world.append(0, &bytes[..100]).await;
    let seen = world.stored().await;
    world.append(0, &bytes[..70_000]).await;
    world.append_to(seen, 0, &bytes[..60_000]).await;
    world.append_to(seen, 0, &bytes[..70_000]).await;
    assert_eq!(world.stored().await, StoredLog::Objects(70_000));
    assert!(world.text().await == text[..70_000]);
    let expected: Vec<String> = keys(&world.key(), 70_000).collect();
    assert_eq!(world.keys().await, expected);
}

#[tokio::test]
async fn a_log_of_an_earlier_release_is_continued_and_read_where_it_is() {
    let world = World::begin(1_000_000).await;
    sqlx::query("UPDATE attempts SET log_bytes = NULL").execute(&world.pool).await.unwrap();
    let path = world.folder.path().join(world.job.to_string()).join("1.log");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "before\n").unwrap();
    assert_eq!(world.append(0, b"before\nafter\n").await, 13);
    assert_eq!(world.text().await, "before\nafter\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(world.text().await, "", "it may be on the disk of another launcher");
}
