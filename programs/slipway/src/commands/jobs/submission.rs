//! Jobs as people have them in files.

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use slipway_api::rest::launcher::JobSpec;
use slipway_domain::{Invalid, training};
use slipway_http_server::json;
use slipway_kubernetes_resources::training_job;
use slipway_training_manifests::{Converted, convert, is_manifest};

use crate::commands::context::{as_json, read_text};
use crate::output::errln;

/// The job in a file: as the launcher takes it, or a manifest of Kubernetes, Kubeflow or Slipway. What a
/// manifest has and a job does not is listed on standard error.
///
/// # Errors
/// The file cannot be read, or is neither.
pub(super) fn read(path: &str) -> anyhow::Result<JobSpec> {
    let text = read_text(path)?;
    let text = as_json(&text).with_context(|| path.to_owned())?;
    let document: Option<Value> = serde_json::from_str(&text).ok().filter(is_manifest);
    let Some(manifest) = document else {
        return json::read(text.as_bytes()).with_context(|| path.to_owned());
    };
    let (job, dropped) = converted(&manifest).map_err(|invalid| anyhow!("{path}: {invalid}"))?;
    for field in dropped {
        errln!("{path}: dropped, since it has no counterpart: {field}");
    }
    Ok(job)
}

fn converted(manifest: &Value) -> Result<(JobSpec, Vec<String>), Invalid> {
    if let Some(own) = training_job::from_manifest(manifest) {
        return own;
    }
    let Converted { job, kubernetes, dropped } = convert(manifest)?;
    let job = training::JobSpec { kubernetes: Some(kubernetes), ..job };
    Ok((job.into(), dropped))
}
