//! Model cards and lineage.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use slipway_domain::registry::promotion::CardField;
use utoipa::{IntoParams, ToSchema};

use super::JsonObject;
use super::facts::{Joining, Scan, Tensor};
use super::trust::{Approval, ReportDetails, ReportSummary, SignatureVerdict};
use crate::rest::Number;

/// Form of a model card.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CardQuery {
    /// `json` or `markdown` [default: json].
    #[serde(default)]
    #[param(inline)]
    pub format: CardFormat,
}

/// Format of a model card.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CardFormat {
    /// JSON.
    #[default]
    Json,
    /// Markdown.
    Markdown,
}

/// The model card of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Card {
    /// Registered model.
    pub model: String,
    /// A number, as text.
    pub version: String,
    /// `sha256:` of the manifest of its files.
    pub digest: String,
    /// Description.
    pub description: Option<String>,
    /// Aliases that point at it.
    pub aliases: Vec<String>,
    /// Tags by key.
    pub tags: BTreeMap<String, String>,
    /// Creation time.
    pub created_at_unix_ms: i64,
    /// Whether serving can load it.
    pub servable: bool,
    /// Why serving cannot load it.
    pub unservable_reason: Option<String>,
    /// Inputs of the graph.
    pub inputs: Vec<Tensor>,
    /// Outputs of the graph.
    pub outputs: Vec<Tensor>,
    /// Whether serving batches its requests.
    pub joining: Option<Joining>,
    /// Signature of the model as it was logged: inputs, outputs and params.
    pub signature: Option<JsonObject>,
    /// What of the training profile of its run does not fit it.
    pub profile_misfit: Option<String>,
    /// Latest metrics of its logged model and its run.
    pub metrics: BTreeMap<String, Number>,
    /// Its run, where the caller may read it.
    pub run: Option<CardRun>,
    /// Why its run is not shown.
    pub run_hidden: Option<String>,
    /// Result of the scan of its files.
    pub scan: Option<Scan>,
    /// How it is signed.
    pub signing: SignatureVerdict,
    /// The newest report of each name.
    pub reports: Vec<ReportDetails>,
    /// Approvals.
    pub approvals: Vec<Approval>,
    /// Where it is deployed.
    pub deployments: Vec<Place>,
    /// Parts of the card that are missing.
    pub missing: Vec<CardField>,
}

/// The run of a version, on its card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CardRun {
    /// The run.
    #[serde(flatten)]
    pub run: LineageRun,
    /// Params by key.
    pub params: BTreeMap<String, String>,
    /// Data sets that it read.
    pub datasets: Vec<LineageDataset>,
    /// Where its code came from: `program`, `repository`, `branch`, `commit` and `job`.
    pub code: BTreeMap<String, String>,
}

/// What a version was created from, and where it is deployed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Lineage {
    /// Registered model.
    pub model: String,
    /// A number, as text.
    pub version: String,
    /// `sha256:` of the manifest of its files.
    pub digest: String,
    /// URI that it was created from.
    pub source: String,
    /// Creation time.
    pub created_at_unix_ms: i64,
    /// Principals that created the version, its run or its logged model, and the user that the run's client
    /// named.
    pub authors: BTreeSet<String>,
    /// Aliases that point at it.
    pub aliases: Vec<String>,
    /// Its logged model.
    pub logged_model: Option<LineageModel>,
    /// Its run, where the caller may read it.
    pub run: Option<LineageRun>,
    /// Why its run is not shown.
    pub run_hidden: Option<String>,
    /// Where the code of its run came from: `program`, `repository`, `branch` and `commit`.
    pub code: Option<BTreeMap<String, String>>,
    /// The training job of its run: `id`, `name`, `attempt` and `restored_step`.
    pub job: Option<BTreeMap<String, String>>,
    /// Data sets that its run read.
    pub datasets: Vec<LineageDataset>,
    /// How it is signed.
    pub signing: SignatureVerdict,
    /// The newest report of each name.
    pub reports: Vec<ReportSummary>,
    /// Approvals.
    pub approvals: Vec<Approval>,
    /// Where it is deployed.
    pub deployments: Vec<Place>,
}

/// The logged model of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineageModel {
    /// ID of the logged model.
    pub model_id: String,
    /// Name of the logged model.
    pub name: String,
    /// The run that wrote it, where the caller may read it.
    pub source_run_id: Option<String>,
    /// Creation time.
    pub created_at_unix_ms: i64,
}

/// The run of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineageRun {
    /// ID of the run.
    pub run_id: String,
    /// Name of the run.
    pub name: String,
    /// User, as the client named it.
    pub user: String,
    /// State of the run.
    pub status: String,
    /// A number, as text.
    pub experiment_id: String,
    /// Start, Unix milliseconds.
    pub start_time: i64,
    /// End, Unix milliseconds; unset while it runs.
    pub end_time: Option<i64>,
}

/// A data set that a run read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineageDataset {
    /// Name of the data set.
    pub name: String,
    /// Digest of its content.
    pub digest: String,
    /// Kind of source.
    pub source_type: String,
    /// Purpose, e.g. `training`.
    pub context: Option<String>,
}

/// A deployment of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    /// Name of the deployment.
    pub deployment: String,
    /// `stable` or `candidate`.
    pub role: String,
    /// Share of the traffic of a candidate, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_percent: Option<u8>,
    /// Time since when it has the role.
    pub since_unix_ms: i64,
}
