//! From rows to the bodies of models and versions.

use serde_json::Value;
use slipway_api::rest::registry as body;
use slipway_domain::registry::validate_version;
use slipway_model_scan as scan;
use slipway_model_signing as signing;

use crate::error::Error;
use crate::models::registered_models::Detailed;
use crate::store::facts::{self, Facts};
use crate::store::model_versions::{ModelVersion, VersionFile, VersionName};

/// The version that a path names.
pub(super) fn version_name<'name>(model: &'name str, version: &str) -> Result<VersionName<'name>, Error> {
    Ok(VersionName { model, version: validate_version(version)? })
}

fn verdict(verdict: scan::Verdict) -> body::ScanVerdict {
    match verdict {
        scan::Verdict::Safe => body::ScanVerdict::Safe,
        scan::Verdict::Unverified => body::ScanVerdict::Unverified,
        scan::Verdict::Unsafe => body::ScanVerdict::Unsafe,
    }
}

fn loader_code(code: scan::LoaderCode) -> body::LoaderCode {
    match code {
        scan::LoaderCode::None => body::LoaderCode::None,
        scan::LoaderCode::Unknown => body::LoaderCode::Unknown,
        scan::LoaderCode::Present => body::LoaderCode::Present,
    }
}

/// The name of a unit variant, as it is serialized.
fn name_of(variant: &impl serde::Serialize) -> String {
    serde_json::to_value(variant).ok().as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn scanned_file(file: &facts::ScannedFile) -> body::ScannedFile {
    let finding = |finding: &scan::Finding| body::Finding {
        code: name_of(&finding.code),
        path: finding.path.clone(),
        detail: finding.detail.clone(),
    };
    body::ScannedFile {
        path: file.path.clone(),
        format: name_of(&file.format),
        verdict: verdict(file.verdict),
        code: loader_code(file.code),
        findings: file.findings.iter().map(finding).collect(),
        globals: file.globals.clone(),
    }
}

pub(super) fn scan_body(scan: &facts::Scan) -> body::Scan {
    body::Scan {
        verdict: verdict(scan.verdict),
        code: loader_code(scan.code),
        rules: scan.rules,
        scanned: scan.scanned as u64,
        files: scan.files.iter().map(scanned_file).collect(),
    }
}

fn signature_state(state: signing::State) -> body::SignatureState {
    match state {
        signing::State::Unsigned => body::SignatureState::Unsigned,
        signing::State::Valid => body::SignatureState::Valid,
        signing::State::UntrustedKey => body::SignatureState::UntrustedKey,
        signing::State::Mismatch => body::SignatureState::Mismatch,
        signing::State::NotVerifiable => body::SignatureState::NotVerifiable,
        signing::State::Malformed => body::SignatureState::Malformed,
    }
}

pub(super) fn signature_verdict(verdict: &signing::Verdict) -> body::SignatureVerdict {
    let difference = |difference: &signing::Difference| body::Difference {
        path: difference.path.clone(),
        kind: name_of(&difference.kind),
    };
    body::SignatureVerdict {
        state: signature_state(verdict.state),
        key: verdict.key.clone(),
        signer: verdict.signer.clone(),
        detail: verdict.detail.clone(),
        differences: verdict.differences.iter().map(difference).collect(),
    }
}

fn tensor(tensor: &facts::Tensor) -> body::Tensor {
    let facts::Tensor { name, datatype, shape, classes } = tensor.clone();
    body::Tensor { name, datatype, shape, classes }
}

pub(super) fn tensors(tensors: &[facts::Tensor]) -> Vec<body::Tensor> {
    tensors.iter().map(tensor).collect()
}

pub(super) fn joining_body(joining: &facts::Joining) -> body::Joining {
    body::Joining { row_wise: joining.row_wise, reason: joining.reason.clone() }
}

/// The signature that was logged with the model.
pub(super) fn logged_signature(facts: &Facts) -> Option<body::JsonObject> {
    let signature: Value = serde_json::from_str(facts.signature.as_deref()?).ok()?;
    signature.is_object().then(|| signature.into())
}

pub(super) fn model_body(detailed: &Detailed) -> body::Model {
    let latest = detailed.newest();
    let scan = latest.and_then(|version| version.facts.0.scan.as_ref());
    let model = &detailed.model;
    body::Model {
        name: model.name.clone(),
        description: model.description.clone(),
        latest_version: latest.map(|version| version.version.to_string()),
        latest_servable: latest.map(|version| version.servable),
        latest_unservable_reason: latest.and_then(|version| version.facts.0.unservable_reason.clone()),
        latest_scan_verdict: scan.map(|scan| verdict(scan.verdict)),
        latest_loader_code: scan.map(|scan| loader_code(scan.code)),
        aliases: model.aliases.0.iter().cloned().collect(),
        tags: model.tags.0.iter().cloned().collect(),
        created_at_unix_ms: model.created_ms,
        updated_at_unix_ms: model.updated_ms,
    }
}

pub(super) fn version_body(version: &ModelVersion) -> body::Version {
    let facts = &version.facts.0;
    body::Version {
        model: version.name.clone(),
        version: version.version.to_string(),
        status: version.status.clone(),
        stage: version.stage.clone(),
        digest: version.digest.clone(),
        servable: version.servable,
        unservable_reason: facts.unservable_reason.clone(),
        scan_verdict: facts.scan.as_ref().map(|scan| verdict(scan.verdict)),
        scan_reason: facts.scan.as_ref().and_then(facts::Scan::reason),
        loader_code: facts.scan.as_ref().map(|scan| loader_code(scan.code)),
        aliases: version.aliases.clone(),
        run_id: version.run_id.clone(),
        source: version.source.clone(),
        description: version.description.clone(),
        tags: version.tags.0.iter().cloned().collect(),
        inputs: tensors(&facts.inputs),
        outputs: tensors(&facts.outputs),
        joining: facts.joining.as_ref().map(joining_body),
        created_at_unix_ms: version.created_ms,
        updated_at_unix_ms: version.updated_ms,
    }
}

pub(super) fn version_details(
    version: &ModelVersion,
    files: Vec<VersionFile>,
    verdict: &signing::Verdict,
) -> body::VersionDetails {
    let facts = &version.facts.0;
    let file = |file: VersionFile| body::VersionFile {
        path: file.path,
        size_bytes: file.size_bytes,
        sha256: file.sha256,
    };
    body::VersionDetails {
        version: version_body(version),
        files: files.into_iter().map(file).collect(),
        scan: facts.scan.as_ref().map(scan_body),
        signing: signature_verdict(verdict),
        signature: logged_signature(facts),
    }
}
