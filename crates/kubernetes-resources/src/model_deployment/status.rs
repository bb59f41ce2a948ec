//! The `status` of a ModelDeployment.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use slipway_api::rest::rollouts::{Drill, KillMode, Phase, Rollout};
use utoipa::ToSchema;

use super::{Deployed, ModelDeployment, Placement, Share};
use crate::condition::{Condition, dated};

/// Port of the Service for REST.
const REST_PORT: u16 = 8000;

/// What has become of the deployment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// Generation of the resource that the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name of the deployment, for `slipway deployments show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Address of the model within the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Stable version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_version: Option<String>,
    /// Version that is rolled out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate_version: Option<String>,
    /// Percentage of the traffic that the candidate receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate_weight_percent: Option<u8>,
    /// Percentage of the traffic that each version receives, where each has pods of its own. A version whose
    /// pods are not ready receives less than the rollout asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Share>,
    /// Phase of the newest rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_phase: Option<Phase>,
    /// Last decision about the newest rollout.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_decision: String,
    /// Number of pods.
    pub replicas: i32,
    /// Number of pods that answer.
    pub ready_replicas: i32,
    /// Drift monitor of the deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<String>,
    /// The fault drill that runs, or the result of the newest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault_replay: Option<String>,
    /// Labels of the pods, for the subresource `scale`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Conditions: `Ready`, `Progressing`, `Paused`, `Degraded`, `Overridden`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The pods of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pods {
    /// Pods that there are to be.
    pub desired: i32,
    /// Pods that there are.
    pub replicas: i32,
    /// Pods of the current template.
    pub updated: i32,
    /// Pods that answer.
    pub ready: i32,
    /// Why a pod does not start, in one word and for people.
    pub problem: Option<(String, String)>,
}

/// What was observed of an object.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'seen> {
    /// Its deployment.
    pub deployed: Option<&'seen Deployed>,
    /// Its pods; `None` where there is no Deployment of Kubernetes yet.
    pub pods: Option<&'seen Pods>,
    /// Labels of the pods.
    pub selector: &'seen str,
    /// Why the spec was refused, where it was.
    pub refusal: Option<&'seen str>,
    /// What is waited for until the spec can be applied.
    pub waits_for: Option<&'seen str>,
    /// Drift monitor that was made for the object.
    pub monitor: Option<&'seen str>,
    /// Who answers.
    pub placement: Placement,
    /// Shares of the versions that have pods of their own.
    pub shares: &'seen [Share],
}

/// The status of an object.
pub fn status(object: &ModelDeployment, seen: &Observed<'_>, now: DateTime<Utc>) -> Status {
    let rollout = seen.deployed.and_then(|deployed| deployed.rollout.as_ref());
    let active = rollout.filter(|rollout| !rollout.phase.is_final());
    let scheme = if object.spec["tls"].is_object() { "https" } else { "http" };
    let url = format!("{scheme}://{}.{}.svc:{REST_PORT}/v2/models/{0}", object.name(), object.namespace());
    let mut status = Status {
        observed_generation: object.metadata.generation,
        deployment: seen.deployed.map(|deployed| deployed.deployment.name.clone()),
        url: Some(url),
        stable_version: seen.deployed.and_then(|deployed| deployed.deployment.stable_version.clone()),
        candidate_version: active.map(|rollout| rollout.to_version.clone()),
        candidate_weight_percent: active.map(|rollout| rollout.weight_percent),
        traffic: seen.shares.to_vec(),
        rollout_phase: rollout.map(|rollout| rollout.phase),
        last_decision: rollout.map(|rollout| rollout.reason.clone()).unwrap_or_default(),
        replicas: seen.pods.map_or(0, |pods| pods.replicas),
        ready_replicas: seen.pods.map_or(0, |pods| pods.ready),
        monitor: seen.monitor.map(str::to_owned),
        fault_replay: fault_replay(object, seen, active),
        selector: seen.selector.to_owned(),
        conditions: Vec::new(),
    };
    let conditions = [
        ready(object, seen, rollout),
        progressing(seen, active),
        paused(rollout),
        degraded(seen, rollout),
        overridden(object, seen, rollout),
    ];
    let before = &object.status.conditions;
    status.conditions = dated(conditions.into_iter(), before, object.metadata.generation, now);
    status
}

