//! The definitions of this release, and the examples and mistakes that people make with them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

use slipway_manifest_lint::{Definitions, Documents, Report, lint};

fn checked(text: &str) -> Report {
    lint(text, Documents::Objects, &Definitions::of_this_release().unwrap())
}

fn errors(text: &str) -> Vec<String> {
    let report = checked(text);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    let line = |error: &slipway_manifest_lint::Finding| {
        format!("{}:{} {}: {}", error.position.line, error.position.column, error.path, error.message)
    };
    report.errors.iter().map(line).collect()
}

const DEPLOYMENT: &str = "apiVersion: slipway.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: fraud
  namespace: ml
spec:
  model:
    name: fraud
    alias: champion
";

#[test]
fn a_valid_manifest_has_no_errors_and_every_rule_is_evaluated() {
    let report = checked(DEPLOYMENT);
    assert_eq!(report, Report { checked: 1, ..Report::default() });
}

#[test]
fn mistakes_are_found_where_they_are() {
    let with = |lines: &str| errors(&format!("{DEPLOYMENT}{lines}"));
    assert_eq!(
        with("  replicas:\n    min: 3\n    max: 2\n"),
        ["11:5 spec.replicas: max: expected at least min"]
    );
    assert_eq!(with("  replicsa: {}\n"), ["10:3 spec.replicsa: unknown field; did you mean replicas?"]);
    let both = with("    version: \"3\"\n");
    assert_eq!(both, ["8:5 spec.model: expected exactly one of version, alias, digest, storageUri"]);
    let name = errors(&DEPLOYMENT.replacen("name: fraud", "name: Fraud", 1));
    assert!(name[0].starts_with("4:9 metadata.name: expected at most 253 lower-case letters"), "{name:?}");
    let long = errors(&DEPLOYMENT.replacen("name: fraud", &format!("name: {}", "a".repeat(46)), 1));
    assert!(long[0].starts_with("1:1 : metadata.name: expected at most 45"), "{long:?}");
    let labels = errors(&DEPLOYMENT.replace("  namespace: ml", "  labels: {canary: true}"));
    assert_eq!(labels, ["5:20 metadata.labels.canary: expected a string; use quotes, got boolean true"]);
}

#[test]
fn kinds_and_versions_that_do_not_exist_are_named() {
    let kind = errors(&DEPLOYMENT.replace("ModelDeployment", "ModelDeploymnet"));
    assert!(kind[0].contains("did you mean ModelDeployment?") && kind[0].starts_with("2:7 kind"), "{kind:?}");
    let version = errors(&DEPLOYMENT.replace("v1alpha1", "v9"));
    assert!(version[0].contains("has no version") && version[0].contains("slipway.dev/v1alpha1"));
    assert_eq!(errors("kind: TrainingJob\n"), ["1:1 apiVersion: required, and is missing"]);
    assert_eq!(errors("- a\n"), ["1:1 : expected an object of Kubernetes, got an array"]);
    let foreign = checked("apiVersion: v1\nkind: ConfigMap\n---\napiVersion: apps/v1\nkind: Deployment\n");
    assert_eq!((foreign.checked, foreign.errors.len(), foreign.notes.len()), (0, 0, 2));
    assert!(foreign.notes[1].message.contains("Deployment (apps/v1) is not a kind of Slipway"));
}

#[test]
fn other_documents_are_passed_over_where_they_may_be() {
    let definitions = Definitions::of_this_release().unwrap();
    let report = lint(
        "apiVersion: 1\n---\napiVersion: slipway.dev/v1\nkind: Job\n",
        Documents::Anything,
        &definitions,
    );
    assert_eq!((report.notes.len(), report.errors.len()), (1, 1), "{report:?}");
    assert_eq!(report.notes[0].message, "not an object of Kubernetes; not checked");
}

#[test]
fn each_document_and_each_item_of_a_list_is_checked() {
    let two = format!("{DEPLOYMENT}---\n{DEPLOYMENT}  nope: 1\n");
    assert_eq!(errors(&two), ["20:3 spec.nope: unknown field"]);
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "t"},
         "spec": {}}]}"#;
    let found = errors(json);
    assert!(
        !found.is_empty() && found.iter().all(|error| error.starts_with("2:") || error.starts_with("3:")),
        "{found:?}"
    );
}
