//! What the chart renders.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use slipway_kubernetes_testkit::{Cluster, Helm, Level};

use crate::chart::{NAMESPACE, VALUES, called, check_generated, rendered};

/// The pods that objects make, with the name of the object.
fn pods(objects: &[Value]) -> Vec<(String, &Value)> {
    objects
        .iter()
        .filter_map(|object| match object["kind"].as_str()? {
            "Deployment" | "StatefulSet" => Some((called(object), &object["spec"]["template"]["spec"])),
            "Pod" => Some((called(object), &object["spec"])),
            _ => None,
        })
        .collect()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|list| pod[list].as_array().into_iter().flatten())
}

fn variables(container: &Value) -> impl Iterator<Item = &Value> {
    container["env"].as_array().into_iter().flatten()
}

/// Whether a snapshot has all of an object, and not its name only: that of production has all, and the others
/// have what is different with their values.
fn is_shown(values: &str, object: &Value) -> bool {
    let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
    match values {
        "evaluation" => {
            ["Secret", "Namespace"].contains(&kind)
                || ["-postgres", "-nats", "-s3", "-team"].iter().any(|end| name.ends_with(end))
        }
        "namespace" => kind.starts_with("Role") || called(object) == "Deployment slipway-registry",
        _ => kind != "CustomResourceDefinition",
    }
}

/// Hides what differs each time, and what says nothing about the chart.
fn shown(values: &str, mut object: Value) -> Value {
    if !is_shown(values, &object) {
        return json!({"kind": object["kind"], "metadata": {
            "name": object["metadata"]["name"], "annotations": object["metadata"]["annotations"],
        }});
    }
    if is_secret(&object) {
        let data = object["data"].as_object_mut().unwrap();
        data.values_mut().for_each(|value| *value = json!("…"));
    }
    object["metadata"].as_object_mut().unwrap().remove("labels");
    object
}

fn is_secret(object: &Value) -> bool {
    object["kind"] == "Secret"
}

#[test]
fn manifests_are_those_of_the_snapshots() {
    let Some(helm) = Helm::own() else { return };
    for name in VALUES {
        let mut objects = rendered(&helm, name, &[]).unwrap();
        objects.sort_by_key(called);
        let texts: Vec<String> = objects
            .into_iter()
            .map(|object| serde_saphyr::to_string(&shown(name, object)).unwrap())
            .collect();
        let path = format!("programs/slipway/tests/helm/snapshots/{name}.yaml");
        check_generated(&path, &texts.join("---\n"));
    }
}

#[test]
fn every_pod_is_restricted_and_says_what_it_needs() {
    let Some(helm) = Helm::own() else { return };
    for name in VALUES {
        let objects = rendered(&helm, name, &[]).unwrap();
        let pods = pods(&objects);
        assert!(pods.len() >= 5, "{name}: {}", pods.len());
        for (object, pod) in pods {
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{object}");
            assert_ne!(security["runAsUser"], 0, "{object}");
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{object}");
            let calls_kubernetes =
                ["rollout-controller", "launcher"].iter().any(|part| object.ends_with(part));
            assert!(!pod["automountServiceAccountToken"].as_bool().unwrap() || calls_kubernetes, "{object}");
            for container in containers(pod) {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{object}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{object}");
                assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{object}");
                for needed in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                    assert!(container["resources"].pointer(needed).is_some(), "{object}: {needed}");
                }
            }
        }
    }
}

#[test]
fn secrets_are_references() {
    let Some(helm) = Helm::own() else { return };
    for name in VALUES {
        let objects = rendered(&helm, name, &[]).unwrap();
        let secret = |variable: &str| {
            ["_TOKEN", "_KEY", "POSTGRES_URL", "NATS_URL", "_DIGESTS", "PASSWORD"]
                .iter()
                .any(|end| variable.ends_with(end))
        };
        let mut references = 0;
        for (object, pod) in pods(&objects) {
            for variable in containers(pod).flat_map(variables) {
                let of = variable["name"].as_str().unwrap();
                // Paths of files.
                if !secret(of) || of.starts_with("SLIPWAY_TLS") || of.starts_with("SLIPWAY_OPERATOR") {
                    continue;
                }
                assert!(variable["valueFrom"]["secretKeyRef"]["name"].is_string(), "{object}: {of}");
                references += 1;
            }
        }
        assert!(references > 10, "{name}: {references}");
    }
    // A production installation brings all Secrets.
    let production = rendered(&helm, "production", &[]).unwrap();
    assert!(!production.iter().any(is_secret));
}

