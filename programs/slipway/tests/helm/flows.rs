//! Which connections the NetworkPolicies allow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};
use slipway_kubernetes_testkit::Helm;

use crate::chart::{NAMESPACE, called, rendered};

/// One end of a connection.
enum End {
    Pod { namespace: String, labels: BTreeMap<String, String> },
    Address(IpAddr),
}

/// The policies of a rendered chart.
struct Policies(Vec<Value>);

impl Policies {
    /// Whether `from` may connect to this port of `to`: both sides have to allow it.
    fn allow(&self, from: &End, to: &End, port: u64) -> bool {
        self.side("Egress", "to", from, to, port) && self.side("Ingress", "from", to, from, port)
    }

    fn side(&self, direction: &str, peers: &str, own: &End, other: &End, port: u64) -> bool {
        let End::Pod { namespace, labels } = own else { return true };
        let selecting: Vec<&Value> = self
            .0
            .iter()
            .filter(|policy| policy["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE) == namespace)
            .filter(|policy| matches(&policy["spec"]["podSelector"], labels))
            .filter(|policy| policy["spec"]["policyTypes"].as_array().unwrap().contains(&json!(direction)))
            .collect();
        let rules = |policy: &Value| policy["spec"][direction.to_lowercase()].as_array().cloned();
        let allows = |rule: &Value| {
            let port = rule["ports"].as_array().is_none_or(|ports| {
                ports.iter().any(|allowed| allowed["port"] == port && allowed["protocol"] == "TCP")
            });
            let peer = rule[peers]
                .as_array()
                .is_none_or(|all| all.iter().any(|peer| is_peer(peer, own_namespace(own), other)));
            port && peer
        };
        selecting.is_empty() || selecting.into_iter().filter_map(rules).flatten().any(|rule| allows(&rule))
    }
}

fn own_namespace(end: &End) -> &str {
    if let End::Pod { namespace, .. } = end { namespace } else { "" }
}

fn matches(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let plain = selector["matchLabels"].as_object();
    let expressions = selector["matchExpressions"].as_array();
    plain.is_none_or(|all| all.iter().all(|(name, value)| labels.get(name).is_some_and(|has| value == has)))
        && expressions.is_none_or(|all| {
            all.iter().all(|one| {
                assert_eq!(one["operator"], "In");
                let value = labels.get(one["key"].as_str().unwrap());
                value.is_some_and(|value| one["values"].as_array().unwrap().contains(&json!(value)))
            })
        })
}

fn is_peer(peer: &Value, own_namespace: &str, other: &End) -> bool {
    match other {
        End::Address(address) => {
            let family = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            peer["ipBlock"]["cidr"] == family
        }
        End::Pod { namespace, labels } => {
            let of_name = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.clone())]);
            let in_namespace = match peer.get("namespaceSelector") {
                Some(selector) => matches(selector, &of_name),
                None => namespace == own_namespace,
            };
            peer.get("ipBlock").is_none() && in_namespace && matches(&peer["podSelector"], labels)
        }
    }
}

fn end(objects: &[Value], name: &str) -> End {
    if let Ok(address) = name.parse() {
        return End::Address(address);
    }
    if let Some((namespace, label)) = name.split_once('/') {
        let labels = BTreeMap::from([("app".to_owned(), label.to_owned())]);
        return End::Pod { namespace: namespace.to_owned(), labels };
    }
    let of = |kind: &str| format!("{kind} slipway-{name}");
    let object = objects
        .iter()
        .find(|object| ["Deployment", "StatefulSet", "Pod"].iter().any(|kind| called(object) == of(kind)))
        .unwrap_or_else(|| panic!("no pods of {name}"));
    let labels = object.pointer("/spec/template/metadata/labels").unwrap_or(&object["metadata"]["labels"]);
    End::Pod { namespace: NAMESPACE.to_owned(), labels: serde_json::from_value(labels.clone()).unwrap() }
}

#[test]
fn only_what_the_platform_needs_may_connect() {
    let Some(helm) = Helm::own() else { return };
    let objects = rendered(&helm, "evaluation", &[]).unwrap();
    let policies =
        Policies(objects.iter().filter(|object| object["kind"] == "NetworkPolicy").cloned().collect());
    let (job, foreign) = ("ml-workloads/job", "other/pod");
    for (from, to, port, allowed) in [
        ("registry", "postgres", 5432, true),
        ("registry", "nats", 4222, true),
        ("registry", "s3", 8333, true),
        ("launcher", "registry", 5000, true),
        ("launcher", "192.0.2.1", 6443, true),
        ("serving", "nats", 4222, true),
        ("serving", "registry", 5000, true),
        ("rollout-controller", "192.0.2.1", 6443, true),
        ("drift-monitor", "launcher", 5010, true),
        ("drift-monitor", "rollout-controller", 5020, true),
        ("test", "drift-monitor", 5030, true),
        (job, "launcher", 5010, true),
        (job, "registry", 5000, true),
        (job, "s3", 8333, true),
        (job, "nats", 4222, true),
        (job, job, 29500, true),
        // Postgres is for the services alone.
        (job, "postgres", 5432, false),
        (foreign, "postgres", 5432, false),
        (foreign, "registry", 5000, false),
        (foreign, "nats", 4222, false),
        (foreign, job, 8000, false),
        ("192.0.2.1", "registry", 5000, false),
        ("registry", "192.0.2.1", 22, false),
        ("serving", "192.0.2.1", 6443, false),
        ("postgres", "192.0.2.1", 443, false),
        ("postgres", "registry", 5000, false),
        // Its other ports.
        ("registry", "nats", 8222, false),
        ("registry", "s3", 9333, false),
    ] {
        let (one, other) = (end(&objects, from), end(&objects, to));
        assert_eq!(policies.allow(&one, &other, port), allowed, "{from} to {to}:{port}");
    }
}
