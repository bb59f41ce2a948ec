//! A registry that knows what the test says, and a serving replica that obeys its traffic table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::{Entry, Operation};
use serde_json::json;
use slipway_api::predictions::{LABELS_SUBJECT, PREDICTIONS_SUBJECT};
use slipway_api::proto::registry::registry_server::{Registry, RegistryServer};
use slipway_api::proto::registry::{
    GetModelVersionRequest, GetTrainingProfileRequest, ModelVersion, ResolveAliasRequest, TrainingProfile,
};
use slipway_api::traffic::{
    REPLICAS_BUCKET, ReplicaStatus, TRAFFIC_BUCKET, TablesPosition, TablesState, Target, TrafficTable,
    UnsettledDeployment, VersionState, VersionStatus,
};
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Versions 1 to 5 of the model `m`, of which version 5 holds no ONNX model, and its alias `champion`.
#[derive(Clone)]
pub(crate) struct Versions {
    champion: Arc<Mutex<String>>,
    /// Names that the model has had, the present one last.
    names: Arc<Mutex<Vec<String>>>,
    /// Versions that were asked for on behalf of a deployment.
    held: Arc<Mutex<Vec<(String, String)>>>,
}

/// Identity of the model, whatever its name.
pub(crate) const MODEL_ID: &str = "7";

impl Versions {
    /// Points the alias `champion` elsewhere; it points at version 1 first.
    pub(crate) fn point_champion_at(&self, version: &str) {
        version.clone_into(&mut self.champion.lock().unwrap());
    }

    /// Gives the model another name; the old one is understood, as the registry does.
    pub(crate) fn rename(&self, to: &str) {
        self.names.lock().unwrap().push(to.to_owned());
    }

    /// The model's name now.
    pub(crate) fn name(&self) -> String {
        self.names.lock().unwrap().last().cloned().unwrap()
    }

    /// Deployment and version of each request that holds a version.
    pub(crate) fn held(&self) -> Vec<(String, String)> {
        self.held.lock().unwrap().clone()
    }

    fn champion(&self) -> String {
        self.champion.lock().unwrap().clone()
    }

    fn version(&self, model: &str, version: &str) -> Result<ModelVersion, Status> {
        let names = self.names.lock().unwrap().clone();
        if !names.iter().any(|name| name == model) || !matches!(version, "1" | "2" | "3" | "4" | "5") {
            return Err(Status::not_found(format!("there is no version {version} of {model}")));
        }
        let servable = version != "5";
        let reason = if servable { "" } else { "it holds no ONNX model" };
        Ok(ModelVersion {
            model: self.name(),
            model_id: MODEL_ID.to_owned(),
            model_name_revision: u32::try_from(names.len() - 1).unwrap(),
            version: version.to_owned(),
            digest: format!("sha256:{version}"),
            servable,
            unservable_reason: reason.to_owned(),
            aliases: (version == self.champion()).then(|| "champion".to_owned()).into_iter().collect(),
            ..ModelVersion::default()
        })
    }
}

#[tonic::async_trait]
impl Registry for Versions {
    async fn get_model_version(
        &self,
        request: Request<GetModelVersionRequest>,
    ) -> Result<Response<ModelVersion>, Status> {
        let request = request.into_inner();
        if !request.for_deployment.is_empty() {
            self.held.lock().unwrap().push((request.for_deployment, request.version.clone()));
        }
        self.version(&request.model, &request.version).map(Response::new)
    }

    async fn resolve_alias(
        &self,
        request: Request<ResolveAliasRequest>,
    ) -> Result<Response<ModelVersion>, Status> {
        self.version(&request.into_inner().model, &self.champion()).map(Response::new)
    }

    async fn get_training_profile(
        &self,
        _request: Request<GetTrainingProfileRequest>,
    ) -> Result<Response<TrainingProfile>, Status> {
        Err(Status::not_found("nobody logged one"))
    }
}

