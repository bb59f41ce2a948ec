//! Files of runs and of versions.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Path within the run or the version.
    #[schema(example = "plots/loss.png")]
    pub path: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Size of a file, in bytes; unset for a directory.
    pub size_bytes: Option<i64>,
}

/// A page of the entries of a directory, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactPage {
    /// URI of the root directory, as clients of the tracking API use it.
    pub root_uri: String,
    /// The entries.
    pub artifacts: Vec<Artifact>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Which directory is listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ArtifactsQuery {
    /// Directory within the run or the version [default: its root].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    // No `flatten`: with it, numbers of a query string arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// The file to be previewed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PreviewQuery {
    /// Path of the file within the run or the version.
    pub path: String,
    /// Maximum number of bytes that are returned, 1 to 1048576 [default: 65536].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// The file to be downloaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ContentQuery {
    /// Path of the file within the run or the version.
    pub path: String,
    /// Whether a redirect to a presigned URL of the artifact store is preferred, where clients reach the
    /// store [default: false].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<bool>,
}

/// The file to be uploaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// Path of the file within the run; a file that is there is replaced.
    pub path: String,
}

/// A file that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadedArtifact {
    /// Path within the run.
    #[schema(example = "plots/loss.png")]
    pub path: String,
    /// Size of the file, in bytes.
    pub size_bytes: i64,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
}

/// Beginning of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// Path within the run or the version.
    pub path: String,
    /// Size of the whole file, in bytes.
    pub size_bytes: i64,
    /// SHA-256 of the whole file, lower-case hex.
    pub sha256: String,
    /// Media type by the name of the file.
    #[schema(example = "text/plain")]
    pub media_type: String,
    /// Whether the file is longer than the preview.
    pub truncated: bool,
    /// How `content` is encoded.
    pub encoding: Encoding,
    /// The first bytes of the file. Text is cut between characters.
    pub content: String,
}

/// How the bytes of a preview are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// The bytes are UTF-8 text.
    Utf8,
    /// The bytes are not text, and are encoded as base64.
    Base64,
}
