//! What stands around serving: NATS, S3, the registry, and the rollout controller's pen.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use slipway_api::predictions::{PREDICTIONS_STREAM, PredictionBatch, PredictionRecord};
use slipway_api::proto::registry::{File, ModelVersion};
use slipway_api::traffic::{
    REPLICAS_BUCKET, ReplicaStatus, TABLES_HEAD_KEY, TRAFFIC_BUCKET, TablesHead, Target, TrafficTable,
    VersionState, VersionStatus, Weighted,
};
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_domain::registry::{FileDigest, manifest_digest};
use slipway_event_bus::{EventBus, NatsConfig};
use slipway_testkit::{TestBucket, TestNats};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::registry::Registry;

/// How long a test waits for anything.
const PATIENCE_MS: u64 = 30_000;
/// Name of the deployment in these tests, and of its model.
pub(crate) const DEPLOYMENT: &str = "points";

/// What a replica says of one deployment.
#[derive(Debug, Clone)]
pub(crate) struct DeploymentStatus {
    pub(crate) replica_id: String,
    pub(crate) table_revision: u64,
    pub(crate) versions: Vec<VersionStatus>,
}

/// A table in its bucket.
struct Placed {
    bucket_created_unix_ms: u64,
    revision: u64,
    table: TrafficTable,
}

impl DeploymentStatus {
    /// `None`: nothing, because the replica has not read the table yet.
    fn of(status: &ReplicaStatus, placed: &Placed) -> Option<Self> {
        let replica_id = status.replica_id.clone();
        let mut unsettled = status.unsettled.iter();
        if let Some(told) = unsettled.find(|told| told.deployment == placed.table.deployment) {
            let (table_revision, versions) = (told.table_revision, told.versions.clone());
            return Some(Self { replica_id, table_revision, versions });
        }
        let position = status.position.filter(|position| {
            position.bucket_created_unix_ms == placed.bucket_created_unix_ms
                && position.revision >= placed.revision
        });
        position?;
        let ready = |target: &Target| VersionStatus {
            version: target.version.clone(),
            digest: target.digest.clone(),
            state: VersionState::Ready,
            reason: None,
        };
        let versions = placed.table.targets().map(ready).collect();
        Some(Self { replica_id, table_revision: placed.table.revision, versions })
    }
}

pub(crate) struct World {
    pub(crate) nats: TestNats,
    pub(crate) bus: EventBus,
    pub(crate) registry: Registry,
    pub(crate) bucket: TestBucket,
    store: ArtifactStore,
    /// Begins the keys of this test: all tests share a bucket, because each one takes volumes of the store.
    folder: String,
}

/// Waits until `attempt` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let attempts = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_millis(PATIENCE_MS), attempts).await;
    assert!(found.is_ok(), "waited in vain: {what}");
    found.expect("just checked")
}

pub(crate) fn fixture(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/inference/tests/fixtures").join(name);
    std::fs::read(path).expect("the fixture is there").into()
}

/// A table with a stable version only.
pub(crate) fn table(revision: u64, stable: &Target) -> TrafficTable {
    TrafficTable { revision, stable: Some(stable.clone()), ..TrafficTable::empty(DEPLOYMENT, DEPLOYMENT) }
}

/// A table with a candidate next to the stable version.
pub(crate) fn canary(revision: u64, stable: &Target, candidate: &Target, weight_percent: u8) -> TrafficTable {
    let candidates = vec![Weighted { target: candidate.clone(), weight_percent }];
    TrafficTable { candidates, ..table(revision, stable) }
}

/// Says that the bucket of traffic tables is complete, as the rollout controller does.
pub(crate) async fn complete(bus: &EventBus) {
    let head = serde_json::to_vec(&TablesHead { complete_since_unix_ms: 1 }).expect("it is JSON");
    let store = bus.bucket(TRAFFIC_BUCKET).await.expect("the bucket is there");
    store.put(TABLES_HEAD_KEY, head.into()).await.expect("NATS takes it");
}

