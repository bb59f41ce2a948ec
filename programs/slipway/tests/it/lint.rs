//! `slipway lint` as a person and a pipeline use it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const GOOD: &str = "apiVersion: slipway.dev/v1alpha1
kind: TrainingJob
metadata: {name: churn}
spec:
  image: python:3.12
  command: [python, train.py]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
";
const BAD: &str = "apiVersion: slipway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: fraud}
spec:
  model: {name: fraud, alias: champion}
  replicas: {min: two}
";

fn lint(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.arg("lint").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn errors_have_file_line_and_column_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(folder.path().join("a.yaml"), GOOD).unwrap();
    std::fs::write(inner.join("b.yml"), BAD).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not a manifest").unwrap();
    let root = folder.path().to_str().unwrap();
    let bad = inner.join("b.yml").to_str().unwrap().to_owned();

    let output = lint(&[root], "");
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("{bad}:6:19: error: spec.replicas.min: expected an integer, got string \"two\"\n");
    assert!(text(&output.stdout).ends_with(&expected), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("a.yaml:8:1: note: ConfigMap (v1) is not a kind of Slipway"));
    assert_eq!(text(&output.stderr), "2 files, 2 objects, 1 error\n");

    let json: Value = serde_json::from_slice(&lint(&[root, "--json"], "").stdout).unwrap();
    assert_eq!(
        (&json["errors"][0]["line"], &json["errors"][0]["column"]),
        (&Value::from(6), &Value::from(19))
    );
    let github = text(&lint(&[&bad, "--format", "github"], "").stdout);
    assert!(
        github.starts_with(&format!("::error file={bad},line=6,col=19::spec.replicas.min: ")),
        "{github}"
    );
    let gitlab: Value = serde_json::from_slice(&lint(&[&bad, "--format", "gitlab"], "").stdout).unwrap();
    assert_eq!(gitlab[0]["location"]["lines"]["begin"], 6);
}

#[test]
fn standard_input_is_read_and_what_cannot_be_read_is_an_error() {
    let output = lint(&["-"], GOOD);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let output = lint(&["-"], "a: [1\n");
    assert!(text(&output.stdout).contains("error: not YAML: "), "{}", text(&output.stdout));
    assert_eq!(output.status.code(), Some(1));
    let output = lint(&["/nonexistent.yaml"], "");
    assert!(
        text(&output.stderr).contains("cannot read /nonexistent.yaml") && output.status.code() == Some(1)
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(text(&lint(&[empty.path().to_str().unwrap()], "").stderr).contains("no manifests"));
    assert_eq!(lint(&[], "").status.code(), Some(2));
}

/// Manifests that this repository has are valid.
#[test]
fn examples_of_this_repository_have_no_errors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["examples", "deploy/kubernetes"] {
        let output = lint(&[root.join(folder).to_str().unwrap()], "");
        let errors: Vec<String> = text(&output.stdout)
            .lines()
            .filter(|line| line.contains(": error: "))
            .map(str::to_owned)
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}
