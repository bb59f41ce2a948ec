//! Each level of the test cluster does what tests of services rely on, and leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod control;
mod leftovers;
mod node;
mod support;

use serde_json::json;
use slipway_kubernetes_testkit::{Cluster, Level, Options};
use support::{job, wait_for};

#[test]
fn the_api_server_stores_a_job_in_a_namespace_of_the_test() {
    let Some(cluster) = Cluster::shared(Level::Api) else { return };
    let namespace = cluster.namespace();
    namespace.apply(&job("train", json!({})).to_string()).unwrap();
    let stored = cluster.get(&["--namespace", namespace.name(), "job", "train"]).unwrap();
    assert_eq!(stored["spec"]["completions"], 1);
    assert_eq!(stored["metadata"]["labels"]["job-name"], "train", "the API server has set its defaults");
    let other = cluster.namespace();
    assert_eq!(other.kubectl(&["get", "jobs", "--output", "name"]).unwrap(), "");
}

#[test]
fn the_api_server_rejects_an_invalid_object_with_the_field() {
    let Some(cluster) = Cluster::shared(Level::Api) else { return };
    let namespace = cluster.namespace();
    let refused = namespace.apply(&job("train", json!({ "completions": -1 })).to_string()).unwrap_err();
    assert!(refused.to_string().contains("spec.completions"), "{refused}");
}

#[test]
fn a_user_without_a_role_is_refused_and_the_audit_log_says_so() {
    let options = Options { audit: true, ..Options::new(Level::Api) };
    let Some(cluster) = Cluster::own(&options) else { return };
    let refused = cluster.kubectl(&["--as", "system:serviceaccount:default:launcher", "get", "jobs"]);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("cannot list resource \"jobs\""), "{refused}");
    wait_for("the refusal in the audit log", || {
        let log = std::fs::read_to_string(cluster.audit_log()).unwrap_or_default();
        let denied = log.lines().any(|line| {
            line.contains(r#""verb":"list""#) && line.contains("default:launcher") && line.contains("forbid")
        });
        denied.then_some(())
    });
}

#[test]
fn the_servers_certificate_and_the_clients_are_of_one_authority() {
    let Some(cluster) = Cluster::shared(Level::Api) else { return };
    let credentials = cluster.credentials();
    assert!(credentials.server.starts_with("https://127.0.0.1:"), "{credentials:?}");
    for pem in [&credentials.authority, &credentials.certificate] {
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    }
    let version = cluster.kubectl(&["get", "--raw=/version"]).unwrap();
    let version: serde_json::Value = serde_json::from_str(&version).unwrap();
    assert_eq!(version["major"], "1");
}
