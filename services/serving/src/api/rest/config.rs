//! The model configuration as JSON: every field that a client may look for, defaults too, enumerations by
//! name.

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use slipway_api::inference::model_config::SchedulingChoice;
use slipway_api::inference::model_ensembling::Step as EnsembleStep;
use slipway_api::inference::model_input::Format;
use slipway_api::inference::model_instance_group::Kind as InstanceKind;
use slipway_api::inference::model_version_policy::PolicyChoice;
use slipway_api::inference::{DataType, ModelConfig, ModelInput, ModelInstanceGroup, ModelOutput};

use super::extract::Model;
use crate::api::model_config;
use crate::failure::Failure;
use crate::state::ServingState;

pub(super) async fn config(State(state): State<ServingState>, model: Model) -> Result<Json<Value>, Failure> {
    let model = model.checked()?;
    let config = model_config::config(&state.routing, &model.name, model.version.as_deref())?;
    Ok(Json(shown(&config)))
}

fn shown(config: &ModelConfig) -> Value {
    let parameters: Map<String, Value> = config
        .parameters
        .iter()
        .map(|(name, value)| (name.clone(), json!({"string_value": value.string_value})))
        .collect();
    let versions = match config.version_policy.as_ref().and_then(|policy| policy.policy_choice.as_ref()) {
        Some(PolicyChoice::Specific(specific)) => specific.versions.clone(),
        None => Vec::new(),
    };
    let mut shown = json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "runtime": "",
        "version_policy": {"specific": {"versions": versions}},
        "max_batch_size": config.max_batch_size,
        "input": config.input.iter().map(input).collect::<Vec<_>>(),
        "output": config.output.iter().map(output).collect::<Vec<_>>(),
        "batch_input": [],
        "batch_output": [],
        "instance_group": config.instance_group.iter().map(instances).collect::<Vec<_>>(),
        "default_model_filename": config.default_model_filename,
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": parameters,
        "model_warmup": [],
        "model_transaction_policy": {"decoupled": false},
    });
    match &config.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(batching)) => {
            shown["dynamic_batching"] = json!({
                "preferred_batch_size": batching.preferred_batch_size,
                "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
                "preserve_ordering": false, "priority_levels": 0, "default_priority_level": 0,
                "priority_queue_policy": {},
            });
        }
        Some(SchedulingChoice::EnsembleScheduling(ensemble)) => {
            let steps = ensemble.step.iter().map(step).collect::<Vec<_>>();
            shown["ensemble_scheduling"] = json!({"step": steps});
        }
        None => {}
    }
    shown
}

fn data_type(value: i32) -> &'static str {
    DataType::try_from(value).unwrap_or_default().as_str_name()
}

fn input(input: &ModelInput) -> Value {
    let format = Format::try_from(input.format).unwrap_or_default().as_str_name();
    json!({"name": input.name, "data_type": data_type(input.data_type), "format": format,
           "dims": input.dims, "is_shape_tensor": false, "allow_ragged_batch": false,
           "optional": input.optional})
}

fn output(output: &ModelOutput) -> Value {
    json!({"name": output.name, "data_type": data_type(output.data_type), "dims": output.dims,
           "label_filename": output.label_filename, "is_shape_tensor": false})
}

fn instances(group: &ModelInstanceGroup) -> Value {
    let kind = InstanceKind::try_from(group.kind).unwrap_or_default().as_str_name();
    json!({"name": group.name, "kind": kind, "count": group.count, "gpus": group.gpus,
           "secondary_devices": [], "profile": [], "passive": false, "host_policy": ""})
}

fn step(step: &EnsembleStep) -> Value {
    json!({"model_name": step.model_name, "model_version": step.model_version, "model_namespace": "",
           "input_map": step.input_map, "output_map": step.output_map})
}
