//! What an inspection of a version's files found.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether the files of a version are safe to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScanVerdict {
    /// All content was understood and is allowed.
    Safe,
    /// Some content was not understood, or is code.
    Unverified,
    /// A file runs code or attacks its reader.
    Unsafe,
}

/// Whether a file contains code that a loader runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoaderCode {
    /// It contains none.
    None,
    /// It was not understood completely.
    Unknown,
    /// It contains code.
    Present,
}

/// An input or output of the graph of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tensor {
    /// Name of the tensor.
    pub name: String,
    /// Data type, as the Open Inference Protocol names it.
    #[schema(example = "FP32")]
    pub datatype: String,
    /// Shape; -1 for a dimension of variable size.
    pub shape: Vec<i64>,
    /// Names of the classes along the last dimension, where the model defines them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

/// Whether serving batches requests of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Joining {
    /// Whether the analysis of the graph proves that each row is computed independently.
    pub row_wise: bool,
    /// Why it does not, with the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Result of the scan of a version's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scan {
    /// The worst verdict on a file.
    pub verdict: ScanVerdict,
    /// Whether a file contains code that a loader runs.
    pub code: LoaderCode,
    /// Revision of the rules of the scan.
    pub rules: u32,
    /// Number of files that were scanned.
    pub scanned: u64,
    /// Files of which a loader creates objects, and every file that is not safe.
    pub files: Vec<ScannedFile>,
}

/// Result of the scan of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScannedFile {
    /// Path within the version.
    pub path: String,
    /// Format of the file, decided by its content.
    #[schema(example = "pickle")]
    pub format: String,
    /// Whether it is safe to load.
    pub verdict: ScanVerdict,
    /// Whether it contains code that a loader runs.
    pub code: LoaderCode,
    /// What keeps it from being safe.
    pub findings: Vec<Finding>,
    /// What it imports, as `module.name`.
    pub globals: Vec<String>,
}

/// Something that keeps a file from being safe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Kind of finding; docs/trust.md lists them.
    #[schema(example = "global-not-allowed")]
    pub code: String,
    /// The file, with the members of archives that lead to the place: `model.zip!/archive/data.pkl`.
    pub path: String,
    /// What was found and what was expected.
    pub detail: String,
}
