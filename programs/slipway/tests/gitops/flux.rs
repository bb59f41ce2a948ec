//! Flux: the manifests and the health expressions, checked by the API server.

use serde::Deserialize;
use serde_json::{Value, json};
use slipway_kubernetes_testkit::{Cluster, go_module};

use crate::reports::{self, Health};
use crate::{cluster, define, text};

/// Path, version and hash of the modules that have Flux's definitions, and the definitions.
const CONTROLLERS: [(&str, &str, &str, &str); 3] = [
    (
        "github.com/fluxcd/kustomize-controller",
        "v1.7.3",
        "h1:SzNnGn/4ObAPEHHleM5U7y/AKxKXph3Vj6ZhteeXw8M=",
        "kustomize.toolkit.fluxcd.io_kustomizations",
    ),
    (
        "github.com/fluxcd/helm-controller",
        "v1.4.0",
        "h1:rkm8rmB6Na7eNc4pJOnvtXEaJ19iKluRtayHKjBxcUM=",
        "helm.toolkit.fluxcd.io_helmreleases",
    ),
    (
        "github.com/fluxcd/source-controller",
        "v1.8.0",
        "h1:h549HUCBEG4jGs3uFYfb2+/XhJjcz+pvB8VG4mdSYDw=",
        "source.toolkit.fluxcd.io_gitrepositories",
    ),
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expressions {
    kind: String,
    in_progress: String,
    failed: String,
    current: String,
}

fn install(cluster: &Cluster) {
    for (path, version, sum, name) in CONTROLLERS {
        let folder = go_module(path, version, sum).unwrap().join("config/crd/bases");
        let definition = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let (group, plural) = name.split_once('_').unwrap();
        define(cluster, &format!("{plural}.{group}"), &definition);
    }
}

#[test]
fn flux_accepts_the_manifests() {
    let Some(cluster) = cluster() else { return };
    install(cluster);
    let namespace = cluster.namespace();
    for file in ["flux/platform.yaml", "flux/models.yaml"] {
        let namespaced = format!("namespace: {}", namespace.name());
        namespace.apply(&text(file).replace("namespace: flux-system", &namespaced)).unwrap();
    }
}

/// The expressions of the Kustomization.
fn expressions() -> Vec<Expressions> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text("flux/models.yaml")).unwrap();
    let found = documents.into_iter().find(|document| document["kind"] == "Kustomization").unwrap();
    serde_json::from_value(found["spec"]["healthCheckExprs"].clone()).unwrap()
}

/// A resource whose objects carry reports. The API server, which has the same language as Flux, says which of
/// the expressions do not hold for one.
fn carrier(expressions: &Expressions) -> Value {
    let kind = format!("{}Report", expressions.kind);
    let plural = format!("{}s", kind.to_lowercase());
    let rules = [
        ("inProgress", &expressions.in_progress),
        ("failed", &expressions.failed),
        ("current", &expressions.current),
    ];
    // Flux offers the fields of the object as variables.
    let rules = rules.map(|(name, expression)| {
        let rule = expression.replace("status.", "self.status.").replace("metadata.", "self.metadata.");
        json!({"rule": rule, "message": format!("not {name}")})
    });
    let text = json!({"type": "string", "maxLength": 100});
    let condition = json!({"type": "object", "properties": {"type": text, "status": text,
        "reason": text, "message": text}});
    let spec = json!({
        "type": "object",
        "required": ["metadata", "status"],
        "properties": {
            "metadata": {"type": "object", "required": ["generation"],
                "properties": {"generation": {"type": "integer"}, "name": text}},
            "status": {"type": "object", "properties": {"observedGeneration": {"type": "integer"},
                "phase": text, "reason": text,
                "conditions": {"type": "array", "maxItems": 10, "items": condition}}},
        },
        "x-kubernetes-validations": rules,
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.test.slipway.dev")},
        "spec": {
            "group": "test.slipway.dev", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": spec}}}}],
        },
    })
}

/// Flux asks in this order: in progress, failed, current.
fn judged(refused: &str) -> Health {
    let holds = |name: &str| !refused.contains(&format!("not {name}"));
    match (holds("inProgress"), holds("failed"), holds("current")) {
        (true, _, _) => Health::Progressing,
        (_, true, _) => Health::Degraded,
        (_, _, true) => Health::Healthy,
        _ => Health::Progressing,
    }
}

#[test]
fn health_expressions_judge_every_state() {
    let Some(cluster) = cluster() else { return };
    let namespace = cluster.namespace();
    for expressions in expressions() {
        let carrier = carrier(&expressions);
        define(cluster, carrier["metadata"]["name"].as_str().unwrap(), &carrier.to_string());
        let cases = match expressions.kind.as_str() {
            "ModelDeployment" => reports::deployments(),
            _ => reports::jobs(),
        };
        // One without a status is in progress for Flux, whatever the expressions are.
        for (object, expected) in cases.into_iter().filter(|(object, _)| object["status"].is_object()) {
            let report = json!({
                "apiVersion": "test.slipway.dev/v1", "kind": carrier["spec"]["names"]["kind"],
                "metadata": {"name": "report"},
                "spec": {"metadata": object["metadata"], "status": object["status"]},
            });
            // No object is all three at once.
            let refused = namespace.apply(&report.to_string()).unwrap_err().to_string();
            assert!(refused.contains("not "), "{refused}");
            // Flux knows no suspended objects.
            let expected = if expected == Health::Suspended { Health::Progressing } else { expected };
            assert_eq!(judged(&refused), expected, "{object:#}: {refused}");
        }
    }
}
