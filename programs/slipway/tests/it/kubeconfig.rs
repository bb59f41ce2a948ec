//! An installation in a cluster, reached by the kubeconfig alone, and a cluster as the doctor sees it.

use std::process::Output;

use serde_json::{Value, json};
use slipway_kubernetes_testkit::{BUSYBOX_IMAGE, Cluster, Level, TestNamespace};

use crate::platform::wait_for;

fn slipway(cluster: &Cluster, arguments: &[&str]) -> Output {
    cluster.command(env!("CARGO_BIN_EXE_slipway")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn level_of(found: &Value, check: &str) -> String {
    let finding = found["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == check);
    finding.unwrap_or_else(|| panic!("no {check} in {found:#}"))["level"].as_str().unwrap().to_owned()
}

#[test]
fn the_doctor_examines_a_cluster_before_and_after_the_definitions_are_applied() {
    let Some(cluster) = Cluster::shared(Level::Api) else { return };
    let namespace = cluster.namespace();
    let examine = || -> Value {
        let output = slipway(
            cluster,
            &["doctor", "--check", "kubernetes", "--kube-namespace", namespace.name(), "--json"],
        );
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
    };
    let found = examine();
    for (check, level) in [
        ("kubernetes version", "OK"),
        ("kubernetes clock", "OK"),
        ("nodes", "FAIL"),
        ("storage class", "WARN"),
        ("metrics API", "WARN"),
        ("rights in the namespace", "OK"),
        ("rights in the cluster", "OK"),
        ("platform", "OK"),
    ] {
        assert_eq!(level_of(&found, check), level, "{check}: {found:#}");
    }
    let definition = include_str!("../../../../deploy/kubernetes/trainingjobs.yaml");
    cluster.apply(definition).unwrap();
    wait_for("the definition", || level_of(&examine(), "definition trainingjobs.slipway.dev") == "OK");

    // An account without rights.
    let config = namespace.account("stranger", &nothing()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = cluster.command(env!("CARGO_BIN_EXE_slipway"));
    command.args(["doctor", "--check", "kubernetes", "--kube-namespace", namespace.name(), "--json"]);
    let output = command.env("KUBECONFIG", &path).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(level_of(&found, "rights in the namespace"), "FAIL");
    assert_eq!(level_of(&found, "nodes"), "WARN", "it may not list nodes");
}

/// A Role that allows next to nothing.
fn nothing() -> String {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "stranger"},
        "rules": [{"apiGroups": [""], "resources": ["events"], "verbs": ["list"]}]})
    .to_string()
}

/// A pod that answers like a service.
fn pod(name: &str, release: &str) -> String {
    let script = "mkdir -p /tmp/www && echo ok >/tmp/www/readyz && exec httpd -f -p 5000 -h /tmp/www";
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {
            "app.kubernetes.io/name": "slipway", "app.kubernetes.io/part-of": "slipway",
            "app.kubernetes.io/component": "registry", "app.kubernetes.io/instance": release}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "registry",
            "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", script],
            "ports": [{"containerPort": 5000}]}]}})
    .to_string()
}

fn is_ready(namespace: &TestNamespace<'_>, name: &str) -> bool {
    namespace.kubectl(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=60s"]).is_ok()
}

#[test]
fn a_service_in_a_cluster_is_reached_without_an_address() {
    let Some(cluster) = Cluster::shared(Level::Node) else { return };
    let namespace = cluster.namespace();
    let status = |more: &[&str]| {
        let mut arguments = vec!["status", "--json", "--kube-namespace", namespace.name()];
        arguments.extend(more);
        slipway(cluster, &arguments)
    };
    let none = status(&[]);
    assert!(text(&none.stderr).contains("no installation in the namespace"), "{}", text(&none.stderr));

    namespace.apply(&pod("registry-1", "prod")).unwrap();
    assert!(is_ready(&namespace, "registry-1"));
    wait_for("the registry to answer", || status(&[]).status.success());
    let answer: Value = serde_json::from_slice(&status(&[]).stdout).unwrap();
    assert_eq!(
        (&answer["parts"][0]["part"], &answer["parts"][0]["state"]),
        (&json!("registry"), &json!("ready"))
    );

    // The administrator's token is read only if it is asked for.
    let refused = status(&["--kube-admin-token"]);
    assert!(text(&refused.stderr).contains("the Secret prod-tokens"), "{}", text(&refused.stderr));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prod-tokens"},
        "stringData": {"admin-token": "slp_x"}});
    namespace.apply(&secret.to_string()).unwrap();
    let accepted = status(&["--kube-admin-token"]);
    assert!(accepted.status.success(), "{}", text(&accepted.stderr));
    assert!(!text(&accepted.stdout).contains("slp_x"));

    namespace.apply(&pod("registry-2", "canary")).unwrap();
    assert!(is_ready(&namespace, "registry-2"));
    let several = status(&[]);
    assert!(
        text(&several.stderr).contains("--kube-release with one of canary, prod"),
        "{}",
        text(&several.stderr)
    );
    assert!(status(&["--kube-release", "canary"]).status.success());
}
