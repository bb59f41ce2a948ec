//! Versions of registered models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::JsonObject;
use super::facts::{Joining, LoaderCode, Scan, ScanVerdict, Tensor};
use super::trust::SignatureVerdict;

/// A version of a model. Its files never change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Registered model.
    pub model: String,
    /// A number, as text.
    #[schema(example = "3")]
    pub version: String,
    /// `PENDING_REGISTRATION`, `READY` or `FAILED_REGISTRATION`.
    #[schema(example = "READY")]
    pub status: String,
    /// Stage: `None`, `Staging`, `Production` or `Archived`.
    #[schema(example = "None")]
    pub stage: String,
    /// `sha256:` of the manifest: paths, hashes and sizes of all files.
    pub digest: String,
    /// Whether serving can load it.
    pub servable: bool,
    /// Why serving cannot load it.
    pub unservable_reason: Option<String>,
    /// Verdict of the scan of its files; unset where its files are outside of the artifact store.
    pub scan_verdict: Option<ScanVerdict>,
    /// Why the verdict is not `safe`.
    pub scan_reason: Option<String>,
    /// Whether it contains code that a loader runs.
    pub loader_code: Option<LoaderCode>,
    /// Aliases that point at it.
    pub aliases: Vec<String>,
    /// The run that it was created from.
    pub run_id: Option<String>,
    /// URI that it was created from.
    pub source: String,
    /// Description.
    pub description: Option<String>,
    /// Tags by key.
    pub tags: BTreeMap<String, String>,
    /// Inputs of the graph.
    pub inputs: Vec<Tensor>,
    /// Outputs of the graph.
    pub outputs: Vec<Tensor>,
    /// Whether serving batches its requests; unset for ensembles, and for versions that were not analysed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joining: Option<Joining>,
    /// Creation time.
    pub created_at_unix_ms: i64,
    /// Time of the last change.
    pub updated_at_unix_ms: i64,
}

/// A page of versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionPage {
    /// The versions.
    pub versions: Vec<Version>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Which versions of all models are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct VersionsQuery {
    /// Filter, e.g. `run_id = '…'` or `tags.team = 'a'`; docs/api.md has the language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Order, e.g. `creation_timestamp DESC`; several terms are separated by commas
    /// [default: last_updated_timestamp DESC].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
    // No `flatten`: with it, numbers of a query string arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// A file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionFile {
    /// Path within the version.
    #[schema(example = "model.onnx")]
    pub path: String,
    /// Size, in bytes.
    pub size_bytes: i64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

/// A version with its files and what was found in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionDetails {
    /// The version.
    #[serde(flatten)]
    pub version: Version,
    /// Its files.
    pub files: Vec<VersionFile>,
    /// Result of the scan of its files; unset where its files are outside of the artifact store.
    pub scan: Option<Scan>,
    /// Whether it is signed, and by whom.
    pub signing: SignatureVerdict,
    /// Signature of the model as it was logged: inputs, outputs and params.
    pub signature: Option<JsonObject>,
}

/// A version to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// URI of the model's files: of a logged model (`models:/m-…`), of a run (`runs:/<run_id>/<path>`), of
    /// another version (`models:/<name>/<version>`), or of artifacts.
    #[schema(example = "models:/m-0123456789abcdef")]
    pub source: String,
    /// The run that it was created from [default: that of the source].
    pub run_id: Option<String>,
    /// The logged model that it was created from [default: that of the source].
    pub model_id: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Tags by key.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// The stage that a version moves to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StageChange {
    /// The new stage.
    pub stage: Stage,
    /// Whether the other versions of that stage are archived; only for `Staging` and `Production` [default:
    /// false].
    #[serde(default)]
    pub archive_existing: bool,
}

/// Stage of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Stage {
    /// No stage.
    None,
    /// Staging.
    Staging,
    /// Production.
    Production,
    /// Archived.
    Archived,
}

impl Stage {
    /// Name on the wire and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Staging => "Staging",
            Self::Production => "Production",
            Self::Archived => "Archived",
        }
    }
}
