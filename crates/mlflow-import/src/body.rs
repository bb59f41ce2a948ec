//! From what the old server answers to what the registry is asked: pure mappings.

use serde_json::{Value, json};

use crate::json::{integer, key_value, list, object, pair, text};
use crate::mark::{self, copied_tags};

const RUN_NAME_TAG: &str = "mlflow.runName";
const NO_STAGE: &str = "None";
/// Fields of a run whose change means that it has to be copied again.
const RUN_STATE: [&str; 9] = [
    "/info/run_name",
    "/info/status",
    "/info/end_time",
    "/info/lifecycle_stage",
    "/data/params",
    "/data/metrics",
    "/inputs/dataset_inputs",
    "/inputs/model_inputs",
    "/outputs/model_outputs",
];
const LOGGED_MODEL_STATE: [&str; 3] = ["/info/status", "/data/params", "/data/metrics"];
const VERSION_STATE: [&str; 6] =
    ["/creation_timestamp", "/source", "/run_id", "/run_link", "/description", "/current_stage"];

/// What of the source's run is written on top of its own tags when it begins.
pub(crate) fn run_create(run: &Value, experiment_id: &str, address: &str) -> Value {
    let run_id = text(run, "/info/run_id");
    let mut tags = run_tags(run);
    tags.push(mark::source(address, run_id));
    object([
        ("run_id", Some(run_id.into())),
        ("experiment_id", Some(experiment_id.into())),
        ("user_id", some_text(run, "/info/user_id")),
        ("run_name", run_name(run).map(Value::from)),
        ("start_time", integer(run, "/info/start_time").map(Value::from)),
        ("tags", Some(tags.into())),
    ])
}

/// Name and tag of that name are one in the registry, and the name is what people see.
pub(crate) fn run_tags(run: &Value) -> Vec<Value> {
    let mut tags = copied_tags(run, "/data/tags");
    if let Some(name) = run_name(run) {
        tags.retain(|tag| text(tag, "/key") != RUN_NAME_TAG);
        tags.push(key_value(RUN_NAME_TAG, name));
    }
    tags
}

/// Servers before MLflow 2 had the name in its tag alone.
fn run_name(run: &Value) -> Option<&str> {
    let name = Some(text(run, "/info/run_name")).filter(|name| !name.is_empty());
    name.or_else(|| pair(list(run, "/data/tags"), RUN_NAME_TAG)).filter(|name| !name.is_empty())
}

/// Status and end; the registry begins every run as RUNNING.
pub(crate) fn run_update(run: &Value) -> Value {
    object([
        ("run_id", some_text(run, "/info/run_id")),
        ("status", some_text(run, "/info/status")),
        ("end_time", integer(run, "/info/end_time").map(Value::from)),
    ])
}

/// Whether the run is deleted at the source.
pub(crate) fn is_deleted(message: &Value, pointer: &str) -> bool {
    text(message, pointer) == "deleted"
}

/// Whether nothing more is to be expected of a run.
pub(crate) fn run_is_over(run: &Value) -> bool {
    matches!(text(run, "/info/status"), "FINISHED" | "FAILED" | "KILLED")
        || is_deleted(run, "/info/lifecycle_stage")
}

pub(crate) fn run_digest(run: &Value) -> String {
    mark::digest(run, &RUN_STATE, "/data/tags")
}

/// One point of a history, with what it says of a logged model or a data set where it does.
pub(crate) fn metric(point: &Value) -> Value {
    object([
        ("key", some_text(point, "/key")),
        ("value", point.get("value").cloned()),
        ("timestamp", Some(integer(point, "/timestamp").unwrap_or(0).into())),
        ("step", Some(integer(point, "/step").unwrap_or(0).into())),
        ("model_id", some_text(point, "/model_id")),
        ("dataset_name", some_text(point, "/dataset_name")),
        ("dataset_digest", some_text(point, "/dataset_digest")),
    ])
}

pub(crate) fn logged_model_create(model: &Value, experiment_id: &str, address: &str) -> Value {
    let model_id = text(model, "/info/model_id");
    let mut tags = copied_tags(model, "/info/tags");
    tags.push(mark::source(address, model_id));
    object([
        ("model_id", Some(model_id.into())),
        ("experiment_id", Some(experiment_id.into())),
        ("name", some_text(model, "/info/name")),
        ("model_type", some_text(model, "/info/model_type")),
        ("source_run_id", some_text(model, "/info/source_run_id")),
        ("params", Some(list(model, "/data/params").into())),
        ("tags", Some(tags.into())),
    ])
}

/// Whether nothing more is to be expected of a logged model.
pub(crate) fn logged_model_is_over(model: &Value) -> bool {
    matches!(text(model, "/info/status"), "LOGGED_MODEL_READY" | "LOGGED_MODEL_UPLOAD_FAILED")
}

pub(crate) fn logged_model_digest(model: &Value) -> String {
    mark::digest(model, &LOGGED_MODEL_STATE, "/info/tags")
}

pub(crate) fn model_create(model: &Value, address: &str) -> Value {
    let name = text(model, "/name");
    let mut tags = copied_tags(model, "/tags");
    tags.push(mark::source(address, name));
    object([
        ("name", Some(name.into())),
        ("description", some_text(model, "/description")),
        ("tags", Some(tags.into())),
    ])
}

pub(crate) fn model_digest(model: &Value) -> String {
    mark::digest(model, &["/description", "/aliases"], "/tags")
}

