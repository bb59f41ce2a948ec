//! A scan of the files of a version: is all of their content understood, and does one of them carry code that a loader runs?

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use slipway_artifact_store::ArtifactStore;
use slipway_model_scan::{Code, Context, Finding, Format, LoaderCode, Policy, Verdict};
use tokio::sync::Semaphore;

use super::within;
use crate::error::{Error, of_file};
use crate::store::artifacts::Artifact;

/// Scans at once, each of which holds a file on the local disk.
const SCANS_AT_ONCE: usize = 2;
/// A longer file is not fetched, and is not verified.
const MAX_SCANNED_BYTES: i64 = 4 * 1024 * 1024 * 1024;
/// Findings of one file that are kept.
const MAX_FINDINGS: usize = 20;
/// Files with code that a card names.
const MAX_NAMED_FILES: usize = 5;
/// Imports of one file that are kept.
const MAX_GLOBALS: usize = 100;
/// What a scan may unpack on the local disk.
const MAX_INFLATED_BYTES: u64 = 4 * 1024 * 1024 * 1024;

static PERMITS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(SCANS_AT_ONCE)));

/// The rules that a scan follows, as a number that grows with them. Versions that were scanned by earlier rules are inspected
/// again when the registry starts, and count as unverified until then.
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

/// Looks into every file. `model` is the path of the ONNX model and `weights` are those of its weights, whose references were
/// checked.
///
/// # Errors
/// The store or the local disk fails.
pub(super) async fn scan(
    store: &ArtifactStore,
    root: &str,
    files: &[Artifact],
    (model, weights): (Option<&str>, &[String]),
    policy: &Policy,
) -> Result<Scan, Error> {
    let mut found = Vec::new();
    let names: BTreeSet<String> = files.iter().map(|file| within(root, &file.path).to_owned()).collect();
    let context = Arc::new(Context { files: names, weights: weights.iter().cloned().collect() });
    let (mut verdict, mut code) = (Verdict::Safe, LoaderCode::None);
    for file in files {
        let path = within(root, &file.path);
        let one = if file.size_bytes > MAX_SCANNED_BYTES {
            too_long(path, file.size_bytes)
        } else {
            scan_file(store, path, file, (policy.clone(), Arc::clone(&context))).await?
        };
        verdict = verdict.max(one.verdict);
        code = code.max(one.code);
        let is_model = model == Some(path) && one.format == Format::Onnx;
        if one.verdict != Verdict::Safe || (one.format.makes_objects() && !is_model) {
            found.push(one);
        }
    }
    Ok(Scan { verdict, code, rules: RULES, scanned: files.len(), files: found })
}

/// The setting that adds to the globals which pickles may use.
const GLOBALS_SETTING: &str = "SLIPWAY_ALLOWED_PICKLE_GLOBALS";

/// The policy of this registry: data constructors, the classes of ordinary models, and what its operator allows besides.
pub(crate) fn policy(allowed_globals: &[String]) -> Policy {
    let mut policy = Policy::default().allow(allowed_globals.iter().cloned());
    policy.setting = Some(GLOBALS_SETTING);
    policy.limits.inflated_bytes = MAX_INFLATED_BYTES;
    policy
}

fn too_long(path: &str, size_bytes: i64) -> ScannedFile {
    let detail = format!("{size_bytes} bytes are more than are looked into, which is {MAX_SCANNED_BYTES}");
    ScannedFile {
        path: path.to_owned(),
        format: Format::Other,
        verdict: Verdict::Unverified,
        code: LoaderCode::Unknown,
        findings: vec![Finding { code: Code::NotUnderstood, path: path.to_owned(), detail }],
        globals: Vec::new(),
    }
}

async fn scan_file(
    store: &ArtifactStore,
    path: &str,
    file: &Artifact,
    (policy, context): (Policy, Arc<Context>),
) -> Result<ScannedFile, Error> {
    let permit = PERMITS.clone().acquire_owned().await.map_err(Error::internal)?;
    let folder = tempfile::tempdir().map_err(Error::internal)?;
    let local = folder.path().join("file");
    store
        .download_verified(&file.blob_key, &file.sha256, &local)
        .await
        .map_err(|error| of_file(&file.path, error))?;
    let name = path.to_owned();
    let scanned = tokio::task::spawn_blocking(move || {
        let _held = (permit, folder);
        let report = slipway_model_scan::scan_within(&name, File::open(&local)?, &policy, &context)?;
        std::io::Result::Ok((name, report))
    });
    let (path, mut report) = scanned.await.map_err(Error::internal)?.map_err(Error::internal)?;
    report.findings.truncate(MAX_FINDINGS);
    report.globals.truncate(MAX_GLOBALS);
    let slipway_model_scan::Report { format, verdict, code, findings, globals, .. } = report;
    Ok(ScannedFile { path, format, verdict, code, findings, globals })
}
