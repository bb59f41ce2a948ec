//! Registered models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::facts::{LoaderCode, ScanVerdict};

/// A registered model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// Name of the model.
    pub name: String,
    /// Description.
    pub description: Option<String>,
    /// The highest version number; unset while there is no version.
    pub latest_version: Option<String>,
    /// Whether serving can load that version; unset while there is no version.
    pub latest_servable: Option<bool>,
    /// Why serving cannot load it.
    pub latest_unservable_reason: Option<String>,
    /// Verdict of the scan of that version's files.
    pub latest_scan_verdict: Option<ScanVerdict>,
    /// Whether that version contains code that a loader runs.
    pub latest_loader_code: Option<LoaderCode>,
    /// Version by alias.
    pub aliases: BTreeMap<String, String>,
    /// Tags by key.
    pub tags: BTreeMap<String, String>,
    /// Creation time.
    pub created_at_unix_ms: i64,
    /// Time of the last change.
    pub updated_at_unix_ms: i64,
}

/// A page of models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelPage {
    /// The models.
    pub models: Vec<Model>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Which models are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ModelsQuery {
    /// Filter, e.g. `name LIKE 'churn%' AND tags.team = 'a'`; docs/api.md has the language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Order, e.g. `last_updated_timestamp DESC`; several terms are separated by commas [default: name].
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

/// A model to be registered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModel {
    /// Name of the model.
    #[schema(example = "churn")]
    pub name: String,
    /// Description.
    pub description: Option<String>,
    /// Tags by key.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// Changes of a model or a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The new description.
    pub description: String,
}

/// A new name of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The new name.
    #[schema(example = "churn")]
    pub new_name: String,
}

/// Whether protection is overridden.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Force {
    /// Deletes it although deployments serve it; requires the role admin on the model [default: false].
    #[serde(default)]
    pub force: bool,
}

/// The version that an alias points at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasTarget {
    /// A number, as text.
    #[schema(example = "3")]
    pub version: String,
}
