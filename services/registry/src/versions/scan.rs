//! A look into the files beside the ONNX model, which is inspected on its own: could one of them run code where it is loaded?

use std::fs::File;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use slipway_artifact_store::ArtifactStore;
use slipway_model_scan::{Code, Finding, Format, Policy, Verdict};
use tokio::sync::Semaphore;

use super::within;
use crate::error::{Error, of_file};
use crate::store::artifacts::Artifact;

/// Scans at once, each of which holds a file on the local disk.
const SCANS_AT_ONCE: usize = 2;
/// A longer file is not fetched, and counts as unsafe.
const MAX_SCANNED_BYTES: i64 = 4 * 1024 * 1024 * 1024;
/// Findings of one file that are kept.
const MAX_FINDINGS: usize = 20;
/// Imports of one file that are kept.
const MAX_GLOBALS: usize = 100;
/// What a scan may unpack on the local disk.
const MAX_INFLATED_BYTES: u64 = 4 * 1024 * 1024 * 1024;

static PERMITS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(SCANS_AT_ONCE)));

/// What was found in the files of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scan {
    /// `unsafe` where one of the files is.
    pub(crate) verdict: Verdict,
    /// Files that were looked at.
    pub(crate) scanned: usize,
    /// Files that are more than inert text or data, and every unsafe one.
    pub(crate) files: Vec<ScannedFile>,
}

/// What was found in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScannedFile {
    /// Path within the version.
    pub(crate) path: String,
    pub(crate) format: Format,
    pub(crate) verdict: Verdict,
    pub(crate) findings: Vec<Finding>,
    /// What it imports, as `module.name`.
    pub(crate) globals: Vec<String>,
}

impl Scan {
    /// Why nobody should load the version, in one sentence.
    pub(crate) fn reason(&self) -> Option<String> {
        let file = self.files.iter().find(|file| file.verdict == Verdict::Unsafe)?;
        let why = file.findings.first().map_or("it is not safe", |finding| finding.detail.as_str());
        Some(format!("the file '{}' is not safe to load: {why}", file.path))
    }
}

/// Looks into every file but those that `skipped` names.
///
/// # Errors
/// The store or the local disk fails.
pub(super) async fn scan(
    store: &ArtifactStore,
    root: &str,
    files: &[Artifact],
    skipped: impl Fn(&str) -> bool,
    policy: &Policy,
) -> Result<Scan, Error> {
    let mut found = Vec::new();
    let looked_at: Vec<&Artifact> = files.iter().filter(|file| !skipped(within(root, &file.path))).collect();
    for file in &looked_at {
        let path = within(root, &file.path);
        let one = if file.size_bytes > MAX_SCANNED_BYTES {
            too_long(path, file.size_bytes)
        } else {
            scan_file(store, path, file, policy.clone()).await?
        };
        if one.format != Format::Other || one.verdict == Verdict::Unsafe {
            found.push(one);
        }
    }
    let verdict =
        if found.iter().all(|file| file.verdict == Verdict::Safe) { Verdict::Safe } else { Verdict::Unsafe };
    Ok(Scan { verdict, scanned: looked_at.len(), files: found })
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
        verdict: Verdict::Unsafe,
        findings: vec![Finding { code: Code::LimitExceeded, path: path.to_owned(), detail }],
        globals: Vec::new(),
    }
}

async fn scan_file(
    store: &ArtifactStore,
    path: &str,
    file: &Artifact,
    policy: Policy,
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
        let report = slipway_model_scan::scan(&name, File::open(&local)?, &policy)?;
        std::io::Result::Ok((name, report))
    });
    let (path, mut report) = scanned.await.map_err(Error::internal)?.map_err(Error::internal)?;
    report.findings.truncate(MAX_FINDINGS);
    report.globals.truncate(MAX_GLOBALS);
    let slipway_model_scan::Report { format, verdict, findings, globals, .. } = report;
    Ok(ScannedFile { path, format, verdict, findings, globals })
}
