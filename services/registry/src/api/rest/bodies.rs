//! REST v1: what is answered about models, versions and runs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use slipway_model_scan::{LoaderCode, Verdict};
use utoipa::ToSchema;

use crate::models::registered_models::Detailed;
use crate::store::facts::{Joining, Scan, Tensor};
use crate::store::model_versions::{ModelVersion, VersionFile};
use crate::store::runs::RunInfo;

/// A registered model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Model {
    name: String,
    description: Option<String>,
    /// The highest number given; absent while there is no version.
    latest_version: Option<String>,
    /// Whether serving can load that version; absent while there is none.
    latest_servable: Option<bool>,
    /// Why it cannot.
    latest_unservable_reason: Option<String>,
    /// Verdict of the scan of that version's files: `safe`, `unverified` or `unsafe`.
    #[schema(value_type = Option<String>)]
    latest_scan_verdict: Option<Verdict>,
    /// Whether that version carries code that a loader runs: `none`, `unknown` or `present`.
    #[schema(value_type = Option<String>)]
    latest_loader_code: Option<LoaderCode>,
    /// Alias → version.
    aliases: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    created_at_unix_ms: i64,
    updated_at_unix_ms: i64,
}

impl From<Detailed> for Model {
    fn from(detailed: Detailed) -> Self {
        let latest = detailed.newest();
        let model = &detailed.model;
        Self {
            name: model.name.clone(),
            description: model.description.clone(),
            latest_version: latest.map(|version| version.version.to_string()),
            latest_servable: latest.map(|version| version.servable),
            latest_unservable_reason: latest.and_then(|version| version.facts.0.unservable_reason.clone()),
            latest_scan_verdict: latest.and_then(|version| Some(version.facts.0.scan.as_ref()?.verdict)),
            latest_loader_code: latest.and_then(|version| Some(version.facts.0.scan.as_ref()?.code)),
            aliases: model.aliases.0.iter().cloned().collect(),
            tags: model.tags.0.iter().cloned().collect(),
            created_at_unix_ms: model.created_ms,
            updated_at_unix_ms: model.updated_ms,
        }
    }
}

/// A page of models, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Models {
    pub(super) models: Vec<Model>,
    /// Leads to the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_page_token: Option<String>,
}

/// A version of a model. Its bytes never change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Version {
    model: String,
    /// A number, as text.
    #[schema(example = "3")]
    version: String,
    /// `PENDING_REGISTRATION`, `READY` or `FAILED_REGISTRATION`.
    #[schema(example = "READY")]
    status: String,
    /// MLflow's stage: `None`, `Staging`, `Production` or `Archived`.
    #[schema(example = "None")]
    stage: String,
    /// `sha256:` of the manifest: paths, hashes and sizes of all files.
    digest: String,
    /// Whether serving can load it.
    servable: bool,
    /// Why not.
    unservable_reason: Option<String>,
    /// Verdict of the scan of its files: `safe`, `unverified` or `unsafe`; absent where its files lie elsewhere.
    #[schema(value_type = Option<String>)]
    scan_verdict: Option<Verdict>,
    /// Why that is not `safe`.
    scan_reason: Option<String>,
    /// Whether it carries code that a loader runs: `none`, `unknown` or `present`.
    #[schema(value_type = Option<String>)]
    loader_code: Option<LoaderCode>,
    aliases: Vec<String>,
    run_id: Option<String>,
    source: String,
    description: Option<String>,
    tags: BTreeMap<String, String>,
    /// Inputs of the ONNX graph.
    inputs: Vec<Tensor>,
    /// Outputs of the ONNX graph.
    outputs: Vec<Tensor>,
    /// Whether serving joins requests of this version (`row_wise`), and why not (`reason`); absent for ensembles, and for versions that
    /// are older than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    joining: Option<Joining>,
    created_at_unix_ms: i64,
    updated_at_unix_ms: i64,
}

impl Version {
    pub(super) fn new(version: &ModelVersion) -> Self {
        let facts = &version.facts.0;
        Self {
            model: version.name.clone(),
            version: version.version.to_string(),
            status: version.status.clone(),
            stage: version.stage.clone(),
            digest: version.digest.clone(),
            servable: version.servable,
            unservable_reason: facts.unservable_reason.clone(),
            scan_verdict: facts.scan.as_ref().map(|scan| scan.verdict),
            scan_reason: facts.scan.as_ref().and_then(Scan::reason),
            loader_code: facts.scan.as_ref().map(|scan| scan.code),
            aliases: version.aliases.clone(),
            run_id: version.run_id.clone(),
            source: version.source.clone(),
            description: version.description.clone(),
            tags: version.tags.0.iter().cloned().collect(),
            inputs: facts.inputs.clone(),
            outputs: facts.outputs.clone(),
            joining: facts.joining.clone(),
            created_at_unix_ms: version.created_ms,
            updated_at_unix_ms: version.updated_ms,
        }
    }
}

/// A page of versions, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Versions {
    pub(super) versions: Vec<Version>,
    /// Leads to the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_page_token: Option<String>,
}

/// A file of a version.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct File {
    /// Within the version.
    #[schema(example = "model.onnx")]
    path: String,
    size_bytes: i64,
    /// Lower-case hex.
    sha256: String,
}

/// A version with its files and what was found in them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VersionDetails {
    #[serde(flatten)]
    version: Version,
    files: Vec<File>,
    /// The verdict on its files (`verdict`), whether they carry code that a loader runs (`code`), and the findings of each file
    /// that is not safe; absent where its files lie elsewhere.
    #[schema(value_type = Option<Object>)]
    scan: Value,
    /// Whether it is signed, and by whom.
    #[schema(value_type = Object)]
    signing: Value,
    /// MLflow's signature: inputs, outputs and params.
    #[schema(value_type = Option<Object>)]
    signature: Value,
}

impl VersionDetails {
    pub(super) fn new(version: &ModelVersion, files: Vec<VersionFile>, signing: Value) -> Self {
        let facts = &version.facts.0;
        let signature = facts.signature.as_deref().and_then(|text| serde_json::from_str(text).ok());
        Self {
            version: Version::new(version),
            files: files
                .into_iter()
                .map(|file| File { path: file.path, size_bytes: file.size_bytes, sha256: file.sha256 })
                .collect(),
            scan: serde_json::json!(facts.scan),
            signing,
            signature: signature.unwrap_or_default(),
        }
    }
}

/// A run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Run {
    run_id: String,
    run_name: String,
    /// A number, as text.
    #[schema(example = "0")]
    experiment_id: String,
    /// `RUNNING`, `SCHEDULED`, `FINISHED`, `FAILED` or `KILLED`.
    #[schema(example = "FINISHED")]
    status: String,
    user_id: String,
    /// Unix milliseconds.
    start_time: i64,
    /// Unix milliseconds; absent while it runs.
    end_time: Option<i64>,
}

impl From<RunInfo> for Run {
    fn from(run: RunInfo) -> Self {
        Self {
            run_id: run.run_id,
            run_name: run.name,
            experiment_id: run.experiment_id.to_string(),
            status: run.status,
            user_id: run.user_id,
            start_time: run.start_ms,
            end_time: run.end_ms,
        }
    }
}

/// A page of runs, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Runs {
    pub(super) runs: Vec<Run>,
    /// Leads to the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_page_token: Option<String>,
}
