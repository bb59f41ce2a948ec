//! A version that is loaded, and the settings that it came with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use slipway_domain::ensemble::Definition;
use slipway_http_server::json;
use slipway_inference::{
    AuditCounts, Batching, Device, DeviceMemory, DropCounts, Error, Joining, LoadOptions, Model, Signature,
    Tensor, TensorSpec,
};

use super::contract::{Contract, Fitted};
use super::labels::Labels;
use super::limits::{self, OutOfRange};
use crate::source::RecordPolicy;

/// A file of this name next to the model says how the version is served; what it leaves out is as the process
/// was started.
pub(crate) const SETTINGS_FILE: &str = "slipway-serving.json";
/// Longest settings file.
const MAX_SETTINGS_BYTES: u64 = 64 * 1024;

/// A version that answers.
#[derive(Debug)]
pub(crate) struct Served {
    /// What answers.
    pub work: Work,
    /// What is known of it.
    pub described: Arc<Described>,
}

/// What a version consists of.
#[derive(Debug)]
pub(crate) enum Work {
    /// A model of its own.
    Model(Model),
    /// Other models.
    Ensemble(Arc<Definition>),
}

/// What comes with a version, next to what answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beside {
    /// What of it is recorded.
    pub policy: RecordPolicy,
    /// Names of its classes.
    pub labels: Labels,
    /// The most rows of a request, as the folder that it comes from says; see [`Described::max_batch_size`].
    pub batch_size: Option<usize>,
    /// How images lie in an input, by its name, for clients; [`slipway_api::inference::model_input::Format`].
    pub formats: BTreeMap<String, i32>,
}

impl Beside {
    /// Refuses what is said of tensors that there are not.
    ///
    /// # Errors
    /// Names the setting and the tensor.
    pub(super) fn check(&self, signature: &Signature) -> Result<(), String> {
        self.labels.check(signature)?;
        self.policy.check(signature)
    }
}

/// What a version took when it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Memory {
    /// The growth of the process's resident memory, and at least the model file.
    pub bytes: u64,
    /// Of a GPU, where it runs on one whose driver tells.
    pub device: Option<DeviceMemory>,
}

impl Memory {
    /// What an unloaded version takes, where it took this.
    pub(crate) fn freed(self) -> Self {
        Self { bytes: 0, device: self.device.map(|device| DeviceMemory { bytes: 0, ..device }) }
    }
}

/// What is known of a version that was loaded once, whether it is in memory or not.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    /// What it takes and gives.
    pub signature: Signature,
    /// How it is run.
    pub options: LoadOptions,
    /// Where it runs.
    pub device: Device,
    /// Whether requests were joined when it was loaded, and why, or why not.
    pub joining: Joining,
    /// What of it is recorded, and what its classes are called.
    pub beside: Beside,
    /// What it took when it was loaded.
    pub memory: Memory,
    /// The models of an ensemble, where it is one.
    pub ensemble: Option<Arc<Definition>>,
    /// How requests and answers differ from what the model takes and gives, where they do.
    pub contract: Option<Contract>,
}

impl Described {
    /// Refuses a request with more rows than the model's folder allows.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] names the rows and the limit.
    pub(crate) fn check_rows(&self, inputs: &[Tensor]) -> Result<(), Error> {
        let limit = self.beside.batch_size.filter(|limit| *limit > 0);
        let (Some(limit), Some(first)) = (limit, inputs.first()) else { return Ok(()) };
        if first.rows() <= limit as u64 {
            return Ok(());
        }
        Err(Error::InvalidInput {
            input: first.name.clone(),
            message: format!("the request has {} rows; its max_batch_size is {limit}", first.rows()),
        })
    }

    /// `max_batch_size` as clients see it: the most rows of a request for which the model is meant, or
    /// 0 where rows are not told apart from the shape. Unless a folder says so, more rows are answered as
    /// well. `joins`: whether requests are joined now.
    pub(crate) fn max_batch_size(&self, joins: bool) -> usize {
        let free = |specs: &[TensorSpec]| specs.iter().all(|spec| spec.shape.first() == Some(&-1));
        let Signature { inputs, outputs, .. } = &self.signature;
        // An input without a dimension next to the batch has no form in Triton's configuration, and its
        // clients fail on it.
        if !free(inputs) || !free(outputs) || inputs.iter().any(|spec| spec.shape.len() == 1) {
            return 0;
        }
        self.beside.batch_size.unwrap_or(if joins { self.options.batching.max_rows } else { 0 })
    }
}