impl World {
    pub(crate) async fn start() -> Self {
        slipway_runtime::install_tls_provider();
        static BUCKET: OnceCell<TestBucket> = OnceCell::const_new();
        let (nats, bucket, registry) =
            tokio::join!(slipway_testkit::nats(), BUCKET.get_or_init(slipway_testkit::s3), Registry::start());
        let bucket = bucket.clone();
        let config = NatsConfig { nats_url: nats.url.clone() };
        let bus = EventBus::connect(&config, "test").await.expect("the address is one");
        eventually("NATS with its streams", || async { bus.ensure_resources().await.ok() }).await;
        Box::pin(complete(&bus)).await;
        let store = ArtifactStore::new(&S3Config {
            s3_endpoint: bucket.endpoint.clone(),
            s3_region: "us-east-1".into(),
            s3_bucket: bucket.bucket.clone(),
            s3_access_key: bucket.access_key.clone(),
            s3_secret_key: bucket.secret_key.clone().into(),
        });
        store.ensure_bucket().await.expect("the bucket is made");
        Self { nats, bus, registry, bucket, store, folder: Uuid::new_v4().simple().to_string() }
    }

    /// Registers a version of a fixture.
    pub(crate) async fn version(&self, version: &str, file: &str) -> Target {
        let model = fixture(file);
        self.damaged_version(version, &model, &model).await
    }

    /// Registers a version that is said to be `logged`, while the artifact store holds `stored`.
    pub(crate) async fn damaged_version(&self, version: &str, logged: &Bytes, stored: &Bytes) -> Target {
        self.register(DEPLOYMENT, version, &[("model.onnx", logged, stored)]).await
    }

    /// Registers a version of any model: its files by path, each as it was logged and as the artifact store
    /// holds it.
    pub(crate) async fn register(
        &self,
        model: &str,
        version: &str,
        files: &[(&str, &Bytes, &Bytes)],
    ) -> Target {
        let description = Bytes::from_static(b"flavors: {}\n");
        let has_model = files.iter().any(|(path, _, _)| *path == "model.onnx");
        let mut logged_files = Vec::new();
        for (path, logged, stored) in files.iter().chain(&[("MLmodel", &description, &description)]) {
            let blob_key = format!("{}/{model}/{version}/{path}", self.folder);
            self.store.put_bytes(&blob_key, (*stored).clone()).await.expect("S3 takes it");
            logged_files.push(File {
                path: (*path).into(),
                size_bytes: logged.len() as u64,
                sha256: hex::encode(Sha256::digest(logged)),
                blob_key,
            });
        }
        let digests: Vec<FileDigest> = logged_files
            .iter()
            .map(|file| FileDigest {
                path: file.path.clone(),
                sha256: file.sha256.clone(),
                size_bytes: file.size_bytes,
            })
            .collect();
        let digest = manifest_digest(&digests);
        self.registry.add(ModelVersion {
            model: model.into(),
            version: version.into(),
            digest: digest.clone(),
            status: "READY".into(),
            servable: true,
            onnx_path: if has_model { "model.onnx".into() } else { String::new() },
            files: logged_files,
            ..ModelVersion::default()
        });
        Target { version: version.into(), digest }
    }

    /// Writes a traffic table, as the rollout controller does.
    pub(crate) async fn put(&self, table: &TrafficTable) {
        table.validate().expect("the controller writes valid tables only");
        let store = self.bus.bucket(TRAFFIC_BUCKET).await.expect("the bucket is there");
        let json = serde_json::to_vec(table).expect("it is JSON");
        store.put(table.deployment.as_str(), json.into()).await.expect("NATS takes it");
    }

    /// Waits for a status of a replica about the deployment.
    pub(crate) async fn status(
        &self,
        what: &str,
        wanted: impl Fn(&DeploymentStatus) -> bool,
    ) -> DeploymentStatus {
        self.status_of(DEPLOYMENT, what, wanted).await
    }

