//! The kinds of manifests, and Kubernetes' own Job.

use serde_json::Value;
use slipway_domain::Invalid;
use slipway_domain::training::QUEUE_LABEL;

use crate::fields::Fields;
use crate::policy::{take_limits, take_suspend};
use crate::{Converted, kubeflow, pod};

/// What kubectl keeps for itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Fields that an API server adds.
const OF_THE_SERVER: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];
/// `terminationGracePeriodSeconds` of a pod that says nothing.
const DEFAULT_GRACE_PERIOD_S: f64 = 30.0;

/// Whether a document is an object of Kubernetes.
pub fn is_manifest(document: &Value) -> bool {
    document.get("apiVersion").is_some() && document.get("kind").is_some()
}

pub(crate) fn convert(manifest: &Value) -> Result<Converted, Invalid> {
    let mut fields = Fields::of("", manifest.clone())?;
    let version: String = fields.take("apiVersion")?.unwrap_or_default();
    let kind: String = fields.take("kind")?.unwrap_or_default();
    fields.ignore(&["status"]);
    let mut into = Converted::default();
    into.job.grace_period_s = DEFAULT_GRACE_PERIOD_S;
    take_metadata(&mut fields, &mut into)?;
    let mut spec = fields.object("spec")?;
    match (version.as_str(), kind.as_str()) {
        ("batch/v1", "Job") => take_job(&mut spec, &mut into)?,
        ("kubeflow.org/v1", "PyTorchJob") => kubeflow::take_pytorch(&mut spec, &mut into)?,
        ("kubeflow.org/v1", "TFJob") => kubeflow::take_tensorflow(&mut spec, &mut into)?,
        ("trainer.kubeflow.org/v1alpha1", "TrainJob") => kubeflow::take_train_job(&mut spec, &mut into)?,
        _ => {
            let message = format!(
                "expected a Job of batch/v1, a PyTorchJob or a TFJob of kubeflow.org/v1, or a TrainJob of \
                 trainer.kubeflow.org/v1alpha1, got `{kind}` of `{version}`"
            );
            return Err(Invalid::new("kind", message));
        }
    }
    spec.drop_into(&mut into.dropped);
    fields.drop_into(&mut into.dropped);
    into.dropped.sort();
    Ok(into)
}

fn take_metadata(fields: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    let mut metadata = fields.object("metadata")?;
    metadata.ignore(&OF_THE_SERVER);
    let generated: Option<String> = metadata.take("generateName")?;
    let generated = generated.map(|name| name.trim_end_matches('-').to_owned());
    into.job.name = metadata
        .take("name")?
        .or(generated)
        .ok_or_else(|| metadata.invalid("name", "expected the name of the job"))?;
    into.kubernetes.namespace = metadata.take("namespace")?;
    let mut labels = metadata.take_map("labels")?;
    into.kubernetes.queue = labels.remove(QUEUE_LABEL);
    into.kubernetes.labels = labels;
    let mut annotations = metadata.take_map("annotations")?;
    annotations.remove(LAST_APPLIED);
    into.kubernetes.annotations = annotations;
    metadata.drop_into(&mut into.dropped);
    Ok(())
}

fn take_job(spec: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    take_suspend(spec, into)?;
    let limits = take_limits(spec, into)?;
    let mut template = spec.object("template")?;
    pod::take(&mut template, None, into)?;
    template.drop_into(&mut into.dropped);
    into.job.timeout_s = limits.or(into.job.timeout_s);
    let parallelism: u32 = spec.take("parallelism")?.unwrap_or(1);
    let completions: u32 = spec.take("completions")?.unwrap_or(parallelism);
    let is_indexed = spec.take::<String>("completionMode")?.is_some_and(|mode| mode == "Indexed");
    if completions > 1 {
        if !is_indexed || parallelism != completions {
            let message = "several pods are the processes of one job: expected completionMode Indexed, and \
                as many completions as pods at a time (parallelism)";
            return Err(spec.invalid("completions", message));
        }
        into.kubernetes.replicas.insert("worker".to_owned(), completions);
    }
    spec.ignore(&["selector", "manualSelector", "podReplacementPolicy"]);
    Ok(())
}