impl Served {
    /// A model that was loaded and took `memory`; clients see it as in `signature`.
    pub(crate) fn new(
        model: Model,
        Fitted { signature, contract }: Fitted,
        beside: Beside,
        memory: Memory,
    ) -> Self {
        let described = Described {
            signature,
            options: model.options().clone(),
            device: model.device(),
            joining: model.joining(),
            beside,
            memory,
            ensemble: None,
            contract,
        };
        Self { work: Work::Model(model), described: Arc::new(described) }
    }

    /// An ensemble whose models fit together as `signature` says.
    pub(crate) fn ensemble(definition: Arc<Definition>, beside: Beside, signature: Signature) -> Self {
        let described = Described {
            signature,
            options: LoadOptions::default(),
            device: Device::Cpu,
            joining: Joining::Off("its models join requests of their own".to_owned()),
            beside,
            // Its models take it.
            memory: Memory::default(),
            ensemble: Some(Arc::clone(&definition)),
            contract: None,
        };
        Self { work: Work::Ensemble(definition), described: Arc::new(described) }
    }

    fn model(&self) -> Option<&Model> {
        match &self.work {
            Work::Model(model) => Some(model),
            Work::Ensemble(_) => None,
        }
    }

    /// Refuses a request that would find the queue full.
    ///
    /// # Errors
    /// See [`Model::admit`].
    pub(crate) fn admit(&self) -> Result<(), slipway_inference::Error> {
        self.model().map_or(Ok(()), Model::admit)
    }

    /// Whether requests that wait are joined now, and why, or why not.
    pub(crate) fn joining(&self) -> Joining {
        self.model().map_or_else(|| self.described.joining.clone(), Model::joining)
    }

    /// Audits of joined runs.
    pub(crate) fn audits(&self) -> AuditCounts {
        self.model().map(Model::audits).unwrap_or_default()
    }

    /// Requests that wait for a run.
    pub(crate) fn waiting(&self) -> usize {
        self.model().map_or(0, Model::waiting)
    }

    /// Whether a request runs or waits.
    pub(crate) fn is_busy(&self) -> bool {
        self.model().is_some_and(|model| model.running() > 0 || model.waiting() > 0)
    }

    /// Requests that were not run.
    pub(crate) fn dropped(&self) -> DropCounts {
        self.model().map(Model::dropped).unwrap_or_default()
    }
}

/// How a version is served, as its settings file says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VersionSettings {
    /// See [`LoadOptions::instances`].
    pub instances: Option<usize>,
    /// See [`LoadOptions::intra_threads`].
    pub intra_threads: Option<usize>,
    /// See [`LoadOptions::queue_limit`].
    pub queue_limit: Option<usize>,
    /// See [`Batching::max_rows`].
    pub max_batch_rows: Option<usize>,
    /// See [`Batching::delay`], microseconds.
    pub batch_delay_us: Option<u64>,
    /// See [`Batching::preferred_rows`].
    pub preferred_batch_rows: Option<Vec<usize>>,
    /// See [`Batching::join`].
    pub join_requests: Option<bool>,
    /// See [`Batching::audit_every`].
    pub join_audit_every: Option<u64>,
    /// See [`LoadOptions::arena`].
    pub arena: Option<bool>,
    /// `cpu`, `cuda` or `tensorrt`.
    pub device: Option<String>,
    /// See [`LoadOptions::fallback`].
    pub device_fallback: Option<bool>,
    /// What is recorded.
    pub records: RecordPolicy,
    /// By output: a file of the names of its classes, one a line.
    pub labels: BTreeMap<String, String>,
}

impl VersionSettings {
    /// The settings in a model's folder; none where there is no such file.
    ///
    /// # Errors
    /// The file does not parse, or a field has a value that means nothing.
    pub(crate) fn beside(model: &Path) -> Result<Self, String> {
        let path = model.with_file_name(SETTINGS_FILE);
        let complain = |reason: String| format!("its `{SETTINGS_FILE}`: {reason}");
        let Ok(described) = std::fs::metadata(&path) else { return Ok(Self::default()) };
        if !described.is_file() {
            return Err(complain("it is no file".to_owned()));
        }
        if described.len() > MAX_SETTINGS_BYTES {
            return Err(complain(format!("longer than {MAX_SETTINGS_BYTES} bytes")));
        }
        let bytes = std::fs::read(&path).map_err(|error| complain(error.to_string()))?;
        let settings: Self = json::read(&bytes).map_err(|error| complain(error.to_string()))?;
        settings.checked().map_err(complain)
    }