/// What became of the drill that the spec asks for, or of the newest one.
fn fault_replay(object: &ModelDeployment, seen: &Observed<'_>, active: Option<&Rollout>) -> Option<String> {
    let drill = seen.deployed.and_then(|deployed| deployed.deployment.drill.as_ref());
    let wanted = object.parsed().ok().and_then(|spec| spec.fault_replay);
    let is_missing = wanted.is_some() && wanted.as_ref() != drill.map(|drill| &drill.request);
    if is_missing && active.is_some() {
        return Some("waits for the rollout in progress to end".to_owned());
    }
    drill.map(Drill::in_words)
}

fn ready(object: &ModelDeployment, seen: &Observed<'_>, rollout: Option<&Rollout>) -> Condition {
    let not = |reason: &str, message: String| Condition::new("Ready", false, reason, message);
    if let Some(why) = seen.refusal {
        return not("Refused", why.to_owned());
    }
    let Some(deployed) = seen.deployed.filter(|deployed| deployed.generation >= object.generation()) else {
        let waits_for = seen.waits_for.unwrap_or("the spec has not been applied yet");
        return not("NotApplied", waits_for.to_owned());
    };
    let Some(stable) = &deployed.deployment.stable_version else {
        let why = rollout.map_or("no rollout was started", |rollout| rollout.reason.as_str());
        return not("NoStableVersion", why.to_owned());
    };
    let switch = deployed.deployment.kill_switch.as_ref();
    if let Some(switch) = switch.filter(|switch| switch.mode == KillMode::Refuse) {
        return not("KillSwitch", switch.reason.clone());
    }
    if !seen.placement.has_pods {
        let message = format!("the serving pool of the namespace answers by version {stable}");
        return Condition::new("Ready", true, "ScaledToZero", message);
    }
    let wanted = object.parsed().map_or(1, |spec| spec.replicas().min);
    let (ready, wanted) = (seen.pods.map_or(0, |pods| pods.ready), i32::try_from(wanted).unwrap_or(i32::MAX));
    if ready < wanted {
        let problem = seen.pods.and_then(|pods| pods.problem.as_ref());
        let why = problem.map(|(_, message)| format!(": {message}")).unwrap_or_default();
        return not("PodsNotReady", format!("{ready} of {wanted} pods answer{why}"));
    }
    Condition::new("Ready", true, "Serving", format!("version {stable} serves"))
}

fn progressing(seen: &Observed<'_>, active: Option<&Rollout>) -> Condition {
    if let Some(rollout) = active {
        let message = format!(
            "version {} receives {} % of the traffic: {}",
            rollout.to_version, rollout.weight_percent, rollout.reason
        );
        return Condition::new("Progressing", true, "RollingOut", message);
    }
    match seen.pods {
        Some(pods) if pods.ready < pods.desired || pods.updated < pods.desired => {
            let message = format!("{} of {} pods answer", pods.ready, pods.desired);
            Condition::new("Progressing", true, "PodsStarting", message)
        }
        _ => Condition::new("Progressing", false, "Settled", ""),
    }
}

fn paused(rollout: Option<&Rollout>) -> Condition {
    match rollout.filter(|rollout| rollout.phase == Phase::Paused) {
        Some(rollout) => Condition::new("Paused", true, "RolloutPaused", rollout.reason.clone()),
        None => Condition::new("Paused", false, "NotPaused", ""),
    }
}

