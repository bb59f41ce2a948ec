//! The registry, the rollout controller and the launcher, answering what a test tells them, over the real
//! protocols.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use slipway_api::proto::launcher::launcher_server::{Launcher, LauncherServer};
use slipway_api::proto::launcher::{
    CancelJobRequest, GetJobRequest, Job, ListJobsRequest, ListJobsResponse, ResumeJobRequest,
    SubmitJobRequest, SuspendJobRequest,
};
use slipway_api::proto::registry::registry_server::{Registry, RegistryServer};
use slipway_api::proto::registry::{
    GetModelVersionRequest, GetTrainingProfileRequest, ModelVersion, ResolveAliasRequest, TensorSpec,
    TrainingProfile,
};
use slipway_api::proto::rollout::rollout_controller_server::{RolloutController, RolloutControllerServer};
use slipway_api::proto::rollout::{
    Deployment, Drill, GetDeploymentRequest, GetDrillRequest, GetRolloutRequest, PauseDeploymentRequest,
    PauseDeploymentResponse, RollbackRequest, Rollout, StartDrillRequest, StartRolloutRequest,
    StopDrillRequest,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::data::{DEPLOYMENT, DEPLOYMENT_ID, MODEL};

/// What the services know, and what was asked of them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Profiles by version.
    pub(crate) profiles: HashMap<String, Value>,
    pub(crate) deployments: HashMap<String, Deployment>,
    /// Inputs of every version; unknown where there are none.
    pub(crate) inputs: Vec<TensorSpec>,
    /// The model's name, where it was renamed.
    pub(crate) model_name: Option<String>,
    /// Jobs by idempotency key, as the launcher keeps them.
    pub(crate) jobs: HashMap<String, Job>,
    /// Every submission, repeated ones too.
    pub(crate) submissions: Vec<SubmitJobRequest>,
    pub(crate) pauses: Vec<PauseDeploymentRequest>,
    /// Answered to every request for a profile.
    pub(crate) profile_refusal: Option<Status>,
    /// Answered to every submission.
    pub(crate) refusal: Option<Status>,
}

/// The services on ports of their own; the launcher is unreachable until it is started.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    known: Arc<Mutex<Known>>,
    answers: SocketAddr,
    launcher: SocketAddr,
}

impl Peers {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (answers, launcher) = (listener.local_addr().unwrap(), free_address());
        let peers = Self { known: Arc::default(), answers, launcher };
        let server = Server::builder()
            .add_service(RegistryServer::new(peers.clone()))
            .add_service(RolloutControllerServer::new(peers.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        peers
    }

    pub(crate) async fn start_launcher(&self) {
        let listener = TcpListener::bind(self.launcher).await.unwrap();
        let server = Server::builder().add_service(LauncherServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.answers)
    }

    pub(crate) fn launcher_url(&self) -> String {
        format!("http://{}", self.launcher)
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// The deployment's stable version is now this one.
    pub(crate) fn deploy(&self, version: &str) {
        self.deploy_as(DEPLOYMENT, version);
    }

    /// The same, of a deployment of another name.
    pub(crate) fn deploy_as(&self, name: &str, version: &str) {
        let renamed = self.known().model_name.clone();
        let deployment = Deployment {
            name: name.into(),
            model: renamed.unwrap_or_else(|| MODEL.into()),
            stable_version: version.into(),
            id: DEPLOYMENT_ID.into(),
            ..Deployment::default()
        };
        self.known().deployments.insert(name.into(), deployment);
    }
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], slipway_testkit::free_port().unwrap()))
}

fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the drift monitor does not ask this"))
}

#[tonic::async_trait]
impl Registry for Peers {
    async fn get_training_profile(
        &self,
        request: Request<GetTrainingProfileRequest>,
    ) -> Result<Response<TrainingProfile>, Status> {
        if let Some(refusal) = self.known().profile_refusal.clone() {
            return Err(refusal);
        }
        let version = request.into_inner().version;
        let profile = self.known().profiles.get(&version).map(Value::to_string);
        let profile = profile.ok_or_else(|| Status::not_found("its run logged none"))?;
        Ok(Response::new(TrainingProfile { profile_json: profile.into_bytes(), run_id: "run".into() }))
    }

