//! The methods of `inference.GRPCInferenceService`.

use std::pin::Pin;

use futures::Stream;
use slipway_api::inference as proto;
use slipway_api::inference::grpc_inference_service_server::GrpcInferenceService;
use slipway_http_server::EndConnection;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::service::{Answered, REQUEST_ID, Service, version};
use super::{control, stream};
use crate::api::access::Need;
use crate::api::describe::{self, EXTENSIONS, SERVER_NAME};
use crate::api::{model_config, repository, statistics};

impl Service {
    /// A message whose caller may do with the model that it names; any caller, where it names none.
    fn about_model<T>(&self, request: Request<T>, name: impl Fn(&T) -> &String) -> Result<T, Status> {
        let model = name(request.get_ref());
        let need = if model.is_empty() { Need::AnyToken } else { Need::Model(model) };
        self.access.check_noted(request.extensions(), need)?;
        Ok(request.into_inner())
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(
        &self,
        _request: Request<proto::ServerLiveRequest>,
    ) -> Result<Response<proto::ServerLiveResponse>, Status> {
        Ok(Response::new(proto::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _request: Request<proto::ServerReadyRequest>,
    ) -> Result<Response<proto::ServerReadyResponse>, Status> {
        Ok(Response::new(proto::ServerReadyResponse { ready: self.readiness.missing().is_empty() }))
    }

    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Result<Response<proto::ModelReadyResponse>, Status> {
        let request = self.about_model(request, |request| &request.name)?;
        let version = version(&request.version).unwrap_or(Some(request.version));
        // An unknown model is not ready, rather than an error: so Triton answers, and clients wait for a
        // model to appear.
        let ready = describe::ready(&self.predictor.routing, &request.name, version.as_deref()).is_ok();
        Ok(Response::new(proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _request: Request<proto::ServerMetadataRequest>,
    ) -> Result<Response<proto::ServerMetadataResponse>, Status> {
        Ok(Response::new(proto::ServerMetadataResponse {
            name: SERVER_NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Result<Response<proto::ModelMetadataResponse>, Status> {
        let request = self.about_model(request, |request| &request.name)?;
        let version = version(&request.version)?;
        Ok(Response::new(describe::metadata(&self.predictor.routing, &request.name, version.as_deref())?))
    }

    async fn model_infer(
        &self,
        request: Request<proto::ModelInferRequest>,
    ) -> Result<Response<proto::ModelInferResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let Answered { response: answer, id, is_last } = self.infer(&metadata, &extensions, request).await?;
        let mut response = Response::new(answer);
        if is_last {
            response.extensions_mut().insert(EndConnection);
        }
        if let Ok(value) = MetadataValue::try_from(id) {
            response.metadata_mut().insert(REQUEST_ID, value);
        }
        Ok(response)
    }

    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<proto::ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<proto::ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let (metadata, extensions, requests) = request.into_parts();
        Ok(Response::new(Box::pin(stream::answers(self.clone(), metadata, extensions, requests))))
    }

    async fn model_config(
        &self,
        request: Request<proto::ModelConfigRequest>,
    ) -> Result<Response<proto::ModelConfigResponse>, Status> {
        let request = self.about_model(request, |request| &request.name)?;
        let version = version(&request.version)?;
        let config = model_config::config(&self.predictor.routing, &request.name, version.as_deref())?;
        Ok(Response::new(proto::ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<proto::ModelStatisticsRequest>,
    ) -> Result<Response<proto::ModelStatisticsResponse>, Status> {
        let sees = self.access.sees(request.extensions().get());
        let request = self.about_model(request, |request| &request.name)?;
        let name = Some(request.name.as_str()).filter(|name| !name.is_empty());
        let version = version(&request.version)?;
        let mut model_stats = statistics::statistics(&self.predictor.routing, name, version.as_deref())?;
        model_stats.retain(|model| sees(&model.name));
        Ok(Response::new(proto::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<proto::RepositoryIndexRequest>,
    ) -> Result<Response<proto::RepositoryIndexResponse>, Status> {
        let sees = self.access.sees(request.extensions().get());
        let request = request.into_inner();
        let mut models = repository::index(&self.predictor.routing, &request.repository_name, request.ready)?;
        models.retain(|model| sees(&model.name));
        Ok(Response::new(proto::RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<proto::RepositoryModelLoadRequest>,
    ) -> Result<Response<proto::RepositoryModelLoadResponse>, Status> {
        self.access.check_noted(request.extensions(), Need::AllModels)?;
        let request = request.into_inner();
        let overrides = request.parameters.keys().map(String::as_str);
        repository::load(&self.predictor.routing, &request.repository_name, &request.model_name, overrides)?;
        Ok(Response::new(proto::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<proto::RepositoryModelUnloadRequest>,
    ) -> Result<Response<proto::RepositoryModelUnloadResponse>, Status> {
        self.access.check_noted(request.extensions(), Need::AllModels)?;
        let request = request.into_inner();
        repository::unload(&self.predictor.routing, &request.repository_name, &request.model_name)?;
        Ok(Response::new(proto::RepositoryModelUnloadResponse {}))
    }

    async fn trace_setting(
        &self,
        request: Request<proto::TraceSettingRequest>,
    ) -> Result<Response<proto::TraceSettingResponse>, Status> {
        if !request.get_ref().settings.is_empty() {
            self.access.check_noted(request.extensions(), Need::AllModels)?;
        }
        let by = self.access.changed_by(request.extensions());
        let request = self.about_model(request, |request| &request.model_name)?;
        let model = Some(request.model_name.as_str()).filter(|model| !model.is_empty());
        if let Some(model) = model {
            self.predictor.routing.get(model)?;
        }
        Ok(Response::new(control::trace(&self.settings, model, request.settings, &by)?))
    }

    async fn log_settings(
        &self,
        request: Request<proto::LogSettingsRequest>,
    ) -> Result<Response<proto::LogSettingsResponse>, Status> {
        if !request.get_ref().settings.is_empty() {
            self.access.check_noted(request.extensions(), Need::AllModels)?;
        }
        let by = self.access.changed_by(request.extensions());
        Ok(Response::new(control::log(&self.settings, request.into_inner().settings, &by)?))
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<proto::SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<proto::SystemSharedMemoryStatusResponse>, Status> {
        control::no_region(&request.into_inner().name)?;
        Ok(Response::new(Default::default()))
    }

    async fn system_shared_memory_register(
        &self,
        _request: Request<proto::SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<proto::SystemSharedMemoryRegisterResponse>, Status> {
        Err(control::shared_memory_refused().into())
    }

    async fn system_shared_memory_unregister(
        &self,
        _request: Request<proto::SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<proto::SystemSharedMemoryUnregisterResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn cuda_shared_memory_status(
        &self,
        request: Request<proto::CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<proto::CudaSharedMemoryStatusResponse>, Status> {
        control::no_region(&request.into_inner().name)?;
        Ok(Response::new(Default::default()))
    }

    async fn cuda_shared_memory_register(
        &self,
        _request: Request<proto::CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<proto::CudaSharedMemoryRegisterResponse>, Status> {
        Err(control::shared_memory_refused().into())
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _request: Request<proto::CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<proto::CudaSharedMemoryUnregisterResponse>, Status> {
        Ok(Response::new(Default::default()))
    }
}
