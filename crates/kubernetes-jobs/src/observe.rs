//! What the objects of an attempt say about it.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use crate::container::{COMMAND, INDEX_ANNOTATION};
use crate::job::DISRUPTION;

/// Reasons for which a container never starts as it is. Source: kubelet's
/// <https://pkg.go.dev/k8s.io/kubernetes/pkg/kubelet/images#pkg-variables> and
/// <https://pkg.go.dev/k8s.io/kubernetes/pkg/kubelet/kuberuntime#pkg-variables>.
const HOPELESS: [&str; 1] = ["InvalidImageName"];
/// Reasons for which a container does not start now, and may later.
const OBSTACLES: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
];
const OUT_OF_MEMORY: &str = "OOMKilled";

/// What is known about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// There is no Job: it was not created yet, or was deleted.
    Absent,
    /// Its command does not run yet.
    Waiting {
        /// For what, in the words of Kubernetes where it has any.
        reason: String,
        /// Whether somebody should look: it does not end by waiting for other jobs.
        is_obstacle: bool,
        /// Whether some of its processes hold nodes while others find none.
        is_partial: bool,
    },
    /// Its agent runs.
    Running {
        /// Name of the node.
        node: String,
    },
    /// Nothing of it runs any more.
    Ended {
        /// Why.
        cause: Cause,
        /// Why, for people.
        reason: String,
    },
}

/// Why an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its agent ended by itself, and has reported if it could.
    Exited {
        /// The agent's exit code.
        code: i32,
    },
    /// The pod was evicted, preempted, drained, deleted, or lost with its node.
    Disruption,
    /// The kernel ended it because it used more memory than its limit.
    OutOfMemory,
    /// It can never start as it is.
    Refused,
}

/// What the Job and the pods of an attempt say about it: the failure of one process is that of all, once none
/// runs any more, and as long as one waits, all do. `warning` is the newest warning about the Job, such as
/// that of an exceeded quota, which appears in an event alone.
pub fn observe<'pod>(
    job: Option<&Job>,
    pods: impl IntoIterator<Item = &'pod Pod>,
    warning: Option<&str>,
) -> Observed {
    let pods = newest(pods);
    let seen: Vec<Observed> = pods.iter().copied().map(of_pod).collect();
    let processes = job.and_then(|job| job.spec.as_ref()?.completions).unwrap_or(1);
    let missing = usize::try_from(processes).unwrap_or(1).saturating_sub(seen.len());
    let pick = |wanted: fn(&Observed) -> bool| seen.iter().find(|seen| wanted(seen)).cloned();
    let failed =
        pick(|seen| matches!(seen, Observed::Ended { cause, .. } if *cause != Cause::Exited { code: 0 }));
    let obstacle = || pick(|seen| matches!(seen, Observed::Waiting { is_obstacle: true, .. }));
    let waiting = || pick(|seen| matches!(seen, Observed::Waiting { .. }));
    let running = || pick(|seen| matches!(seen, Observed::Running { .. }));
    if let Some(failed) = failed {
        return running().unwrap_or(failed);
    }
    if let Some(waiting) = obstacle().or_else(waiting) {
        return marked(waiting, &pods);
    }
    match (job, missing) {
        // Those that are missing are still being created, or what they came to is in the Job.
        (Some(job), 1..) => match of_job(job, warning) {
            of_job @ Observed::Ended { .. } => running().unwrap_or(of_job),
            of_job => of_job,
        },
        _ => running().or_else(|| seen.first().cloned()).unwrap_or(Observed::Absent),
    }
}

/// What a group waits for, with how many of its processes wait, and whether the others hold nodes meanwhile.
fn marked(waiting: Observed, pods: &[&Pod]) -> Observed {
    let Observed::Waiting { reason, is_obstacle, .. } = waiting else { return waiting };
    let unscheduled = pods.iter().filter(|pod| node(pod).is_empty() && is_unschedulable(pod)).count();
    let is_partial = unscheduled > 0 && pods.iter().any(|pod| !node(pod).is_empty());
    let reason = match is_partial {
        true => format!("{unscheduled} of {} processes wait: {reason}", pods.len()),
        false => reason,
    };
    Observed::Waiting { reason, is_obstacle, is_partial }
}

fn is_unschedulable(pod: &Pod) -> bool {
    let scheduled = pod.status.as_ref().and_then(|status| condition(status, "PodScheduled"));
    scheduled.is_some_and(|condition| condition.status == "False")
}

