//! What is served, as metadata; one truth for REST and gRPC.

use slipway_api::inference::ModelMetadataResponse;
use slipway_api::inference::model_metadata_response::TensorMetadata;
use slipway_inference::TensorSpec;

use super::platform::Platform;
use crate::failure::Failure;
use crate::models::routing::{Pick, Route, Routing};

/// Name of the server in its metadata.
pub(crate) const SERVER_NAME: &str = "slipway";
/// Protocol extensions that are served.
pub(crate) const EXTENSIONS: [&str; 8] = [
    "binary_tensor_data",
    "classification",
    "parameters",
    "model_configuration",
    "model_repository",
    "statistics",
    "trace",
    "logging",
];

/// Metadata of a deployment, or of one of its versions.
///
/// # Errors
/// Unknown, or not ready.
pub(crate) fn metadata(
    routing: &Routing,
    name: &str,
    version: Option<&str>,
) -> Result<ModelMetadataResponse, Failure> {
    let route = routing.get(name)?;
    let pick = pick(&route, version)?;
    let specs = |specs: &[TensorSpec]| -> Vec<TensorMetadata> {
        let one = |spec: &TensorSpec| TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.datatype.name().to_owned(),
            shape: spec.shape.clone(),
        };
        specs.iter().map(one).collect()
    };
    let versions = match version {
        Some(version) => vec![version.to_owned()],
        None => route.ready_versions().into_iter().map(str::to_owned).collect(),
    };
    let signature = &pick.described.signature;
    Ok(ModelMetadataResponse {
        name: name.to_owned(),
        versions,
        platform: Platform::of(&pick.described).name.to_owned(),
        // Which of them may be left out, only the configuration has a place for.
        inputs: [specs(&signature.inputs), specs(&signature.optional)].concat(),
        outputs: specs(&signature.outputs),
    })
}

/// Whether the deployment, or the version of it, answers now.
///
/// # Errors
/// Unknown, or not ready and why.
pub(crate) fn ready(routing: &Routing, name: &str, version: Option<&str>) -> Result<(), Failure> {
    let route = routing.get(name)?;
    route.answers()?;
    let pick = pick(&route, version)?;
    route.loads_again(&pick.source.version)
}

/// The version that a client names; the one that stands for the deployment, where it names none.
///
/// # Errors
/// Unknown, or not ready.
pub(super) fn pick(route: &Route, version: Option<&str>) -> Result<Pick, Failure> {
    version.map_or_else(|| route.representative(), |version| route.pinned(version))
}
