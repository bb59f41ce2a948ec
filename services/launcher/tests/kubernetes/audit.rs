//! What a launcher has asked of the API server, by the audit log.

use std::collections::BTreeSet;

use serde_json::Value;
use slipway_kubernetes_testkit::{Cluster, TestNamespace};

/// A request of the launcher of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) verb: String,
    /// Resource with its subresource.
    pub(crate) resource: String,
    pub(crate) group: String,
    /// HTTP status.
    pub(crate) code: u64,
}

/// The requests so far, each once.
pub(crate) fn requests(cluster: &Cluster, namespace: &TestNamespace<'_>) -> Vec<Request> {
    let user = format!("system:serviceaccount:{}:slipway-launcher", namespace.name());
    let log = std::fs::read_to_string(cluster.audit_log()).unwrap();
    let mut seen = BTreeSet::new();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let own = events.filter(|event| event["user"]["username"] == user);
    own.filter(|event| seen.insert(event["auditID"].as_str().unwrap_or_default().to_owned()))
        .map(|event| {
            let object = &event["objectRef"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let resource = match object["subresource"].as_str() {
                Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
                None => text(&object["resource"]),
            };
            Request {
                verb: text(&event["verb"]),
                resource,
                group: text(&object["apiGroup"]),
                code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
            }
        })
        .collect()
}