/// How marks name a version.
pub(crate) fn version_id(version: &Value) -> String {
    format!("{}/{}", text(version, "/name"), text(version, "/version"))
}

/// `source` is the version's source as it reads in the registry.
pub(crate) fn version_create(version: &Value, source: &str, address: &str) -> Value {
    let mut tags = copied_tags(version, "/tags");
    tags.push(mark::source(address, &version_id(version)));
    object([
        ("name", some_text(version, "/name")),
        ("version", some_text(version, "/version")),
        ("source", Some(source.into())),
        ("run_id", some_text(version, "/run_id")),
        ("model_id", version_model_id(version, source)),
        ("run_link", some_text(version, "/run_link")),
        ("description", some_text(version, "/description")),
        ("tags", Some(tags.into())),
    ])
}

/// The registry takes a logged model's id next to its own URI, and refuses one next to a run's.
fn version_model_id(version: &Value, source: &str) -> Option<Value> {
    if source.starts_with("runs:/") { None } else { some_text(version, "/model_id") }
}

pub(crate) fn version_digest(version: &Value) -> String {
    mark::digest(version, &VERSION_STATE, "/tags")
}

/// The move to the version's stage, where it has one.
pub(crate) fn version_stage(version: &Value) -> Option<Value> {
    let stage =
        Some(text(version, "/current_stage")).filter(|stage| !stage.is_empty() && *stage != NO_STAGE)?;
    Some(json!({
        "name": text(version, "/name"), "version": text(version, "/version"), "stage": stage,
        "archive_existing_versions": false,
    }))
}

/// The aliases of a registered model with their versions.
pub(crate) fn aliases(model: &Value) -> impl Iterator<Item = (&str, &str)> {
    list(model, "/aliases").iter().map(|alias| (text(alias, "/alias"), text(alias, "/version")))
}

/// Prompts share the model registry's tables, and are none of its models.
pub(crate) fn is_prompt(model: &Value) -> bool {
    pair(list(model, "/tags"), "mlflow.prompt.is_prompt").is_some_and(|value| value == "true")
}

fn some_text(value: &Value, pointer: &str) -> Option<Value> {
    Some(text(value, pointer)).filter(|text| !text.is_empty()).map(Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Value {
        json!({
            "info": {"run_id": "r1", "run_name": "first", "user_id": "ada", "status": "FINISHED",
                "start_time": 5,
                "end_time": "9", "lifecycle_stage": "active"},
            "data": {"tags": [{"key": "mlflow.runName", "value": "old name"}, {"key": "a", "value": "b"},
                {"key": "slipway.import.source", "value": "http://older#r1"}]},
        })
    }

    #[test]
    fn a_run_keeps_its_id_its_name_and_its_tags() {
        let body = run_create(&run(), "7", "http://old:5000");
        let expected = json!({
            "run_id": "r1", "experiment_id": "7", "user_id": "ada", "run_name": "first", "start_time": 5,
            "tags": [{"key": "a", "value": "b"}, {"key": "mlflow.runName", "value": "first"},
                {"key": "slipway.import.source", "value": "http://old:5000#r1"}],
        });
        assert_eq!(body, expected);
        assert_eq!(run_update(&run()), json!({"run_id": "r1", "status": "FINISHED", "end_time": 9}));
    }

    #[test]
    fn runs_that_may_still_change_are_not_over() {
        let with = |status: &str, stage: &str| json!({"info": {"status": status, "lifecycle_stage": stage}});
        assert!(run_is_over(&with("KILLED", "active")));
        assert!(run_is_over(&with("RUNNING", "deleted")));
        assert!(!run_is_over(&with("RUNNING", "active")));
        assert!(!run_is_over(&with("SCHEDULED", "active")));
    }

    #[test]
    fn special_values_of_metrics_go_through_as_they_are() {
        let nan = metric(&json!({"key": "loss", "value": "NaN", "timestamp": "3"}));
        assert_eq!(nan, json!({"key": "loss", "value": "NaN", "timestamp": 3, "step": 0}));
        let huge =
            metric(&json!({"key": "l", "value": -1.797_693_134_862_315_7e308, "timestamp": 3, "step": -2}));
        assert_eq!(huge["value"].as_f64(), Some(f64::MIN));
        assert_eq!(huge["step"], -2);
    }

    #[test]
    fn a_version_keeps_its_number_and_gets_the_new_source() {
        let version = json!({"name": "churn", "version": "4", "source": "mlflow-artifacts:/1/r1/artifacts/m",
            "run_id": "r1", "run_link": "", "description": "d", "current_stage": "Production",
                "aliases": ["x"]});
        let body = version_create(&version, "mlflow-artifacts:/7/r1/artifacts/m", "http://old");
        assert_eq!((body["version"].as_str(), body["run_id"].as_str()), (Some("4"), Some("r1")));
        assert_eq!(body["source"], "mlflow-artifacts:/7/r1/artifacts/m");
        assert_eq!(body["tags"][0]["value"], "http://old#churn/4");
        assert!(body.get("run_link").is_none());
        assert_eq!(version_stage(&version).unwrap()["stage"], "Production");
        assert!(version_stage(&json!({"current_stage": "None"})).is_none());
    }

    #[test]
    fn prompts_are_told_from_models() {
        assert!(is_prompt(&json!({"tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}]})));
        assert!(!is_prompt(&json!({"tags": []})));
    }
}