#[test]
fn services_know_every_variable() {
    let Some(helm) = Helm::own() else { return };
    for name in VALUES {
        let objects = rendered(&helm, name, &[]).unwrap();
        for (object, pod) in pods(&objects).iter().filter(|(object, _)| object.starts_with("Deployment")) {
            let service = object.trim_start_matches("Deployment slipway-");
            let mut help = Command::new(env!("CARGO_BIN_EXE_slipway"));
            let help = help.args(["service", service, "--help"]).output().unwrap();
            let help = String::from_utf8(help.stdout).unwrap();
            for variable in containers(pod).flat_map(variables) {
                let variable = variable["name"].as_str().unwrap();
                // Of the telemetry and of TLS, which no option sets.
                let common = [
                    "SLIPWAY_LOG",
                    "SLIPWAY_LOG_FORMAT",
                    "SLIPWAY_OTLP_ENDPOINT",
                    "SLIPWAY_TRACE_RATE",
                    "SSL_CERT_FILE",
                ];
                let known = common.contains(&variable) || help.contains(&format!("[env: {variable}"));
                assert!(known, "{object}: {service} --help has no {variable}");
            }
        }
    }
}

#[test]
fn roles_are_in_the_namespaces_of_teams_alone() {
    let Some(helm) = Helm::own() else { return };
    let rights = |objects: &[Value]| -> BTreeSet<String> {
        objects
            .iter()
            .filter(|object| object["kind"].as_str().unwrap().contains("Role"))
            .map(called)
            .collect()
    };
    let evaluation = rights(&rendered(&helm, "evaluation", &[]).unwrap());
    assert!(evaluation.contains("Role ml-workloads/slipway-launcher"), "{evaluation:?}");
    assert!(evaluation.contains("RoleBinding ml-workloads/slipway-rollout-controller"), "{evaluation:?}");
    assert!(!evaluation.iter().any(|role| role.contains("Cluster")), "{evaluation:?}");
    // With `namespace`, nothing is outside of the namespace.
    let kinds = ["Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "APIService"];
    for object in rendered(&helm, "namespace", &[]).unwrap() {
        assert!(!kinds.contains(&object["kind"].as_str().unwrap()), "{}", called(&object));
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE);
        assert_eq!(namespace, NAMESPACE, "{}", called(&object));
    }
    let everywhere = ["--set", "rolloutController.operator.allNamespaces=true"];
    let everywhere = rights(&rendered(&helm, "evaluation", &everywhere).unwrap());
    assert!(everywhere.contains("ClusterRole ml-slipway-rollout-controller"), "{everywhere:?}");
    assert!(!everywhere.contains("Role ml-workloads/slipway-rollout-controller"), "{everywhere:?}");
}

#[test]
fn the_api_server_accepts_all_manifests() {
    let (Some(helm), Some(cluster)) = (Helm::own(), Cluster::shared(Level::Api)) else { return };
    for namespace in [NAMESPACE, "ml-workloads", "fraud", "search"] {
        cluster.kubectl(&["create", "namespace", namespace]).unwrap();
    }
    // No controller makes it at this level.
    cluster.kubectl(&["--namespace", NAMESPACE, "create", "serviceaccount", "default"]).unwrap();
    for name in VALUES {
        // cert-manager is not installed here.
        let mut objects = rendered(&helm, name, &[]).unwrap();
        objects.retain(|object| object["kind"] != "Certificate");
        for object in &mut objects {
            if object["metadata"].get("namespace").is_none() {
                object["metadata"]["namespace"] = json!(NAMESPACE);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.json");
        std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())
            .unwrap();
        let applied = cluster
            .kubectl(&[
                "apply",
                "--server-side",
                "--dry-run=server",
                "--validate=strict",
                "--filename",
                file.to_str().unwrap(),
            ])
            .unwrap();
        assert_eq!(applied.lines().count(), objects.len(), "{name}: {applied}");
    }
}
