//! The platform's own objects after an installation.

use serde_json::Value;

use super::items;
use crate::{Finding, Level, certificate};

/// A Deployment or StatefulSet of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Replicas that are to run.
    pub wanted: u64,
    /// Replicas that are ready.
    pub ready: u64,
    /// Why it does not go on, if its conditions say so.
    pub problem: Option<String>,
}

impl Workload {
    /// From a list of the API.
    pub fn listed(list: &Value) -> Vec<Self> {
        let read = |object: &Value| {
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            let bad = |one: &&Value| {
                (one["type"] == "Progressing" && one["status"] == "False")
                    || (one["type"] == "ReplicaFailure" && one["status"] == "True")
            };
            Self {
                name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
                wanted: object["spec"]["replicas"].as_u64().unwrap_or(1),
                ready: object["status"]["readyReplicas"].as_u64().unwrap_or(0),
                problem: conditions
                    .filter(bad)
                    .filter_map(|one| one["message"].as_str())
                    .next()
                    .map(str::to_owned),
            }
        };
        items(list).iter().map(read).collect()
    }
}

/// Findings about the platform's workloads.
pub fn workloads(namespace: &str, workloads: &[Workload]) -> Vec<Finding> {
    if workloads.is_empty() {
        let found = format!("not installed in the namespace {namespace}");
        return vec![Finding::ok("platform", found)];
    }
    let finding = |workload: &Workload| {
        let Workload { name, wanted, ready, problem } = workload;
        let found = format!("{ready} of {wanted} replicas ready");
        let found = problem.as_ref().map_or(found.clone(), |problem| format!("{found}: {problem}"));
        let advice = format!(
            "kubectl --namespace {namespace} get pods, and kubectl --namespace {namespace} logs \
             deploy/{name}"
        );
        let level = if *ready == 0 { Level::Fail } else { Level::Warn };
        Finding::of(ready >= wanted, level, &format!("workload {name}"), found, advice)
    };
    workloads.iter().map(finding).collect()
}

/// Findings about certificates by the names of their Secrets, with the Unix times in seconds of their ends.
pub fn certificates(ends: &[(String, Option<i64>)], now_s: i64) -> Vec<Finding> {
    let finding = |(secret, end): &(String, Option<i64>)| match end {
        Some(end) => certificate(&format!("secret {secret}"), *end, now_s),
        None => Finding::fail(
            format!("secret {secret} certificate"),
            "tls.crt is not a certificate in PEM",
            "create the Secret with `kubectl create secret tls`, or let cert-manager do it",
        ),
    };
    ends.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn workloads_are_ready_partly_ready_or_not() {
        let list = json!({"items": [
            {"metadata": {"name": "a"}, "spec": {"replicas": 2}, "status": {"readyReplicas": 2}},
            {"metadata": {"name": "b"}, "spec": {"replicas": 2}, "status": {"readyReplicas": 1}},
            {"metadata": {"name": "c"}, "spec": {}, "status": {"conditions": [
                {"type": "Progressing", "status": "False", "message": "deadline exceeded"}]}},
        ]});
        let findings = workloads("slipway", &Workload::listed(&list));
        let levels: Vec<Level> = findings.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Warn, Level::Fail]);
        assert_eq!(findings[2].found, "0 of 1 replicas ready: deadline exceeded");
        assert_eq!(workloads("slipway", &[])[0].found, "not installed in the namespace slipway");
    }

    #[test]
    fn certificates_of_secrets() {
        let day = 86_400;
        let ends =
            [("a".to_owned(), Some(60 * day)), ("b".to_owned(), Some(3 * day)), ("c".to_owned(), None)];
        let levels: Vec<Level> = certificates(&ends, 0).iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Warn, Level::Fail]);
    }
}
