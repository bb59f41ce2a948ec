//! The Jobs that hand the bytes of imports to the registry, and what they say.
//!
//! Jobs are not watched: while a ModelDeployment waits for its import, it is looked at every few seconds.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Secret, ServiceAccount};
use kube::api::ListParams;
use slipway_domain::Invalid;
use slipway_http_server::Problem;
use slipway_kubernetes_client::{Connection, api, apply, text};
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, Spec};
use slipway_kubernetes_serving::{Delivery, Facts, MANAGED_BY, S3Secret, unscheduled, waits};

/// Secrets of a ServiceAccount that are looked at.
const MAX_SECRETS: usize = 20;
/// What the operator needs for it.
const ROLE: &str = "deploy/kubernetes/operator-delivery-role.yaml";

/// Makes the Jobs of a cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Deliveries {
    cluster: Connection,
    facts: Facts,
}

/// Why a delivery is not made now.
pub(super) enum Obstacle {
    /// It is waited for.
    Waits(String),
    Problem(Problem),
}

impl From<Problem> for Obstacle {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Invalid> for Obstacle {
    fn from(Invalid { message, .. }: Invalid) -> Self {
        Self::Problem(Problem::invalid("uri", message))
    }
}

impl Deliveries {
    pub(super) const fn new(cluster: Connection, facts: Facts) -> Self {
        Self { cluster, facts }
    }

    /// The Secret with credentials of S3 that a ServiceAccount lists.
    pub(super) async fn secret_of(
        &self,
        namespace: &str,
        account: &str,
    ) -> Result<Option<S3Secret>, Obstacle> {
        let accounts = api::<ServiceAccount>(&self.cluster.client, namespace);
        let found =
            accounts.get(account).await.map_err(|error| obstacle("ServiceAccount", account, &error))?;
        let secrets = api::<Secret>(&self.cluster.client, namespace);
        let names = found.secrets.into_iter().flatten().filter_map(|secret| secret.name);
        for name in names.take(MAX_SECRETS) {
            // The annotations alone: the Job gets the keys from the kubelet.
            let found = secrets.get_metadata(&name).await;
            let found = found.map_err(|error| obstacle("Secret", &name, &error))?;
            let annotations = found.metadata.annotations.unwrap_or_default();
            if let Some(secret) = S3Secret::of(&name, &annotations)? {
                return Ok(Some(secret));
            }
        }
        Ok(None)
    }

    /// How far the Job of a delivery is; `None` where there is none.
    pub(super) async fn progress(
        &self,
        object: &ModelDeployment,
        delivery: Delivery<'_>,
    ) -> Result<Option<String>, Obstacle> {
        let (client, namespace, name) = (&self.cluster.client, object.namespace(), delivery.name(object));
        let jobs = api::<Job>(client, namespace);
        let found = jobs.get_opt(&name).await.map_err(|error| obstacle("Job", &name, &error))?;
        let Some(job) = found else { return Ok(None) };
        let own = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
        let pods = api::<Pod>(client, namespace).list(&own).await;
        let pods = pods.map_err(|error| obstacle("Pod", &name, &error))?;
        Ok(Some(progress(&name, &job, &pods.items)))
    }