/// The newest pod of each process, by its number.
fn newest<'pod>(pods: impl IntoIterator<Item = &'pod Pod>) -> Vec<&'pod Pod> {
    let mut newest: BTreeMap<&str, &Pod> = BTreeMap::new();
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    for pod in pods {
        let annotations = pod.metadata.annotations.as_ref();
        let index = annotations.and_then(|annotations| annotations.get(INDEX_ANNOTATION));
        let known = newest.entry(index.map_or("", String::as_str)).or_insert(pod);
        if created(known) < created(pod) {
            *known = pod;
        }
    }
    newest.into_values().collect()
}

fn of_job(job: &Job, warning: Option<&str>) -> Observed {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let holds = |name: &str| {
        conditions.iter().find(|condition| condition.type_ == name && condition.status == "True")
    };
    if let Some(failed) = holds("Failed") {
        let reason = failed.message.clone().unwrap_or_else(|| "its Job failed".to_owned());
        return Observed::Ended { cause: Cause::Disruption, reason };
    }
    if holds("Complete").is_some() {
        return Observed::Ended {
            cause: Cause::Exited { code: 0 },
            reason: "its Job is complete".to_owned(),
        };
    }
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default();
    match (is_suspended, warning) {
        (true, _) => waiting("waits until its queue admits it"),
        (false, Some(warning)) => obstacle(warning.to_owned()),
        (false, None) => waiting("its pod is being created"),
    }
}

fn waiting(reason: &str) -> Observed {
    Observed::Waiting { reason: reason.to_owned(), is_obstacle: false, is_partial: false }
}

const fn obstacle(reason: String) -> Observed {
    Observed::Waiting { reason, is_obstacle: true, is_partial: false }
}

fn of_pod(pod: &Pod) -> Observed {
    let Some(status) = &pod.status else { return waiting("its pod is being created") };
    match phase(pod) {
        "Running" => Observed::Running { node: node(pod) },
        "Succeeded" => {
            Observed::Ended { cause: Cause::Exited { code: 0 }, reason: "its agent ended".to_owned() }
        }
        "Failed" => ended(status),
        _ => not_started(pod, status),
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn node(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default()
}

/// Why a pod has ended that has failed. A disruption counts before what it did to the containers.
fn ended(status: &PodStatus) -> Observed {
    if let Some(disruption) = condition(status, DISRUPTION).filter(|condition| condition.status == "True") {
        let by = disruption.reason.as_deref().unwrap_or(DISRUPTION);
        let reason = explained(&format!("its pod was disrupted ({by})"), disruption.message.as_deref());
        return Observed::Ended { cause: Cause::Disruption, reason };
    }
    let terminated = containers(status).find_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        (ended.exit_code != 0).then_some((container, ended))
    });
    let Some((container, terminated)) = terminated else {
        // Rejected by the node, such as for resources that it has no longer, or evicted.
        let why = status.reason.as_deref().unwrap_or("no reason was given");
        let reason = explained(&format!("its pod failed ({why})"), status.message.as_deref());
        return Observed::Ended { cause: Cause::Disruption, reason };
    };
    if terminated.reason.as_deref() == Some(OUT_OF_MEMORY) {
        let reason = "out of memory: its container used more than its memory limit".to_owned();
        return Observed::Ended { cause: Cause::OutOfMemory, reason };
    }
    let (name, code) = (&container.name, terminated.exit_code);
    let reason =
        explained(&format!("container `{name}` ended with exit code {code}"), terminated.message.as_deref());
    let cause = if name == COMMAND { Cause::Exited { code } } else { Cause::Refused };
    Observed::Ended { cause, reason }
}

/// Why a pod does not run yet.
fn not_started(pod: &Pod, status: &PodStatus) -> Observed {
    let waits = containers(status).filter_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some((container, waiting.reason.as_deref()?, waiting.message.as_deref()))
    });
    for (container, reason, message) in waits {
        let is_hopeless = HOPELESS.contains(&reason);
        if !is_hopeless && !OBSTACLES.contains(&reason) {
            continue;
        }
        let what = format!(
            "container `{}` of image `{}` does not start ({reason})",
            container.name, container.image
        );
        let reason = explained(&what, message);
        if is_hopeless {
            return Observed::Ended { cause: Cause::Refused, reason };
        }
        return obstacle(reason);
    }
    let scheduled = condition(status, "PodScheduled");
    if let Some(unscheduled) = scheduled.filter(|condition| condition.status == "False") {
        let by = unscheduled.reason.as_deref().unwrap_or("Unschedulable");
        let reason = explained(&format!("no node has been found ({by})"), unscheduled.message.as_deref());
        return Observed::Waiting { reason, is_obstacle: by != "SchedulingGated", is_partial: false };
    }
    match node(pod) {
        node if node.is_empty() => waiting("waits for a node"),
        node => waiting(&format!("its containers are being created on node {node}")),
    }
}

