//! The model configuration as JSON: every field that a client may look for, defaults too, enumerations by
//! name.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use slipway_api::inference::model_config::SchedulingChoice;
use slipway_api::inference::model_ensembling::Step;
use slipway_api::inference::model_input::Format;
use slipway_api::inference::model_instance_group::Kind as InstanceKind;
use slipway_api::inference::model_version_policy::PolicyChoice;
use slipway_api::inference::{self, DataType, ModelInput, ModelInstanceGroup, ModelOutput};
use slipway_api::rest::serving::{
    DynamicBatching, EmptyObject, EnsembleScheduling, EnsembleStep, InstanceGroup, ModelConfig,
    ModelConfigInput, ModelConfigOutput, ModelParameter, SpecificVersions, TransactionPolicy, VersionPolicy,
};
use slipway_openapi::{DocumentedRouter, routes};

use super::VERSIONED;
use super::extract::Model;
use crate::api::model_config;
use crate::failure::Failure;
use crate::state::ServingState;

pub(super) fn router() -> DocumentedRouter<ServingState> {
    let router = DocumentedRouter::new().routes(routes!(config));
    router.also("/v2/models/{name}/config", &format!("{VERSIONED}/config"), get(config))
}

/// Shows the configuration of a model.
#[utoipa::path(get, path = "/v2/models/{name}/config", tag = "models", params(("name" = String, Path,
    description = "Deployment")),
    responses((status = 200, body = ModelConfig)))]
async fn config(State(state): State<ServingState>, model: Model) -> Result<Json<ModelConfig>, Failure> {
    let model = model.checked()?;
    let config = model_config::config(&state.routing, &model.name, model.version.as_deref())?;
    Ok(Json(shown(config)))
}

fn shown(config: inference::ModelConfig) -> ModelConfig {
    let versions = match config.version_policy.and_then(|policy| policy.policy_choice) {
        Some(PolicyChoice::Specific(specific)) => specific.versions,
        None => Vec::new(),
    };
    let parameters = config.parameters.into_iter();
    let parameters =
        parameters.map(|(name, value)| (name, ModelParameter { string_value: value.string_value })).collect();
    let (dynamic_batching, ensemble_scheduling) = match config.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(batching)) => (Some(batched(batching)), None),
        Some(SchedulingChoice::EnsembleScheduling(ensemble)) => {
            (None, Some(EnsembleScheduling { step: ensemble.step.into_iter().map(step).collect() }))
        }
        None => (None, None),
    };
    ModelConfig {
        name: config.name,
        platform: config.platform,
        backend: config.backend,
        runtime: String::new(),
        version_policy: VersionPolicy { specific: SpecificVersions { versions } },
        max_batch_size: config.max_batch_size,
        input: config.input.into_iter().map(input).collect(),
        output: config.output.into_iter().map(output).collect(),
        batch_input: Vec::new(),
        batch_output: Vec::new(),
        instance_group: config.instance_group.into_iter().map(instances).collect(),
        default_model_filename: config.default_model_filename,
        cc_model_filenames: EmptyObject {},
        metric_tags: EmptyObject {},
        parameters,
        model_warmup: Vec::new(),
        model_transaction_policy: TransactionPolicy { decoupled: false },
        dynamic_batching,
        ensemble_scheduling,
    }
}

fn batched(batching: inference::ModelDynamicBatching) -> DynamicBatching {
    DynamicBatching {
        preferred_batch_size: batching.preferred_batch_size,
        max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
        preserve_ordering: false,
        priority_levels: 0,
        default_priority_level: 0,
        priority_queue_policy: EmptyObject {},
    }
}

fn data_type(value: i32) -> String {
    DataType::try_from(value).unwrap_or_default().as_str_name().to_owned()
}

fn input(input: ModelInput) -> ModelConfigInput {
    ModelConfigInput {
        name: input.name,
        data_type: data_type(input.data_type),
        format: Format::try_from(input.format).unwrap_or_default().as_str_name().to_owned(),
        dims: input.dims,
        is_shape_tensor: false,
        allow_ragged_batch: false,
        optional: input.optional,
    }
}

fn output(output: ModelOutput) -> ModelConfigOutput {
    ModelConfigOutput {
        name: output.name,
        data_type: data_type(output.data_type),
        dims: output.dims,
        label_filename: output.label_filename,
        is_shape_tensor: false,
    }
}

fn instances(group: ModelInstanceGroup) -> InstanceGroup {
    InstanceGroup {
        name: group.name,
        kind: InstanceKind::try_from(group.kind).unwrap_or_default().as_str_name().to_owned(),
        count: group.count,
        gpus: group.gpus,
        secondary_devices: Vec::new(),
        profile: Vec::new(),
        passive: false,
        host_policy: String::new(),
    }
}

fn step(step: Step) -> EnsembleStep {
    EnsembleStep {
        model_name: step.model_name,
        model_version: step.model_version,
        model_namespace: String::new(),
        input_map: step.input_map.into_iter().collect(),
        output_map: step.output_map.into_iter().collect(),
    }
}
