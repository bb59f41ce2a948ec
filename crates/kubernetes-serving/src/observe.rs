//! What the objects' status says about the pods of a ModelDeployment.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use slipway_kubernetes_resources::model_deployment::Pods;

/// Reasons for which a container waits that pass by themselves.
const USUAL: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// Longest text of a problem.
const MAX_CHARS: usize = 500;

/// The pods: how many there are, and why one of them does not start.
pub fn pods<'pods>(deployment: &Deployment, pods: impl Iterator<Item = &'pods Pod>) -> Pods {
    let status = deployment.status.clone().unwrap_or_default();
    let is_current = status.observed_generation >= deployment.metadata.generation;
    let failed = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    let refused = failed.map(|condition| {
        let reason = condition.reason.clone().unwrap_or_else(|| "ReplicaFailure".to_owned());
        (reason, condition.message.clone().unwrap_or_default())
    });
    Pods {
        desired: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        replicas: status.replicas.unwrap_or_default(),
        updated: if is_current { status.updated_replicas.unwrap_or_default() } else { 0 },
        ready: status.ready_replicas.unwrap_or_default(),
        problem: refused
            .or_else(|| pods.filter_map(problem).min())
            .map(|(reason, message)| (reason, shortened(message))),
    }
}

/// The pods of a ModelDeployment whose versions have pods of their own: those of the stable version, and why
/// a pod of any version does not start.
pub fn pods_of_versions(stable: Option<Pods>, all: Vec<Pods>) -> Pods {
    let problem = all.into_iter().find_map(|pods| pods.problem);
    let stable = stable.unwrap_or_default();
    Pods { problem: stable.problem.clone().or(problem), ..stable }
}

/// Why a pod does not start.
fn problem(pod: &Pod) -> Option<(String, String)> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = pod.status.as_ref()?;
    if let Some(condition) = unscheduled(status) {
        let reason = condition.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned());
        return Some((reason, condition.message.clone().unwrap_or_default()));
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers.into_iter().find_map(waits)
}

/// The condition that says why a pod has no node.
pub fn unscheduled(status: &PodStatus) -> Option<&PodCondition> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
}

/// Why a container does not start, in one word and for people.
pub fn waits(container: &ContainerStatus) -> Option<(String, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_ref().filter(|reason| !USUAL.contains(&reason.as_str()))?;
    // What it printed last says more than that it is started again.
    let ended = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let printed =
        ended.and_then(|ended| ended.message.as_deref()).and_then(|text| text.trim().lines().last());
    let message = printed.map(str::to_owned).or_else(|| waiting.message.clone()).unwrap_or_default();
    Some((reason.clone(), message))
}

fn shortened(message: String) -> String {
    match message.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(status: Value) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "fraud", "generation": 2},
            "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": status}))
        .unwrap()
    }

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "fraud-1"}, "status": status})).unwrap()
    }

    #[test]
    fn pods_of_the_template_before_do_not_count_as_updated() {
        let status =
            json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2});
        let seen = pods(&deployment(status), std::iter::empty());
        assert_eq!((seen.desired, seen.replicas, seen.updated, seen.ready), (2, 2, 0, 2));
        assert_eq!(seen.problem, None);
    }

    #[test]
    fn what_keeps_a_pod_from_starting_is_told() {
        let waiting = |state: Value, last: Value| {
            pod(json!({"containerStatuses": [{"name": "serving", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": state}, "lastState": last}]}))
        };
        let told = |pod: Pod| pods(&deployment(json!({})), std::iter::once(&pod)).problem;
        let is = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
        let pull = waiting(json!({"reason": "ImagePullBackOff", "message": "no such image"}), json!({}));
        assert_eq!(told(pull), is("ImagePullBackOff", "no such image"));
        let last = json!({"terminated": {"exitCode": 1, "message": "started\nerror: no library\n"}});
        let crashed = waiting(json!({"reason": "CrashLoopBackOff", "message": "back-off 10s"}), last);
        assert_eq!(told(crashed), is("CrashLoopBackOff", "error: no library"));
        assert_eq!(told(waiting(json!({"reason": "ContainerCreating"}), json!({}))), None);
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]});
        let expected = is("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.");
        assert_eq!(told(pod(unscheduled)), expected);
        let quota = json!({"conditions": [{"type": "ReplicaFailure", "status": "True",
            "reason": "FailedCreate", "message": "exceeded quota"}]});
        let refused = pods(&deployment(quota), std::iter::empty()).problem;
        assert_eq!(refused, is("FailedCreate", "exceeded quota"));
    }
}