/// Starts the registry; what it knows, and its address.
pub(crate) async fn registry() -> (Versions, String) {
    let versions = Versions {
        champion: Arc::new(Mutex::new("1".to_owned())),
        names: Arc::new(Mutex::new(vec!["m".to_owned()])),
        held: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(RegistryServer::new(versions.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (versions, url)
}

fn version_status(target: &Target, broken: &BTreeMap<String, String>) -> VersionStatus {
    let reason = broken.get(&target.version).cloned();
    let state = if reason.is_some() { VersionState::Failed } else { VersionState::Ready };
    VersionStatus { version: target.version.clone(), digest: target.digest.clone(), state, reason }
}

/// A serving replica without models: it says that each version of its table is ready, or what the test wants
/// of it, and publishes a record for each request that it is told of.
#[derive(Clone)]
pub(crate) struct Replica {
    id: String,
    bus: EventBus,
    /// Versions that do not load, with the reason.
    broken: Arc<Mutex<BTreeMap<String, String>>>,
    /// Every table that it has seen.
    seen: Arc<Mutex<Vec<TrafficTable>>>,
    /// It hangs: it neither follows tables nor reports.
    hangs: Arc<AtomicBool>,
}

impl Replica {
    pub(crate) fn start(bus: EventBus, shutdown: CancellationToken) -> Self {
        Self::start_as("r", bus, shutdown)
    }

    /// One with another name.
    pub(crate) fn start_as(id: &str, bus: EventBus, shutdown: CancellationToken) -> Self {
        let replica = Self {
            id: id.to_owned(),
            bus,
            broken: Arc::default(),
            seen: Arc::default(),
            hangs: Arc::default(),
        };
        let working = replica.clone();
        tokio::spawn(async move {
            while !shutdown.is_cancelled() {
                // NATS may be unreachable, and the buckets may not be there yet.
                let _ = working.follow(&shutdown).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        replica
    }

    /// Follows the tables and reports, until the connection is lost or it hangs.
    async fn follow(&self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        if self.hangs.load(Ordering::Relaxed) {
            return Ok(());
        }
        let replicas = self.bus.bucket(REPLICAS_BUCKET).await?;
        let (all, mut followed) = self.bus.follow_bucket(TRAFFIC_BUCKET).await?;
        let mut tables = BTreeMap::new();
        for entry in all {
            self.take(&mut tables, &entry);
        }
        let (mut told, mut at) = (None, Instant::now());
        while !shutdown.is_cancelled() && !self.hangs.load(Ordering::Relaxed) {
            let position = TablesPosition {
                bucket_created_unix_ms: followed.created_unix_ms(),
                revision: followed.revision(),
            };
            let status = (position, self.unsettled(&tables));
            if told.as_ref() != Some(&status) || at.elapsed() > Duration::from_millis(500) {
                let json = serde_json::to_vec(&self.status(status.0, status.1.clone()))?;
                replicas.put(&self.id, json.into()).await?;
                (told, at) = (Some(status), Instant::now());
            }
            tokio::select! {
                entry = followed.next() => match entry? {
                    Some(entry) => self.take(&mut tables, &entry),
                    None => return Ok(()),
                },
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
        Ok(())
    }

    fn take(&self, tables: &mut BTreeMap<String, TrafficTable>, entry: &Entry) {
        if entry.operation != Operation::Put {
            tables.remove(&entry.key);
            return;
        }
        let Ok(table) = serde_json::from_slice::<TrafficTable>(&entry.value) else { return };
        if entry.key == "d" {
            let mut seen = self.seen.lock().unwrap();
            if seen.last() != Some(&table) {
                seen.push(table.clone());
            }
        }
        tables.insert(entry.key.clone(), table);
    }

    /// Deployments with versions that are broken.
    fn unsettled(&self, tables: &BTreeMap<String, TrafficTable>) -> Vec<UnsettledDeployment> {
        let broken = self.broken.lock().unwrap().clone();
        let is_broken =
            |table: &&TrafficTable| table.targets().any(|target| broken.contains_key(&target.version));
        let unsettled = |table: &TrafficTable| UnsettledDeployment {
            deployment: table.deployment.clone(),
            table_revision: table.revision,
            versions: table.targets().map(|target| version_status(target, &broken)).collect(),
            refused: None,
        };
        tables.values().filter(is_broken).map(unsettled).collect()
    }

    fn status(&self, position: TablesPosition, unsettled: Vec<UnsettledDeployment>) -> ReplicaStatus {
        ReplicaStatus {
            replica_id: self.id.clone(),
            position: Some(position),
            tables: TablesState::Current,
            unsettled,
            at_unix_ms: now_unix_ms(),
            ..ReplicaStatus::default()
        }
    }

    pub(crate) fn breaks(&self, version: &str, reason: &str) {
        self.broken.lock().unwrap().insert(version.to_owned(), reason.to_owned());
    }

    /// Stops following and reporting, or starts again.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }

    /// Another replica reports that it is loading this version, and nothing more after that.
    pub(crate) async fn another_loads(&self, replica: &str, version: &str, revision: u64) {
        let versions = vec![VersionStatus {
            version: version.into(),
            digest: format!("sha256:{version}"),
            state: VersionState::Loading,
            reason: None,
        }];
        let unsettled =
            UnsettledDeployment { deployment: "d".into(), table_revision: revision, versions, refused: None };
        let (_, tables) = self.bus.follow_bucket(TRAFFIC_BUCKET).await.unwrap();
        let position =
            TablesPosition { bucket_created_unix_ms: tables.created_unix_ms(), revision: tables.revision() };
        let other = Self { id: replica.to_owned(), ..self.clone() };
        let status = other.status(position, vec![unsettled]);
        let replicas = self.bus.bucket(REPLICAS_BUCKET).await.unwrap();
        replicas.put(replica, serde_json::to_vec(&status).unwrap().into()).await.unwrap();
    }

    /// Publishes one record for each of these predictions of a version, without labels. `null` is NaN.
    pub(crate) async fn predicts(&self, version: &str, variant: &str, predictions: &[serde_json::Value]) {
        let start = now_unix_ms();
        let record = |(number, prediction): (usize, &serde_json::Value)| {
            json!({"request_id": format!("{version}-{variant}-{start}-{number}"), "deployment": "d",
                "model": "m",
                "version": version, "variant": variant, "at_unix_ms": now_unix_ms(), "latency_us": 300,
                    "rows": 1,
                "inputs": [], "non_finite_outputs": u64::from(prediction.is_null()),
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [prediction]}]})
        };
        let records: Vec<_> = predictions.iter().enumerate().map(record).collect();
        self.publish(PREDICTIONS_SUBJECT, &json!({"replica_id": "r", "records": records})).await;
    }

    /// The tables seen so far, oldest first.
    pub(crate) fn tables(&self) -> Vec<TrafficTable> {
        self.seen.lock().unwrap().clone()
    }

    /// Publishes records of `requests` answers by a version, with labels of which the share `right` agrees.
    pub(crate) async fn answers(
        &self,
        version: &str,
        variant: &str,
        requests: usize,
        right: f64,
        failed: bool,
    ) {
        let start = now_unix_ms();
        let id = |number: usize| format!("{version}-{variant}-{start}-{number}");
        let record = |number: usize| {
            let outputs = json!([{"name": "label", "datatype": "INT64", "shape": [1], "data": [1]}]);
            json!({"request_id": id(number), "deployment": "d", "model": "m", "version": version,
                "variant": variant,
                "at_unix_ms": now_unix_ms(), "latency_us": 300, "rows": 1, "inputs": [],
                "outputs": if failed { json!([]) } else { outputs }, "error": failed.then_some("it broke")})
        };
        let records: Vec<_> = (0..requests).map(record).collect();
        self.publish(PREDICTIONS_SUBJECT, &json!({"replica_id": "r", "records": records})).await;
        for number in 0..requests {
            // Spread evenly: the share is the same however many of them a decision has seen.
            let label = i64::from(((number + 1) as f64 * right).floor() > (number as f64 * right).floor());
            let body =
                json!({"request_id": id(number), "deployment": "d", "labels": [label], "at_unix_ms": start});
            self.publish(LABELS_SUBJECT, &body).await;
        }
    }

    async fn publish(&self, subject: &'static str, body: &serde_json::Value) {
        let sent = self.bus.jetstream().publish(subject, body.to_string().into()).await.unwrap();
        sent.await.unwrap();
    }
}
