//! Removal of what is no longer needed: purge, garbage collection and retention rules.

use serde::{Deserialize, Serialize};
use slipway_domain::registry::retention::{Action, Rule};
use utoipa::{IntoParams, ToSchema};

/// A purge of deleted runs, logged models and experiments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// Only what was deleted at least this many seconds ago [default: 30 days].
    pub older_than_s: Option<i64>,
    /// Maximum number of runs, logged models and experiments of one request, 1 to 1000 [default: 100].
    pub limit: Option<i64>,
    /// Only counts what would be removed [default: true].
    pub dry_run: Option<bool>,
}

/// What a purge removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Purged {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// Number of runs.
    pub runs: i64,
    /// Number of logged models.
    pub logged_models: i64,
    /// Number of experiments.
    pub experiments: i64,
    /// Number of files.
    pub files: i64,
    /// Size of the files, in bytes.
    pub size_bytes: i64,
    /// Whether there is more to remove: repeat the request.
    pub more: bool,
    /// Deleted runs that are kept, because they have a registered model version; only in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs_kept: Option<i64>,
}

/// A garbage collection of a page of the bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectionRequest {
    /// Only reports what would be freed [default: true].
    pub dry_run: Option<bool>,
    /// Only objects that have been unreferenced for this many seconds [default: 86400]. With less, uploads in
    /// progress may have to be repeated.
    #[schema(example = 86400)]
    pub grace_s: Option<u64>,
    /// Number of objects of the bucket to examine, 1 to 1000 [default: 1000].
    pub limit: Option<u32>,
    /// `next_page_token` of the previous response.
    pub page_token: Option<String>,
}

/// An object of the bucket without a database row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Orphan {
    /// Key of the object.
    pub key: String,
    /// Size, in bytes.
    pub size_bytes: u64,
}

/// Result of a page of a garbage collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Collected {
    /// Whether nothing was freed.
    pub dry_run: bool,
    /// Objects of the bucket that were examined.
    pub examined: u64,
    /// Orphaned objects: those without a database row.
    pub orphans: Vec<Orphan>,
    /// Unreferenced objects: replaced, deleted, or of interrupted uploads; counted with the first page.
    pub loose: u64,
    /// Bytes freed, of both kinds.
    pub size_bytes: u64,
    /// Token of the next page of the bucket; unset at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A retention rule to be stored: its conditions, and whether it is applied periodically.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NewRetentionRule {
    /// The conditions.
    #[serde(flatten)]
    pub rule: Rule,
    /// Whether the rule is applied periodically [default: true].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A retention rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RetentionRule {
    /// Name of the rule.
    pub name: String,
    /// Whether the rule is applied periodically.
    pub enabled: bool,
    /// The conditions.
    #[serde(flatten)]
    pub rule: StoredRule,
    /// Creation time.
    pub created_at_unix_ms: i64,
    /// Time of the last change.
    pub updated_at_unix_ms: i64,
}

/// Conditions of a stored rule. Unlike a rule that is posted, it may stand among other fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoredRule {
    /// What the rule applies to.
    #[serde(rename = "for")]
    pub scope: slipway_domain::registry::retention::Scope,
    /// Applies to what ended or was created at least this many days ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_days: Option<u32>,
    /// Applies to what is not among the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<slipway_domain::registry::retention::KeepBest>,
    /// Applies to what is not among the newest N.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// What the rule does.
    pub action: Action,
    /// Whether the rule also applies to runs with a registered model version.
    pub include_registered: bool,
}

impl From<Rule> for StoredRule {
    fn from(rule: Rule) -> Self {
        let Rule { scope, after_days, keep_best, keep_last, action, include_registered } = rule;
        Self { scope, after_days, keep_best, keep_last, action, include_registered }
    }
}

/// A page of rules, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RetentionRulePage {
    /// The rules.
    pub retention_rules: Vec<RetentionRule>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// How a rule is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ApplyQuery {
    /// Only lists what would be archived or deleted [default: true].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Number of runs or versions to examine, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// A run or a version that a rule archives or deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Retired {
    /// `run` or `model-version`.
    pub kind: String,
    /// ID of the run, or `<model>/<version>`.
    pub id: String,
    /// Conditions that it met.
    pub reason: String,
    /// Bytes that nothing else refers to; they are freed about an hour later.
    pub size_bytes: i64,
}

/// Result of a page of the application of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    /// Whether nothing was archived or deleted.
    pub dry_run: bool,
    /// What the rule does.
    pub action: Action,
    /// Runs or versions that were examined.
    pub examined: u64,
    /// Runs or versions that were, or would be, archived or deleted.
    pub goes: Vec<Retired>,
    /// Bytes freed by this page.
    pub size_bytes: i64,
    /// Token of the next page; unset where everything was examined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}
