//! Objects as the operator and the launcher report them, and what a person would say of them.

use serde_json::{Value, json};

/// How an object fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Progressing,
    Healthy,
    Degraded,
    Suspended,
}

/// A ModelDeployment of generation 2 that has these conditions, as `TYPE=STATUS`.
fn deployment(observed: u64, conditions: &str) -> Value {
    let conditions: Vec<Value> = conditions
        .split_whitespace()
        .map(|condition| {
            let (kind, status) = condition.split_once('=').unwrap();
            json!({"type": kind, "status": status, "reason": "Because", "message": "of this"})
        })
        .collect();
    json!({
        "apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"name": "fraud", "generation": 2},
        "status": {"observedGeneration": observed, "conditions": conditions},
    })
}

/// ModelDeployments, and how they fare.
pub(crate) fn deployments() -> Vec<(Value, Health)> {
    let mut fresh = deployment(0, "");
    fresh.as_object_mut().unwrap().remove("status");
    vec![
        (fresh, Health::Progressing),
        (deployment(1, "Ready=True Progressing=False Degraded=False"), Health::Progressing),
        (deployment(2, "Ready=True Progressing=False Paused=False Degraded=False"), Health::Healthy),
        (deployment(2, "Ready=True Progressing=True Paused=False Degraded=False"), Health::Progressing),
        (deployment(2, "Ready=False Progressing=False Paused=False Degraded=False"), Health::Progressing),
        (deployment(2, "Ready=True Progressing=True Paused=True Degraded=False"), Health::Suspended),
        (deployment(2, "Ready=True Progressing=False Paused=False Degraded=True"), Health::Degraded),
        (deployment(2, "Ready=False Progressing=True Paused=False Degraded=True"), Health::Degraded),
    ]
}

/// TrainingJobs in each phase of the schema, and how they fare.
pub(crate) fn jobs() -> Vec<(Value, Health)> {
    let phases = [
        ("Refused", Health::Degraded),
        ("Queued", Health::Progressing),
        ("Pending", Health::Progressing),
        ("Running", Health::Progressing),
        ("Retrying", Health::Progressing),
        ("Cancelling", Health::Progressing),
        ("Suspending", Health::Suspended),
        ("Suspended", Health::Suspended),
        ("Succeeded", Health::Healthy),
        ("Failed", Health::Degraded),
        ("Cancelled", Health::Degraded),
    ];
    let definition = crate::text("kubernetes/trainingjobs.yaml");
    let listed = definition.split_once("description: Phase of the job.").unwrap().1;
    let listed = listed.split_once("type: string").unwrap().0;
    let listed: Vec<&str> = listed.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    assert_eq!(phases.map(|(phase, _)| phase).to_vec(), listed, "each phase of the schema is judged");
    let job = |phase| {
        json!({
            "apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": "train", "generation": 1}, "status": {"phase": phase, "reason": "why"},
        })
    };
    phases.map(|(phase, health)| (job(phase), health)).to_vec()
}
