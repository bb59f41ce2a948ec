//! A registry that answers what a test tells it, over the real protocol.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use slipway_api::proto::registry::registry_server::{Registry as Protocol, RegistryServer};
use slipway_api::proto::registry::{
    GetModelVersionRequest, GetTrainingProfileRequest, ModelVersion, ResolveAliasRequest, TrainingProfile,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

type Versions = Arc<Mutex<HashMap<(String, String), ModelVersion>>>;

/// The registry's gRPC on a port of its own.
pub(crate) struct Registry {
    versions: Versions,
    address: SocketAddr,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let registry = Self { versions: Versions::default(), address, server: Mutex::default() };
        registry.serve(listener);
        registry
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn add(&self, version: ModelVersion) {
        let key = (version.model.clone(), version.version.clone());
        self.versions.lock().expect("nobody panics with it").insert(key, version);
    }

    /// Deletes a version.
    pub(crate) fn remove(&self, model: &str, version: &str) -> ModelVersion {
        let key = (model.to_owned(), version.to_owned());
        self.versions.lock().expect("nobody panics with it").remove(&key).expect("it was there")
    }

    /// Ends it. Connections that are open go on, so it is unreachable for processes that start later.
    pub(crate) fn stop(&self) {
        if let Some(server) = self.server.lock().expect("nobody panics with it").take() {
            server.abort();
        }
    }

    pub(crate) async fn start_again(&self) {
        self.serve(TcpListener::bind(self.address).await.expect("its port is still free"));
    }

    fn serve(&self, listener: TcpListener) {
        let service = RegistryServer::new(Answers(Arc::clone(&self.versions)));
        let server = tonic::transport::Server::builder().add_service(service);
        let task = tokio::spawn(async move {
            let _ = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        *self.server.lock().expect("nobody panics with it") = Some(task);
    }
}

struct Answers(Versions);

#[tonic::async_trait]
impl Protocol for Answers {
    async fn get_model_version(
        &self,
        request: Request<GetModelVersionRequest>,
    ) -> Result<Response<ModelVersion>, Status> {
        let request = request.into_inner();
        let key = (request.model, request.version);
        let versions = self.0.lock().expect("nobody panics with it");
        let known = versions.get(&key).cloned();
        known
            .map(Response::new)
            .ok_or_else(|| Status::not_found(format!("there is no version {} of {}", key.1, key.0)))
    }

    async fn resolve_alias(
        &self,
        _request: Request<ResolveAliasRequest>,
    ) -> Result<Response<ModelVersion>, Status> {
        Err(Status::unimplemented("serving does not ask this"))
    }

    async fn get_training_profile(
        &self,
        _request: Request<GetTrainingProfileRequest>,
    ) -> Result<Response<TrainingProfile>, Status> {
        Err(Status::unimplemented("serving does not ask this"))
    }
}
