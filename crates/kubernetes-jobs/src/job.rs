//! The Job and the Secret of an attempt.

use std::collections::BTreeMap;

use k8s_openapi::Resource as _;
use k8s_openapi::api::batch::v1::{
    Job, JobSpec as BatchJobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule, SuccessPolicy, SuccessPolicyRule,
};
use k8s_openapi::api::core::v1::{PodTemplateSpec, Secret, Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use slipway_domain::Invalid;
use slipway_domain::training::{Group, QUEUE_LABEL, TRAINING_JOB_KEY};

use crate::attempt::Attempt;
use crate::facts::Facts;
use crate::{names, pod};

/// Condition of a pod that was evicted, preempted, or lost with its node.
///
/// Source: <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions>.
pub(crate) const DISRUPTION: &str = "DisruptionTarget";

/// Group and version of TrainingJobs.
const TRAINING_JOB_VERSION: &str = "slipway.dev/v1alpha1";

/// The Job of an attempt.
///
/// It runs one pod, or one for each process of a distributed job. Pods are not replaced: `backoffLimit` is 0,
/// so that one failure ends them all, and a pod that is disrupted fails the Job with a reason of its own.
///
/// # Errors
/// A preset does not exist, or a value of one of Kubernetes' types is not one; names the field.
pub fn build(attempt: &Attempt<'_>, facts: &Facts) -> Result<Job, Invalid> {
    let mut metadata = attempt.metadata(facts);
    metadata.owner_references = training_job(attempt);
    let queue = attempt.kubernetes.queue.as_ref();
    if let (Some(queue), Some(labels)) = (queue, &mut metadata.labels) {
        labels.insert(QUEUE_LABEL.to_owned(), queue.clone());
    }
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(attempt.labels(facts)),
            annotations: attempt.annotations(),
            ..ObjectMeta::default()
        }),
        spec: Some(pod::spec(attempt, facts)?),
    };
    let group = attempt.group()?;
    let processes = i32::try_from(group.as_ref().map_or(1, Group::processes)).unwrap_or(i32::MAX);
    let ttl_s = attempt.kubernetes.ttl_s.unwrap_or(facts.ttl_s);
    Ok(Job {
        metadata,
        spec: Some(BatchJobSpec {
            backoff_limit: Some(0),
            completion_mode: group.as_ref().map(|_| "Indexed".to_owned()),
            completions: Some(processes),
            parallelism: Some(processes),
            pod_failure_policy: Some(PodFailurePolicy { rules: vec![disrupted()] }),
            // A pod that is terminating still runs: nothing may start beside it.
            pod_replacement_policy: Some("Failed".to_owned()),
            success_policy: group.as_ref().and_then(trained),
            // Kueue starts it.
            suspend: queue.map(|_| true),
            template,
            ttl_seconds_after_finished: Some(i32::try_from(ttl_s).unwrap_or(i32::MAX)),
            ..BatchJobSpec::default()
        }),
        status: None,
    })
}

/// The TrainingJob that submitted the job: what ran for it goes with it.
fn training_job(attempt: &Attempt<'_>) -> Option<Vec<OwnerReference>> {
    let uid = attempt.spec.idempotency_key.as_deref()?.strip_prefix(TRAINING_JOB_KEY)?;
    Some(vec![OwnerReference {
        api_version: TRAINING_JOB_VERSION.to_owned(),
        kind: "TrainingJob".to_owned(),
        name: attempt.spec.name.clone(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    }])
}

/// A job with processes that do not train, and may never end, is done when the others are.
fn trained(group: &Group) -> Option<SuccessPolicy> {
    let last = group.trainers().checked_sub(1).filter(|_| group.trainers() < group.processes())?;
    // An interval of one number is refused.
    let trainers = if last == 0 { "0".to_owned() } else { format!("0-{last}") };
    let rule = SuccessPolicyRule { succeeded_indexes: Some(trainers), succeeded_count: None };
    Some(SuccessPolicy { rules: vec![rule] })
}

fn disrupted() -> PodFailurePolicyRule {
    PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            status: "True".to_owned(),
            type_: DISRUPTION.to_owned(),
        }]),
        ..PodFailurePolicyRule::default()
    }
}

/// The headless Service by which the processes of a distributed job find each other before they are ready;
/// `None` for one process.
///
/// # Errors
/// The roles are not valid.
pub fn service(attempt: &Attempt<'_>, facts: &Facts) -> Result<Option<Service>, Invalid> {
    let service = |_: Group| Service {
        metadata: attempt.metadata(facts),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::labels(
                &BTreeMap::new(),
                &facts.installation,
                attempt.job_id,
                attempt.attempt,
            )),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    Ok(attempt.group()?.map(service))
}

/// Has an object be deleted with the Job of its attempt.
pub fn owned_by(metadata: &mut ObjectMeta, job: &Job) {
    let (name, uid) = (job.metadata.name.clone(), job.metadata.uid.clone());
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: Job::API_VERSION.to_owned(),
        kind: Job::KIND.to_owned(),
        name: name.unwrap_or_default(),
        uid: uid.unwrap_or_default(),
        ..OwnerReference::default()
    }]);
}

/// The Secret of an attempt, with the values of its secret variables.
pub fn secret(attempt: &Attempt<'_>, values: BTreeMap<String, String>, facts: &Facts) -> Secret {
    Secret {
        metadata: attempt.metadata(facts),
        string_data: Some(values),
        immutable: Some(true),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}