/// Those of the pod, the command's last.
fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
}

fn condition<'status>(status: &'status PodStatus, name: &str) -> Option<&'status PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == name)
}

fn explained(what: &str, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{what}: {message}"),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(status: Value, suspend: bool) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j"}, "status": status,
            "spec": {"suspend": suspend, "template": {}}}))
        .unwrap()
    }

    fn pod(created: &str, node: &str, status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "creationTimestamp": created},
            "spec": {"nodeName": node, "containers": []}, "status": status}))
        .unwrap()
    }

    fn seen(status: Value) -> Observed {
        observe(Some(&job(json!({}), false)), &[pod("2026-11-01T10:00:00Z", "n1", status)], None)
    }

    fn container(name: &str, state: Value) -> Value {
        json!({"name": name, "image": "train:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": state})
    }

    #[test]
    fn an_attempt_waits_for_its_job_its_queue_and_its_pod() {
        assert_eq!(observe(None, &[], None), Observed::Absent);
        let of = |suspend, warning| observe(Some(&job(json!({}), suspend)), &[], warning);
        assert_eq!(of(false, None), waiting("its pod is being created"));
        assert_eq!(of(true, None), waiting("waits until its queue admits it"));
        let quota = "Error creating: pods \"x\" is forbidden: exceeded quota: gpus";
        assert_eq!(of(false, Some(quota)), obstacle(quota.to_owned()));
    }

    #[test]
    fn a_pod_that_does_not_start_says_why_in_the_words_of_kubernetes() {
        let message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.";
        let unschedulable = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]});
        let Observed::Waiting { reason, is_obstacle, .. } = seen(unschedulable) else { panic!() };
        assert_eq!(
            (reason, is_obstacle),
            (format!("no node has been found (Unschedulable): {message}"), true)
        );
        let pull = container(
            "command",
            json!({"waiting": {"reason": "ImagePullBackOff",
            "message": "Back-off pulling image \"train:1\""}}),
        );
        let Observed::Waiting { reason, is_obstacle, .. } =
            seen(json!({"phase": "Pending", "containerStatuses": [pull]}))
        else {
            panic!()
        };
        assert!(is_obstacle && reason.contains("(ImagePullBackOff): Back-off pulling image"), "{reason}");
        let config = container(
            "command",
            json!({"waiting": {"reason": "CreateContainerConfigError",
            "message": "secret \"wandb\" not found"}}),
        );
        let Observed::Waiting { reason, .. } =
            seen(json!({"phase": "Pending", "containerStatuses": [config]}))
        else {
            panic!()
        };
        assert!(reason.ends_with("secret \"wandb\" not found"), "{reason}");
        let invalid =
            container("command", json!({"waiting": {"reason": "InvalidImageName", "message": "m"}}));
        let seen_invalid = seen(json!({"phase": "Pending", "containerStatuses": [invalid]}));
        assert!(matches!(seen_invalid, Observed::Ended { cause: Cause::Refused, .. }), "{seen_invalid:?}");
        let creating = container("command", json!({"waiting": {"reason": "PodInitializing"}}));
        let starting = seen(json!({"phase": "Pending", "containerStatuses": [creating]}));
        assert_eq!(starting, waiting("its containers are being created on node n1"));
    }

    #[test]
    fn a_pod_that_has_ended_is_told_by_its_cause() {
        let ended = |name: &str, state: Value, more: Value| {
            let container = container(name, json!({"terminated": state}));
            let mut status = json!({"phase": "Failed", "containerStatuses": [container]});
            for (field, value) in more.as_object().unwrap() {
                status[field] = value.clone();
            }
            let Observed::Ended { cause, reason } = seen(status) else { panic!() };
            (cause, reason)
        };
        let killed = json!({"exitCode": 137, "reason": "Error"});
        let disruption = json!({"type": "DisruptionTarget", "status": "True",
            "reason": "PreemptionByScheduler", "message": "preempting to accommodate another"});
        let (cause, reason) = ended("command", killed, json!({"conditions": [disruption]}));
        assert_eq!(cause, Cause::Disruption, "whatever the signal did");
        assert!(reason.contains("(PreemptionByScheduler): preempting"), "{reason}");
        let (cause, _) = ended("command", json!({"exitCode": 137, "reason": "OOMKilled"}), json!({}));
        assert_eq!(cause, Cause::OutOfMemory);
        let (cause, reason) =
            ended("command", json!({"exitCode": 1, "reason": "Error", "message": "no launcher"}), json!({}));
        assert_eq!(
            (cause, reason.as_str()),
            (Cause::Exited { code: 1 }, "container `command` ended with exit code 1: no launcher")
        );
        let (cause, _) = ended("agent", json!({"exitCode": 127, "reason": "Error"}), json!({}));
        assert_eq!(cause, Cause::Refused, "the image of the agent is not one");
        let rejected =
            seen(json!({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no GPU"}));
        let Observed::Ended { cause, reason } = rejected else { panic!() };
        assert_eq!(
            (cause, reason.as_str()),
            (Cause::Disruption, "its pod failed (UnexpectedAdmissionError): no GPU")
        );
    }

    #[test]
    fn of_two_pods_of_a_process_the_newer_one_counts() {
        let old = pod("2026-11-01T10:00:00Z", "n1", json!({"phase": "Failed"}));
        let newer = pod("2026-11-01T10:00:05Z", "n2", json!({"phase": "Running"}));
        let expected = Observed::Running { node: "n2".to_owned() };
        assert_eq!(observe(None, &[old.clone(), newer.clone()], None), expected);
        assert_eq!(observe(None, &[newer, old], None), expected);
    }

    #[test]
    fn a_distributed_attempt_waits_and_fails_as_one() {
        let process = |index: &str, status: Value| {
            let mut pod = pod("2026-11-01T10:00:00Z", &format!("n{index}"), status);
            pod.metadata.annotations = Some([(INDEX_ANNOTATION.to_owned(), index.to_owned())].into());
            pod
        };
        let mut job = job(json!({}), false);
        job.spec.as_mut().unwrap().completions = Some(2);
        let seen = |pods: &[Pod]| observe(Some(&job), pods, None);
        let (running, done) = (json!({"phase": "Running"}), json!({"phase": "Succeeded"}));
        let first = process("0", running.clone());
        assert_eq!(seen(std::slice::from_ref(&first)), waiting("its pod is being created"));
        let pending = process("1", json!({"phase": "Pending"}));
        assert!(matches!(seen(&[first.clone(), pending]), Observed::Waiting { .. }));
        let expected = Observed::Running { node: "n0".to_owned() };
        assert_eq!(seen(&[first.clone(), process("1", running)]), expected);
        assert_eq!(
            seen(&[first.clone(), process("1", done.clone())]),
            expected,
            "one has ended before the other"
        );
        let evicted = json!({"phase": "Failed", "reason": "Evicted"});
        let failing = seen(&[first.clone(), process("1", evicted.clone())]);
        assert_eq!(failing, expected, "one that still runs may save");
        let killed = process("0", json!({"phase": "Failed", "reason": "Evicted"}));
        let failed = seen(&[killed, process("1", evicted)]);
        assert!(matches!(failed, Observed::Ended { cause: Cause::Disruption, .. }), "{failed:?}");
        let message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.";
        let unschedulable = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
            "status": "False", "reason": "Unschedulable", "message": message}]});
        let mut without_node = process("1", unschedulable);
        without_node.spec.as_mut().unwrap().node_name = None;
        let Observed::Waiting { reason, is_partial, .. } = seen(&[first, without_node]) else { panic!() };
        assert!(
            is_partial && reason.starts_with("1 of 2 processes wait: no node has been found"),
            "{reason}"
        );
        let all = seen(&[process("0", done.clone()), process("1", done)]);
        assert!(matches!(all, Observed::Ended { cause: Cause::Exited { code: 0 }, .. }), "{all:?}");
    }

    #[test]
    fn a_job_whose_pod_is_gone_has_ended_as_it_says() {
        let failed =
            json!({"conditions": [{"type": "Failed", "status": "True", "message": "Pod was deleted"}]});
        let Observed::Ended { cause, reason } = observe(Some(&job(failed, false)), &[], None) else {
            panic!()
        };
        assert_eq!((cause, reason.as_str()), (Cause::Disruption, "Pod was deleted"));
        let complete = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        let seen = observe(Some(&job(complete, false)), &[], None);
        assert!(matches!(seen, Observed::Ended { cause: Cause::Exited { code: 0 }, .. }), "{seen:?}");
    }
}