    async fn get_model_version(
        &self,
        request: Request<GetModelVersionRequest>,
    ) -> Result<Response<ModelVersion>, Status> {
        let GetModelVersionRequest { model, version, .. } = request.into_inner();
        let inputs = self.known().inputs.clone();
        let model = self.known().model_name.clone().unwrap_or(model);
        Ok(Response::new(ModelVersion { model, version, inputs, ..ModelVersion::default() }))
    }

    async fn resolve_alias(&self, _: Request<ResolveAliasRequest>) -> Result<Response<ModelVersion>, Status> {
        not_asked()
    }
}

#[tonic::async_trait]
impl RolloutController for Peers {
    async fn get_deployment(
        &self,
        request: Request<GetDeploymentRequest>,
    ) -> Result<Response<Deployment>, Status> {
        let name = request.into_inner().name;
        let found = self.known().deployments.get(&name).cloned();
        found.map(Response::new).ok_or_else(|| Status::not_found(format!("there is no deployment `{name}`")))
    }

    async fn pause_deployment(
        &self,
        request: Request<PauseDeploymentRequest>,
    ) -> Result<Response<PauseDeploymentResponse>, Status> {
        self.known().pauses.push(request.into_inner());
        let rollout = Rollout { id: "rollout-1".into(), phase: "paused".into(), ..Rollout::default() };
        Ok(Response::new(PauseDeploymentResponse { rollout: Some(rollout) }))
    }

    async fn start_rollout(&self, _: Request<StartRolloutRequest>) -> Result<Response<Rollout>, Status> {
        not_asked()
    }

    async fn get_rollout(&self, _: Request<GetRolloutRequest>) -> Result<Response<Rollout>, Status> {
        not_asked()
    }

    async fn rollback(&self, _: Request<RollbackRequest>) -> Result<Response<Deployment>, Status> {
        not_asked()
    }

    async fn start_drill(&self, _: Request<StartDrillRequest>) -> Result<Response<Drill>, Status> {
        not_asked()
    }

    async fn get_drill(&self, _: Request<GetDrillRequest>) -> Result<Response<Drill>, Status> {
        not_asked()
    }

    async fn stop_drill(&self, _: Request<StopDrillRequest>) -> Result<Response<Drill>, Status> {
        not_asked()
    }
}

#[tonic::async_trait]
impl Launcher for Peers {
    async fn submit_job(&self, request: Request<SubmitJobRequest>) -> Result<Response<Job>, Status> {
        let request = request.into_inner();
        let mut known = self.known();
        known.submissions.push(request.clone());
        if let Some(refusal) = &known.refusal {
            return Err(refusal.clone());
        }
        let id = format!("job-{}", known.jobs.len() + 1);
        let job = known.jobs.entry(request.idempotency_key).or_insert_with(|| Job {
            id,
            status: "queued".into(),
            spec_json: request.spec_json,
            ..Job::default()
        });
        Ok(Response::new(job.clone()))
    }

    async fn get_job(&self, _: Request<GetJobRequest>) -> Result<Response<Job>, Status> {
        not_asked()
    }

    async fn list_jobs(&self, _: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        not_asked()
    }

    async fn suspend_job(&self, _: Request<SuspendJobRequest>) -> Result<Response<Job>, Status> {
        Err(Status::unimplemented("not used"))
    }

    async fn resume_job(&self, _: Request<ResumeJobRequest>) -> Result<Response<Job>, Status> {
        Err(Status::unimplemented("not used"))
    }

    async fn cancel_job(&self, _: Request<CancelJobRequest>) -> Result<Response<Job>, Status> {
        not_asked()
    }
}