    /// Every status that a replica has written lately.
    pub(crate) async fn statuses(&self) -> Vec<ReplicaStatus> {
        let mut statuses = Vec::new();
        let Ok(store) = self.bus.bucket(REPLICAS_BUCKET).await else { return statuses };
        let Ok(mut keys) = store.keys().await else { return statuses };
        while let Some(Ok(key)) = keys.next().await {
            // A status of one deployment, for earlier releases.
            if key.contains('.') {
                continue;
            }
            if let Ok(Some(entry)) = store.get(key).await {
                statuses.push(serde_json::from_slice(&entry).expect("a status"));
            }
        }
        statuses
    }

    async fn placed(&self, deployment: &str) -> Option<Placed> {
        let store = self.bus.bucket(TRAFFIC_BUCKET).await.ok()?;
        let created_ms = store.stream.cached_info().created.unix_timestamp_nanos() / 1_000_000;
        let entry = store.entry(deployment).await.ok()??;
        let table = serde_json::from_slice(&entry.value).ok()?;
        let bucket_created_unix_ms = u64::try_from(created_ms).ok()?;
        Some(Placed { bucket_created_unix_ms, revision: entry.revision, table })
    }

    /// The same, about any deployment.
    pub(crate) async fn status_of(
        &self,
        deployment: &str,
        what: &str,
        wanted: impl Fn(&DeploymentStatus) -> bool,
    ) -> DeploymentStatus {
        let wanted = &wanted;
        let found = eventually(what, || async move {
            let placed = self.placed(deployment).await?;
            let statuses = self.statuses().await;
            statuses.iter().filter_map(|status| DeploymentStatus::of(status, &placed)).find(wanted)
        });
        Box::pin(found).await
    }

    /// Waits until a replica routes by a revision and every version of it is ready.
    pub(crate) async fn routed(&self, revision: u64) {
        let all_ready = |status: &DeploymentStatus| {
            status.table_revision == revision
                && status.versions.iter().all(|version| version.state == VersionState::Ready)
        };
        self.status(&format!("routing by revision {revision}"), all_ready).await;
    }

    /// Waits until a replica says that a version failed.
    pub(crate) async fn failed(&self, version: &str) -> String {
        let failed = |known: &&VersionStatus| known.version == version && known.state == VersionState::Failed;
        let what = format!("version {version} failed");
        let status = self.status(&what, |status| status.versions.iter().any(|known| failed(&known))).await;
        let known = status.versions.iter().find(failed).expect("just found");
        known.reason.clone().expect("a failure has a reason")
    }

    /// Waits until the stream has records that are enough.
    pub(crate) async fn records(
        &self,
        what: &str,
        enough: impl Fn(&[PredictionRecord]) -> bool,
    ) -> Vec<PredictionRecord> {
        let enough = &enough;
        eventually(what, || async move {
            let batches = self.messages(PREDICTIONS_STREAM).await;
            let batches = batches.iter().map(|body| serde_json::from_value::<PredictionBatch>(body.clone()));
            let records: Vec<_> = batches.flat_map(|batch| batch.expect("a batch").records).collect();
            enough(&records).then_some(records)
        })
        .await
    }

    /// Everything on a stream now.
    pub(crate) async fn messages(&self, stream: &str) -> Vec<Value> {
        let Ok(mut stream) = self.bus.jetstream().get_stream(stream).await else { return Vec::new() };
        let Ok(info) = stream.info().await else { return Vec::new() };
        let (first, last) = (info.state.first_sequence, info.state.last_sequence);
        let mut bodies = Vec::new();
        for sequence in first..=last {
            let Ok(message) = stream.get_raw_message(sequence).await else { continue };
            bodies.push(serde_json::from_slice(&message.payload).expect("messages are JSON"));
        }
        bodies
    }
}
