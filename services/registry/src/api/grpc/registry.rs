//! gRPC: model versions and training profiles, for other services.

use slipway_api::proto::registry::registry_server::Registry as Api;
use slipway_api::proto::registry::{
    File, GetModelVersionRequest, GetTrainingProfileRequest, ModelVersion, ResolveAliasRequest, TensorSpec,
    TrainingProfile,
};
use slipway_domain::registry::validate_version;
use tonic::{Request, Response, Status};

use crate::access::caller::Caller;
use crate::error::Error;
use crate::models::versions::profile::training_profile;
use crate::models::versions::read::{Which, WithFiles, with_files};
use crate::state::Registry;
use crate::store::facts::Tensor;

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    registry: Registry,
}

impl Service {
    pub(crate) const fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

#[tonic::async_trait]
impl Api for Service {
    async fn get_model_version(
        &self,
        request: Request<GetModelVersionRequest>,
    ) -> Result<Response<ModelVersion>, Status> {
        let caller = caller(&request)?;
        let GetModelVersionRequest { model, version, for_deployment, digest } = request.into_inner();
        let which = if digest.is_empty() { Which::Number(number(&version)?) } else { Which::Digest(&digest) };
        let found = with_files(&self.registry, &caller, &model, which, &for_deployment).await?;
        Ok(Response::new(message(found)))
    }

    async fn resolve_alias(
        &self,
        request: Request<ResolveAliasRequest>,
    ) -> Result<Response<ModelVersion>, Status> {
        let caller = caller(&request)?;
        let ResolveAliasRequest { model, alias, for_deployment } = request.into_inner();
        let found =
            with_files(&self.registry, &caller, &model, Which::Alias(&alias), &for_deployment).await?;
        Ok(Response::new(message(found)))
    }

    async fn get_training_profile(
        &self,
        request: Request<GetTrainingProfileRequest>,
    ) -> Result<Response<TrainingProfile>, Status> {
        let caller = caller(&request)?;
        let GetTrainingProfileRequest { model, version } = request.into_inner();
        let number = number(&version)?;
        let (profile_json, run_id) = training_profile(&self.registry, &caller, model, number).await?;
        Ok(Response::new(TrainingProfile { profile_json, run_id }))
    }
}

/// Each method has to authorise its caller: the guard in front cannot see which model a message is about.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let found = request.extensions().get::<Caller>().cloned();
    found.ok_or_else(|| Status::unauthenticated("the caller is not authenticated"))
}

fn number(version: &str) -> Result<i32, Status> {
    Ok(validate_version(version).map_err(Error::from)?)
}

fn message(found: WithFiles) -> ModelVersion {
    let WithFiles { version: found, files, name_revision } = found;
    let facts = found.facts.0;
    ModelVersion {
        model: found.name,
        version: found.version.to_string(),
        digest: found.digest,
        run_id: found.run_id.unwrap_or_default(),
        status: found.status,
        servable: found.servable,
        unservable_reason: facts.unservable_reason.unwrap_or_default(),
        onnx_path: facts.onnx_path.unwrap_or_default(),
        inputs: facts.inputs.into_iter().map(spec).collect(),
        outputs: facts.outputs.into_iter().map(spec).collect(),
        files: files
            .into_iter()
            .map(|file| File {
                path: file.path,
                size_bytes: file.size_bytes.unsigned_abs(),
                sha256: file.sha256,
                blob_key: file.blob_key,
            })
            .collect(),
        signature_json: facts.signature.unwrap_or_default(),
        tags: found.tags.0.into_iter().collect(),
        aliases: found.aliases,
        created_at_unix_ms: found.created_ms,
        model_id: found.model_key.to_string(),
        model_name_revision: name_revision,
    }
}

fn spec(tensor: Tensor) -> TensorSpec {
    TensorSpec { name: tensor.name, datatype: tensor.datatype, shape: tensor.shape }
}
