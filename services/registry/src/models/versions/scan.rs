//! A scan of the files of a version: is all of their content understood, and does one of them carry code that
//! a loader runs?

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Arc, LazyLock};

use slipway_artifact_store::ArtifactStore;
use slipway_model_scan::{Code, Context, Finding, Format, LoaderCode, Policy, Verdict};
use tokio::sync::Semaphore;

use crate::error::{Error, of_file};
use crate::store::artifacts::{Artifact, within};
use crate::store::facts::{RULES, Scan, ScannedFile};

/// Scans at once, each of which holds a file on the local disk.
const SCANS_AT_ONCE: usize = 2;
/// A longer file is not fetched, and is not verified.
const MAX_SCANNED_BYTES: i64 = 4 * 1024 * 1024 * 1024;
/// Findings of one file that are kept.
const MAX_FINDINGS: usize = 20;
/// Imports of one file that are kept.
const MAX_GLOBALS: usize = 100;
/// What a scan may unpack on the local disk.
const MAX_INFLATED_BYTES: u64 = 4 * 1024 * 1024 * 1024;

static PERMITS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(SCANS_AT_ONCE)));

/// Looks into every file. `model` is the path of the ONNX model and `weights` are those of its weights, whose
/// references were checked.
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

/// The policy of this registry: data constructors, the classes of ordinary models, and what its operator
/// allows besides.
pub(crate) fn policy(allowed_globals: &[String]) -> Policy {
    let mut policy = Policy::default().allow(allowed_globals.iter().cloned());
    policy.setting = Some(GLOBALS_SETTING);
    policy.limits.inflated_bytes = MAX_INFLATED_BYTES;
    policy
}

fn too_long(path: &str, size_bytes: i64) -> ScannedFile {
    let detail = format!("{size_bytes} bytes exceed the limit of {MAX_SCANNED_BYTES} bytes for scans");
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
