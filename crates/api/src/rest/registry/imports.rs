//! Models from outside of the registry.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An address whose content becomes versions of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewImport {
    /// Address: `s3://BUCKET/PREFIX` of a bucket that the artifact store has, `https://HOST/FILE`, or
    /// `oci://REGISTRY/REPOSITORY:TAG` (or `@sha256:…`). It must begin with one of the allowed sources
    /// (SLIPWAY_IMPORT_SOURCES).
    #[schema(example = "s3://models/fraud")]
    pub uri: String,
    /// Alias that is set to each version that is made [default: none].
    #[serde(default)]
    pub alias: Option<String>,
    /// Whether new content becomes a new version, within some seconds [default: false].
    #[serde(default)]
    pub watch: bool,
}

/// An import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Import {
    /// ID of the import.
    pub id: String,
    /// Registered model.
    pub model: String,
    /// Address.
    pub uri: String,
    /// Alias that is set to each version that is made.
    pub alias: Option<String>,
    /// Whether new content becomes a new version.
    pub watch: bool,
    /// Version of the newest content that was imported; unset before the first.
    pub version: Option<String>,
    /// Why the newest content is not imported, or the alias is not set; it is tried again.
    pub problem: Option<String>,
    /// Bytes of the newest content that are stored.
    pub done_bytes: u64,
    /// Bytes of the newest content, as far as they are known; 0 before it is read.
    pub total_bytes: u64,
    /// When it was created.
    pub created_at_unix_ms: i64,
    /// When its version or its problem changed.
    pub updated_at_unix_ms: i64,
}

/// A page of imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportPage {
    /// The imports.
    pub imports: Vec<Import>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// The files of an import that was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveredFiles {
    /// All of them.
    #[schema(max_items = 10_000)]
    pub files: Vec<DeliveredFile>,
}

/// A file of an import that was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveredFile {
    /// Path within the version.
    pub path: String,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
}
