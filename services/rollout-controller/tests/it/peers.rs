//! A registry that knows what the test says, and a serving replica that obeys its traffic table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use slipway_api::predictions::{LABELS_SUBJECT, PREDICTIONS_SUBJECT};
use slipway_api::proto::registry::registry_server::{Registry, RegistryServer};
use slipway_api::proto::registry::{
    GetModelVersionRequest, GetTrainingProfileRequest, ModelVersion, ResolveAliasRequest, TrainingProfile,
};
use slipway_api::traffic::{
    REPLICAS_BUCKET, ReplicaStatus, TRAFFIC_BUCKET, TrafficTable, VersionState, VersionStatus,
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

/// A serving replica without models: it says that each version of its table is ready, or what the test wants
/// of it, and publishes a record for each request that it is told of.
#[derive(Clone)]
pub(crate) struct Replica {
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
        let replica = Self { bus, broken: Arc::default(), seen: Arc::default(), hangs: Arc::default() };
        let working = replica.clone();
        tokio::spawn(async move {
            while !shutdown.is_cancelled() {
                // NATS may be unreachable, and the buckets may not be there yet.
                if !working.hangs.load(Ordering::Relaxed) {
                    let _ = working.report().await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        replica
    }

    async fn report(&self) -> anyhow::Result<()> {
        let (tables, replicas) =
            (self.bus.bucket(TRAFFIC_BUCKET).await?, self.bus.bucket(REPLICAS_BUCKET).await?);
        let Some(bytes) = tables.get("d").await? else { return Ok(()) };
        let table: TrafficTable = serde_json::from_slice(&bytes)?;
        let broken = self.broken.lock().unwrap().clone();
        let versions = table
            .targets()
            .map(|target| VersionStatus {
                version: target.version.clone(),
                digest: target.digest.clone(),
                state: if broken.contains_key(&target.version) {
                    VersionState::Failed
                } else {
                    VersionState::Ready
                },
                reason: broken.get(&target.version).cloned(),
            })
            .collect();
        let status = ReplicaStatus {
            replica_id: "r".into(),
            deployment: "d".into(),
            table_revision: table.revision,
            versions,
            at_unix_ms: now_unix_ms(),
        };
        {
            let mut seen = self.seen.lock().unwrap();
            if seen.last() != Some(&table) {
                seen.push(table);
            }
        }
        replicas.put("r.d", serde_json::to_vec(&status)?.into()).await?;
        Ok(())
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
        let status = ReplicaStatus {
            replica_id: replica.into(),
            deployment: "d".into(),
            table_revision: revision,
            versions: vec![VersionStatus {
                version: version.into(),
                digest: format!("sha256:{version}"),
                state: VersionState::Loading,
                reason: None,
            }],
            at_unix_ms: now_unix_ms(),
        };
        let replicas = self.bus.bucket(REPLICAS_BUCKET).await.unwrap();
        replicas.put(format!("{replica}.d"), serde_json::to_vec(&status).unwrap().into()).await.unwrap();
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