    fn checked(self) -> Result<Self, String> {
        // The process may join any number of rows; that is looked at once it is known.
        let any_rows = Batching { max_rows: usize::MAX, ..Batching::default() };
        self.options(&LoadOptions { batching: any_rows, ..LoadOptions::default() })
            .map_err(|refused| refused.to_string())?;
        if let Some(device) = self.device.as_deref().filter(|device| Device::from_name(device).is_none()) {
            return Err(format!("device is '{device}'; expected cpu, cuda or tensorrt"));
        }
        Ok(Self { records: self.records.checked()?, ..self })
    }

    /// The options that these settings make of the process's own.
    ///
    /// # Errors
    /// Names the setting that is out of its range.
    pub(crate) fn options(&self, defaults: &LoadOptions) -> Result<LoadOptions, OutOfRange> {
        let batching = &defaults.batching;
        let max_rows = self.max_batch_rows.unwrap_or(batching.max_rows);
        // Those of the process that this version cannot reach are not its own fault.
        let reached = || batching.preferred_rows.iter().copied().filter(|rows| *rows <= max_rows).collect();
        let options = LoadOptions {
            instances: self.instances.unwrap_or(defaults.instances),
            intra_threads: self.intra_threads.unwrap_or(defaults.intra_threads),
            queue_limit: self.queue_limit.unwrap_or(defaults.queue_limit),
            batching: Batching {
                max_rows,
                delay: self.batch_delay_us.map_or(batching.delay, Duration::from_micros),
                preferred_rows: self.preferred_batch_rows.clone().unwrap_or_else(reached),
                join: self.join_requests.or(batching.join),
                audit_every: self.join_audit_every.unwrap_or(batching.audit_every),
            },
            empty: Vec::new(),
            arena: self.arena.unwrap_or(defaults.arena),
            device: self.device.as_deref().and_then(Device::from_name).unwrap_or(defaults.device),
            fallback: self.device_fallback.unwrap_or(defaults.fallback),
        };
        limits::check(&options).map(|()| options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<VersionSettings, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SETTINGS_FILE), text).unwrap();
        VersionSettings::beside(&folder.path().join("model.onnx"))
    }

    #[test]
    fn a_version_changes_what_it_names_and_nothing_else() {
        let settings =
            read(r#"{"max_batch_rows": 8, "batch_delay_us": 500, "records": {"sample_percent": 10}}"#)
                .unwrap();
        let options = settings.options(&LoadOptions { queue_limit: 7, ..LoadOptions::default() }).unwrap();
        assert_eq!((options.batching.max_rows, options.batching.delay), (8, Duration::from_micros(500)));
        assert_eq!((options.queue_limit, options.device), (7, Device::Cpu));
        assert_eq!(VersionSettings::beside(Path::new("/nowhere/model.onnx")), Ok(VersionSettings::default()));
    }

    #[test]
    fn preferred_rows_are_below_those_of_the_process_where_the_version_says_nothing() {
        let settings = read(r#"{"preferred_batch_rows": [16]}"#).unwrap();
        let joins = |max_rows| {
            let batching = Batching { max_rows, preferred_rows: vec![4], ..Batching::default() };
            LoadOptions { batching, ..LoadOptions::default() }
        };
        assert_eq!(settings.options(&joins(16)).unwrap().batching.preferred_rows, [16]);
        assert_eq!(settings.options(&joins(8)).unwrap_err().field, "preferred_batch_rows");
        // What the process prefers is nothing that a version can be blamed for.
        let fewer = read(r#"{"max_batch_rows": 2}"#).unwrap();
        assert!(fewer.options(&joins(8)).unwrap().batching.preferred_rows.is_empty());
    }

    #[test]
    fn a_setting_that_means_nothing_is_refused_by_name() {
        for (text, expected) in [
            (r#"{"max_batch": 8}"#, "unknown field `max_batch`"),
            (r#"{"device": "tpu"}"#, "expected cpu, cuda or tensorrt"),
            (r#"{"batch_delay_us": 9000000}"#, "batch_delay_us is 9000000"),
            (r#"{"records": {"sample_percent": -1}}"#, "expected 0 to 100"),
            (r#"{"queue_limit": 0}"#, "queue_limit is 0; expected at least 1"),
            (r#"{"max_batch_rows": 0}"#, "max_batch_rows is 0"),
            (r#"{"preferred_batch_rows": [4, 0]}"#, "preferred_batch_rows is 0"),
            (
                r#"{"preferred_batch_rows": [4, 8], "max_batch_rows": 6}"#,
                "preferred_batch_rows is 8; expected at most max_batch_rows, which is 6",
            ),
            (r#"{"intra_threads": 1025}"#, "intra_threads is 1025; expected at most 1024"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