fn degraded(seen: &Observed<'_>, rollout: Option<&Rollout>) -> Condition {
    let is = |reason: &str, message: String| Condition::new("Degraded", true, reason, message);
    if let Some(why) = seen.refusal {
        return is("Refused", why.to_owned());
    }
    if let Some((reason, message)) = seen.pods.and_then(|pods| pods.problem.as_ref()) {
        return is(reason, message.clone());
    }
    let ended = rollout.and_then(|rollout| match rollout.phase {
        Phase::Failed => Some(("RolloutFailed", rollout)),
        Phase::RolledBack | Phase::RollingBack => Some(("RolledBack", rollout)),
        _ => None,
    });
    match ended {
        Some((reason, rollout)) => is(reason, format!("version {}: {}", rollout.to_version, rollout.reason)),
        None => Condition::new("Degraded", false, "AsExpected", ""),
    }
}

/// Whether the stable version is another one than the spec asks for, because a person or an analysis said so.
fn overridden(object: &ModelDeployment, seen: &Observed<'_>, rollout: Option<&Rollout>) -> Condition {
    let not = || Condition::new("Overridden", false, "AsSpecified", "");
    let (Some(deployed), Some(rollout)) = (seen.deployed, rollout) else { return not() };
    if deployed.generation < object.generation() || !rollout.phase.is_final() {
        return not();
    }
    let stable = deployed.deployment.stable_version.as_deref();
    // By an alias, the version that was rolled out last is wanted.
    let named = object.spec["model"]["version"].as_str();
    let wanted = named.unwrap_or(rollout.to_version.as_str());
    match stable {
        Some(stable) if stable != wanted => {
            let why =
                if rollout.reason.is_empty() { String::new() } else { format!(" ({})", rollout.reason) };
            let message = format!(
                "version {wanted} of the spec does not serve{why}; version {stable} serves until the \
                 spec changes"
            );
            Condition::new("Overridden", true, "OtherVersionServes", message)
        }
        _ => not(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;
    use slipway_api::rest::rollouts::DrillPhase;

    use super::super::step::tests::{deployed, known, rollout};
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn pods(ready: i32) -> Pods {
        Pods { desired: 1, replicas: 1, updated: 1, ready, problem: None }
    }

    /// `True` or `False` and the reason of each condition.
    fn shown(status: &Status) -> Vec<String> {
        let shown = |found: &Condition| format!("{} {} {}", found.kind, found.status, found.reason);
        status.conditions.iter().map(shown).collect()
    }

    fn seen<'seen>(deployed: &'seen Deployed, pods: &'seen Pods) -> Observed<'seen> {
        Observed {
            deployed: Some(deployed),
            pods: Some(pods),
            selector: "a=b",
            refusal: None,
            waits_for: None,
            monitor: None,
            placement: Placement::default(),
            shares: &[],
        }
    }

    #[test]
    fn an_object_is_ready_when_a_version_serves_and_pods_answer() {
        let first = rollout(Phase::Promoted, None, "1");
        let (deployed, object) = (deployed(Some("1"), Some(first)), known());
        let waiting = status(&object, &seen(&deployed, &pods(0)), at(1));
        assert!(shown(&waiting).contains(&"Ready False PodsNotReady".to_owned()), "{waiting:#?}");
        assert!(shown(&waiting).contains(&"Progressing True PodsStarting".to_owned()), "{waiting:#?}");
        let serving = status(&object, &seen(&deployed, &pods(1)), at(1));
        let expected = [
            "Ready True Serving",
            "Progressing False Settled",
            "Paused False NotPaused",
            "Degraded False AsExpected",
            "Overridden False AsSpecified",
        ];
        assert_eq!(shown(&serving), expected);
        assert_eq!(serving.url.as_deref(), Some("http://fraud.ml.svc:8000/v2/models/fraud"));
        let asleep = Placement { is_pooled: true, has_pods: false };
        let none = Pods { desired: 0, replicas: 0, updated: 0, ready: 0, problem: None };
        let asleep = status(&object, &Observed { placement: asleep, ..seen(&deployed, &none) }, at(1));
        assert_eq!(shown(&asleep)[..2], ["Ready True ScaledToZero", "Progressing False Settled"]);
        let mut changed = known();
        changed.metadata.generation = Some(4);
        let stale = status(&changed, &seen(&deployed, &pods(1)), at(1));
        assert_eq!(shown(&stale)[0], "Ready False NotApplied");
    }

    #[test]
    fn a_rollout_and_what_came_of_it_are_shown() {
        let canary = deployed(Some("1"), Some(rollout(Phase::Progressing, Some("1"), "2")));
        let shown_canary = status(&known(), &seen(&canary, &pods(1)), at(1));
        assert_eq!(shown(&shown_canary)[..2], ["Ready True Serving", "Progressing True RollingOut"]);
        assert_eq!(shown_canary.candidate_version.as_deref(), Some("2"));
        let mut object = known();
        object.spec = json!({"model": {"name": "fraud", "version": "2"}});
        let back = deployed(Some("1"), Some(rollout(Phase::RolledBack, Some("1"), "2")));
        let back = status(&object, &seen(&back, &pods(1)), at(1));
        let expected =
            ["Ready True Serving", "Degraded True RolledBack", "Overridden True OtherVersionServes"];
        assert!(expected.iter().all(|one| shown(&back).contains(&(*one).to_owned())), "{back:#?}");
        let paused = deployed(Some("1"), Some(rollout(Phase::Paused, Some("1"), "2")));
        let paused = status(&object, &seen(&paused, &pods(1)), at(1));
        assert!(shown(&paused).contains(&"Paused True RolloutPaused".to_owned()), "{paused:#?}");
    }

    #[test]
    fn a_drill_waits_for_a_rollout_and_its_result_is_shown() {
        let mut object = known();
        object.spec = json!({"model": {"name": "fraud", "version": "1"}, "faultReplay": {"fault": "errors"}});
        let canary = deployed(Some("1"), Some(rollout(Phase::Progressing, Some("1"), "2")));
        let waits = status(&object, &seen(&canary, &pods(1)), at(1)).fault_replay.unwrap();
        assert_eq!(waits, "waits for the rollout in progress to end");
        let side = json!({"requests": 9, "non_finite": 0, "failed": [], "p50_latency_us": 1,
            "p95_latency_us": 1, "p99_latency_us": 1});
        let drill = json!({"id": "0198c5a2-7b1e-7c44-9f0a-0123456789ab", "deployment": "ml_fraud",
            "version": "1", "request": {"fault": "errors"}, "phase": "running", "summary": "it fails",
            "began_at_unix_ms": 0, "ends_at_unix_ms": 3_723_000, "clauses": [], "rehearsed": side,
            "users": side, "dropped": [], "compared_rows": 0, "differing_rows": 0});
        let mut stable = deployed(Some("1"), None);
        stable.deployment.drill = serde_json::from_value(drill).unwrap();
        let running = status(&object, &seen(&stable, &pods(1)), at(1)).fault_replay.unwrap();
        assert_eq!(running, "running until 01:02:03 UTC");
        let drill = stable.deployment.drill.as_mut().unwrap();
        (drill.phase, drill.noticed_after_ms) = (DrillPhase::Completed, Some(14_000));
        let completed = status(&object, &seen(&stable, &pods(1)), at(1)).fault_replay.unwrap();
        assert_eq!(completed, "completed: it fails");
    }

    #[test]
    fn a_pod_that_does_not_start_is_told_with_its_reason() {
        let deployed = deployed(Some("1"), Some(rollout(Phase::Promoted, None, "1")));
        let why = ("ImagePullBackOff".to_owned(), "no such image".to_owned());
        let pods = Pods { problem: Some(why), ..pods(0) };
        let told = status(&known(), &seen(&deployed, &pods), at(1));
        assert!(shown(&told).contains(&"Degraded True ImagePullBackOff".to_owned()), "{told:#?}");
        assert_eq!(told.conditions[0].message, "0 of 1 pods answer: no such image");
    }

    #[test]
    fn a_status_is_written_once() {
        let deployed = deployed(Some("1"), Some(rollout(Phase::Promoted, None, "1")));
        let (pods, mut object) = (pods(1), known());
        object.status = status(&object, &seen(&deployed, &pods), at(1));
        assert_eq!(status(&object, &seen(&deployed, &pods), at(9)), object.status);
    }
}