    /// Makes the Job of a delivery, and the Secret with its token; its name.
    pub(super) async fn begin(
        &self,
        object: &ModelDeployment,
        spec: &Spec,
        delivery: Delivery<'_>,
        token: &str,
    ) -> Result<String, Obstacle> {
        let (client, namespace, name) = (&self.cluster.client, object.namespace(), delivery.name(object));
        let job = delivery.job(object, spec, &self.facts)?;
        let applied = apply(client, MANAGED_BY, namespace, &delivery.secret(object, token)).await;
        applied.map_err(|error| obstacle("Secret", &name, &error))?;
        let applied = apply(client, MANAGED_BY, namespace, &job).await;
        applied.map_err(|error| obstacle("Job", &name, &error))?;
        tracing::info!(job = name, namespace, import = delivery.import, "a Job delivers an import");
        Ok(name)
    }
}

fn obstacle(kind: &str, name: &str, error: &kube::Error) -> Obstacle {
    match error {
        kube::Error::Api(status) if status.code == 403 => Obstacle::Waits(format!(
            "the operator may not use the {kind} {name}; its Role lacks the permissions of {ROLE}"
        )),
        kube::Error::Api(status) if status.code == 404 => {
            Obstacle::Waits(format!("there is no {kind} {name}"))
        }
        kube::Error::Api(status) if matches!(status.code, 400 | 422) => {
            Obstacle::Waits(format!("{kind} {name}: {}", status.message))
        }
        error => Obstacle::Problem(Problem::unavailable(format!("the API server ({})", text(error)))),
    }
}

/// How far a Job is, as far as it and its pods say.
fn progress(name: &str, job: &Job, pods: &[Pod]) -> String {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is = |kind: &str| conditions.clone().any(|found| found.type_ == kind && found.status == "True");
    if is("Complete") {
        return format!("the Job {name} has delivered it");
    }
    let said = said(pods);
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    if is("Failed") {
        return format!("the Job {name} failed{said}; it is repeated once it is deleted");
    }
    format!("the Job {name} reads it{said}")
}

/// What the newest pod that says something says.
fn said(pods: &[Pod]) -> Option<String> {
    let mut by_age: BTreeMap<_, &Pod> = BTreeMap::new();
    for pod in pods {
        by_age.insert((pod.metadata.creation_timestamp.clone(), pod.metadata.name.clone()), pod);
    }
    by_age.into_values().rev().find_map(said_by)
}

fn said_by(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let of_container = |container: &ContainerStatus| {
        let state = container.state.as_ref()?;
        let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0);
        let ended =
            ended.map(|ended| ended.message.clone().or_else(|| ended.reason.clone()).unwrap_or_default());
        let waiting = || {
            let (reason, message) = waits(container)?;
            Some(if message.is_empty() { reason } else { format!("{reason}: {message}") })
        };
        ended.or_else(waiting)
    };
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let unscheduled = || unscheduled(status)?.message.clone();
    containers.iter().find_map(of_container).or_else(unscheduled)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, created: &str, status: Value) -> Pod {
        let metadata = json!({"name": name, "creationTimestamp": created});
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    }

    fn job(condition: &str) -> Job {
        let conditions = json!([{"type": condition, "status": "True"}]);
        serde_json::from_value(json!({"metadata": {}, "status": {"conditions": conditions}})).unwrap()
    }

    #[test]
    fn the_message_of_the_newest_pod_says_why_a_job_does_not_get_on() {
        let failed = |message: &str| {
            let ended = json!({"exitCode": 1, "message": message});
            json!({"containerStatuses": [{"name": "deliver", "state": {"terminated": ended},
                "image": "i", "imageID": "", "ready": false, "restartCount": 0}]})
        };
        let old = pod("a", "2026-01-01T00:00:00Z", failed("the old one"));
        let new = pod("b", "2026-01-01T00:01:00Z", failed("there are no files"));
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "message": "persistentvolumeclaim \"models\" not found"}]});
        let waiting = pod("c", "2026-01-01T00:02:00Z", unscheduled);
        assert_eq!(progress("fraud-1", &job("Complete"), &[]), "the Job fraud-1 has delivered it");
        assert_eq!(
            progress("fraud-1", &job("Failed"), &[new, old.clone()]),
            "the Job fraud-1 failed: there are no files; it is repeated once it is deleted"
        );
        assert_eq!(progress("fraud-1", &Job::default(), &[]), "the Job fraud-1 reads it");
        assert_eq!(
            progress("fraud-1", &Job::default(), &[old, waiting]),
            "the Job fraud-1 reads it: persistentvolumeclaim \"models\" not found"
        );
        let config = json!({"containerStatuses": [{"name": "deliver", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "CreateContainerConfigError",
                "message": "couldn't find key AWS_ACCESS_KEY_ID"}}}]});
        assert_eq!(
            said(&[pod("d", "2026-01-01T00:03:00Z", config)]).unwrap(),
            "CreateContainerConfigError: couldn't find key AWS_ACCESS_KEY_ID"
        );
    }
}
