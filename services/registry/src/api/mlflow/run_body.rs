//! Runs as MLflow's messages, written straight from what the store gave: a page of runs with a thousand
//! metrics each is not built as a tree first.

use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};

use super::experiments::stage;
use super::message::as_double;
use crate::store::runs::{DatasetInput, Run, RunInfo};

/// `{"run": …}`.
#[derive(Debug, Serialize)]
pub(super) struct OneRun {
    #[serde(serialize_with = "full")]
    pub(super) run: Run,
}

/// A page of a search.
#[derive(Debug, Serialize)]
pub(super) struct Runs {
    #[serde(serialize_with = "all", skip_serializing_if = "Vec::is_empty")]
    pub(super) runs: Vec<Run>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_page_token: Option<String>,
}

/// `{"run_info": …}`.
#[derive(Debug, Serialize)]
pub(super) struct OneInfo {
    #[serde(serialize_with = "info")]
    pub(super) run_info: RunInfo,
}

fn all<S: Serializer>(runs: &[Run], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(runs.iter().map(Full))
}

fn full<S: Serializer>(run: &Run, serializer: S) -> Result<S::Ok, S::Error> {
    Full(run).serialize(serializer)
}

fn info<S: Serializer>(run: &RunInfo, serializer: S) -> Result<S::Ok, S::Error> {
    Info(run).serialize(serializer)
}

/// `Run`: info, data, inputs, outputs.
struct Full<'run>(&'run Run);

impl Serialize for Full<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("info", &Info(&self.0.info))?;
        fields.serialize_entry("data", &Data(self.0))?;
        fields.serialize_entry("inputs", &Inputs(self.0))?;
        // Always there, since clients read the list in it unasked.
        fields.serialize_entry("outputs", &Outputs { model_outputs: &self.0.model_outputs.0 })?;
        fields.end()
    }
}

/// `RunInfo`.
struct Info<'run>(&'run RunInfo);

impl Serialize for Info<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let run = self.0;
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("run_id", &run.run_id)?;
        fields.serialize_entry("run_uuid", &run.run_id)?;
        fields.serialize_entry("run_name", &run.name)?;
        fields.serialize_entry("experiment_id", &format_args!("{}", run.experiment_id))?;
        fields.serialize_entry("user_id", &run.user_id)?;
        fields.serialize_entry("status", &run.status)?;
        fields.serialize_entry("start_time", &run.start_ms)?;
        if let Some(end_ms) = run.end_ms {
            fields.serialize_entry("end_time", &end_ms)?;
        }
        fields.serialize_entry("artifact_uri", &run.artifact_uri)?;
        fields.serialize_entry("lifecycle_stage", stage(run.deleted_ms))?;
        fields.end()
    }
}

struct Data<'run>(&'run Run);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let run = self.0;
        let mut fields = serializer.serialize_map(None)?;
        if !run.metric_keys.is_empty() {
            fields.serialize_entry("metrics", &Metrics(run))?;
        }
        if !run.param_keys.is_empty() {
            fields.serialize_entry("params", &Pairs(&run.param_keys, &run.param_values))?;
        }
        if !run.tag_keys.is_empty() {
            fields.serialize_entry("tags", &Pairs(&run.tag_keys, &run.tag_values))?;
        }
        fields.end()
    }
}

/// `Metric`, without what it belongs to.
#[derive(Debug, Serialize)]
pub(super) struct Metric<'key> {
    pub(super) key: &'key str,
    #[serde(serialize_with = "as_double")]
    pub(super) value: f64,
    #[serde(rename = "timestamp")]
    pub(super) at_ms: i64,
    pub(super) step: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run_id: Option<&'key str>,
}

struct Metrics<'run>(&'run Run);

impl Serialize for Metrics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let run = self.0;
        let columns =
            run.metric_keys.iter().zip(&run.metric_values).zip(&run.metric_times).zip(&run.metric_steps);
        let mut list = serializer.serialize_seq(Some(run.metric_keys.len()))?;
        for (((key, &value), &at_ms), &step) in columns {
            list.serialize_element(&Metric { key, value, at_ms, step, run_id: None })?;
        }
        list.end()
    }
}

/// A list of `{key, value}` from two columns.
struct Pairs<'run>(&'run [String], &'run [String]);

#[derive(Serialize)]
struct Pair<'run> {
    key: &'run str,
    value: &'run str,
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().zip(self.1).map(|(key, value)| Pair { key, value }))
    }
}

struct Inputs<'run>(&'run Run);

impl Serialize for Inputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (datasets, models) = (&self.0.dataset_inputs.0, &self.0.model_inputs);
        let mut fields = serializer.serialize_map(None)?;
        if !datasets.is_empty() {
            fields.serialize_entry("dataset_inputs", &List(datasets.iter().map(Dataset)))?;
        }
        if !models.is_empty() {
            fields
                .serialize_entry("model_inputs", &List(models.iter().map(|model_id| Model { model_id })))?;
        }
        fields.end()
    }
}

#[derive(Serialize)]
struct Model<'run> {
    model_id: &'run str,
}

struct Dataset<'run>(&'run DatasetInput);

impl Serialize for Dataset<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        if !self.0.tags.is_empty() {
            fields
                .serialize_entry("tags", &List(self.0.tags.iter().map(|(key, value)| Pair { key, value })))?;
        }
        fields.serialize_entry("dataset", &self.0.dataset)?;
        fields.end()
    }
}

struct Outputs<'run> {
    model_outputs: &'run [(String, i64)],
}

impl Serialize for Outputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Output<'run> {
            model_id: &'run str,
            step: i64,
        }
        let outputs = self.model_outputs.iter().map(|(model_id, step)| Output { model_id, step: *step });
        let mut fields = serializer.serialize_map(None)?;
        if !self.model_outputs.is_empty() {
            fields.serialize_entry("model_outputs", &List(outputs))?;
        }
        fields.end()
    }
}

/// What an iterator gives, as a list.
struct List<I>(I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for List<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}
