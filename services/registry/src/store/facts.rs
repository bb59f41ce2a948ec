//! What an inspection of a version's files found, as it is stored with the version.

use serde::{Deserialize, Serialize};
use slipway_domain::registry::TensorSpec;
use slipway_model_scan::{Finding, Format, LoaderCode, Verdict};

/// Files with code that a card names.
const MAX_NAMED_FILES: usize = 5;

/// What was read from a version's files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Why serving cannot load it.
    pub(crate) unservable_reason: Option<String>,
    /// Path of the ONNX file within the version.
    pub(crate) onnx_path: Option<String>,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
    /// Files of weights next to the ONNX file, paths within the version.
    pub(crate) external_data: Vec<String>,
    /// The signature that was logged with the model, as JSON.
    pub(crate) signature: Option<String>,
    /// What was found in the other files; absent for versions of a source that lies elsewhere.
    #[serde(default)]
    pub(crate) scan: Option<Scan>,
    /// Whether serving joins its requests; absent for ensembles, and for versions from before it was looked
    /// at.
    #[serde(default)]
    pub(crate) joining: Option<Joining>,
    /// What of its run's training profile did not fit the version when it was registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) profile_misfit: Option<String>,
    /// Revision of the inspection that found all this; 0 for versions from before revisions were counted.
    #[serde(default)]
    pub(crate) inspection: u32,
}

/// Whether a model answers row by row, so that rows of several requests may share a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Joining {
    /// Whether the analysis of the graph proves it.
    pub(crate) row_wise: bool,
    /// What stands in the way, with the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl Facts {
    /// Facts of a version that serving cannot load.
    pub(crate) fn unservable(reason: impl Into<String>) -> Self {
        Self { unservable_reason: Some(reason.into()), ..Self::default() }
    }
}

/// One input or output of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// Open Inference Protocol name.
    pub(crate) datatype: String,
    /// -1 for a dimension that varies.
    pub(crate) shape: Vec<i64>,
    /// Names of the classes along the last dimension, where the model says them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) classes: Vec<String>,
}

impl From<TensorSpec> for Tensor {
    fn from(spec: TensorSpec) -> Self {
        Self { name: spec.name, datatype: spec.datatype, shape: spec.shape, classes: Vec::new() }
    }
}

/// The rules that a scan follows, as a number that grows with them. Versions that were scanned by earlier
/// rules are inspected again when the registry starts, and count as unverified until then.
pub(crate) const RULES: u32 = 2;

/// What was found in the files of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredScan")]
pub(crate) struct Scan {
    /// The worst verdict on one of the files.
    pub(crate) verdict: Verdict,
    /// Whether one of the files carries code that a loader runs.
    pub(crate) code: LoaderCode,
    /// The rules that it followed.
    pub(crate) rules: u32,
    /// Files that were looked at.
    pub(crate) scanned: usize,
    /// Files of which a loader makes objects, and every file that is not safe.
    pub(crate) files: Vec<ScannedFile>,
}

/// A scan as it was stored, perhaps by an earlier release.
#[derive(Deserialize)]
struct StoredScan {
    verdict: Verdict,
    #[serde(default = "not_known")]
    code: LoaderCode,
    #[serde(default)]
    rules: u32,
    scanned: usize,
    files: Vec<ScannedFile>,
}

impl From<StoredScan> for Scan {
    fn from(stored: StoredScan) -> Self {
        let StoredScan { verdict, code, rules, scanned, files } = stored;
        // What earlier rules took for safe may not be.
        let verdict = if rules < RULES { verdict.max(Verdict::Unverified) } else { verdict };
        Self { verdict, code, rules, scanned, files }
    }
}

fn not_known() -> LoaderCode {
    LoaderCode::Unknown
}

/// What was found in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScannedFile {
    /// Path within the version.
    pub(crate) path: String,
    pub(crate) format: Format,
    pub(crate) verdict: Verdict,
    /// Whether it carries code that a loader runs.
    #[serde(default = "not_known")]
    pub(crate) code: LoaderCode,
    pub(crate) findings: Vec<Finding>,
    /// What it imports, as `module.name`.
    pub(crate) globals: Vec<String>,
}

impl Scan {
    /// Why the version must not be loaded, in one sentence; none where no file is unsafe.
    pub(crate) fn danger(&self) -> Option<String> {
        self.reason_for(Verdict::Unsafe, "is not safe to load")
    }

    /// Why the version is not safe, in one sentence.
    pub(crate) fn reason(&self) -> Option<String> {
        if self.verdict == Verdict::Safe {
            return None;
        }
        let reason = self.danger().or_else(|| self.reason_for(Verdict::Unverified, "is not verified"));
        Some(reason.unwrap_or_else(|| "its files were scanned by the rules of an earlier release".to_owned()))
    }

    fn reason_for(&self, verdict: Verdict, what: &str) -> Option<String> {
        let file = self.files.iter().find(|file| file.verdict == verdict)?;
        let why = file.findings.iter().find(|finding| finding.code.verdict() == verdict);
        let why = why.map_or_else(String::new, |finding| {
            let within = finding.path.strip_prefix(file.path.as_str()).unwrap_or(&finding.path);
            let within = if within.is_empty() { String::new() } else { format!("in '{within}' ") };
            format!(": {within}{}", finding.detail)
        });
        Some(format!("the file '{}' {what}{why}", file.path))
    }

    /// Files that carry code that a loader runs, the first few of them.
    pub(crate) fn code_files(&self) -> Vec<&str> {
        let carrying = self.files.iter().filter(|file| file.code == LoaderCode::Present);
        carrying.map(|file| file.path.as_str()).take(MAX_NAMED_FILES).collect()
    }

    /// What it says about code, in one sentence.
    pub(crate) fn code_text(&self) -> String {
        match self.code {
            LoaderCode::None => "none".to_owned(),
            LoaderCode::Unknown => "not known, because some content was not understood".to_owned(),
            LoaderCode::Present => format!("in {}", self.code_files().join(", ")),
        }
    }
}
