//! Manifests as their users write them, and the jobs that they become.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

use std::path::PathBuf;

use serde_json::{Value, json};
use slipway_training_manifests::{convert, is_manifest};

/// Writes the snapshots instead of comparing with them.
const WRITE: &str = "SLIPWAY_WRITE_DOCS";

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn refused(text: &str) -> String {
    convert(&yaml(text)).unwrap_err().to_string()
}

/// Each manifest `NAME.yaml` becomes what `NAME.json` says.
#[test]
fn manifests_become_jobs() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/manifests");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let manifest = yaml(&std::fs::read_to_string(&path).unwrap());
        assert!(is_manifest(&manifest));
        let converted = convert(&manifest).unwrap_or_else(|invalid| panic!("{}: {invalid}", path.display()));
        converted.job.validate().unwrap();
        converted.kubernetes.validate().unwrap();
        let shown = json!({"job": converted.job, "kubernetes": converted.kubernetes,
            "dropped": converted.dropped});
        let found = format!("{shown:#}\n");
        let snapshot = path.with_extension("json");
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&snapshot, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&snapshot).unwrap_or_default();
        assert_eq!(
            found,
            expected,
            "{} differs; run the test with {WRITE}=1 if that is meant",
            snapshot.display()
        );
        seen += 1;
    }
    assert_eq!(seen, 5);
}

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  template:
    spec:
      containers: [{name: c, image: train:1, command: [python, train.py]}]
";

#[test]
fn what_would_mean_something_else_is_refused_by_its_field() {
    assert!(convert(&yaml(JOB)).is_ok());
    for (from, to, expected) in [
        ("kind: Job", "kind: CronJob", "kind: expected a Job of batch/v1, a PyTorchJob"),
        ("{name: train}", "{}", "metadata.name: expected the name of the job"),
        ("spec:\n  template", "spec:\n  suspend: true\n  template", "spec.suspend: a job starts when"),
        ("spec:\n  template", "spec:\n  completions: 3\n  template", "spec.completions: several pods"),
        ("spec:\n  template", "spec:\n  backoffLimit: many\n  template", "spec.backoffLimit: got `\"many\"`"),
        (
            ", command: [python, train.py]",
            "",
            "spec.template.spec.containers[0].command: expected the program",
        ),
        ("train.py]", "$(SCRIPT)]", "spec.template.spec.containers[0].command: `$(NAME)` is not replaced"),
        ("image: train:1, ", "", "spec.template.spec.containers[0].image: expected the container image"),
        (
            "image: train:1",
            "image: train:1, resources: {limits: {memory: 4GB}}",
            "spec.template.spec.containers[0].resources.limits.memory: expected a quantity, got \"4GB\"",
        ),
        (
            "image: train:1",
            "image: train:1, volumeMounts: [{name: data, mountPath: /data}]",
            "spec.template.spec.containers[0].volumeMounts[0].name: there is no volume `data`",
        ),
        (
            "containers: [{",
            "containers: []\n      x: [{",
            "spec.template.spec.containers: expected the container",
        ),
    ] {
        let changed = JOB.replace(from, to);
        assert_ne!(changed, JOB, "{from}");
        let refused = refused(&changed);
        assert!(refused.starts_with(expected), "{to}: {refused}");
    }
}

#[test]
fn a_volume_without_a_counterpart_is_refused_where_the_command_mounts_it() {
    let with = |mounts: &str| {
        JOB.replace("image: train:1", &format!("image: train:1{mounts}")).replace(
            "      containers",
            "      volumes: [{name: data, hostPath: {path: /data}}]\n      containers",
        )
    };
    let refused = refused(&with(", volumeMounts: [{name: data, mountPath: /data}]"));
    assert!(refused.starts_with("spec.template.spec.volumes[0].hostPath: expected a persist"), "{refused}");
    assert!(convert(&yaml(&with(""))).is_ok());
}

#[test]
fn roles_of_a_distributed_job_run_one_command() {
    let role = |name: &str, command: &str| {
        format!(
            "    {name}:\n      replicas: 2\n      template:\n        spec:\n          containers: \
             [{{name: tensorflow, image: train:1, command: [{command}]}}]\n"
        )
    };
    let manifest = |roles: &str| {
        let kind = "apiVersion: kubeflow.org/v1\nkind: TFJob\nmetadata: {name: t}";
        format!("{kind}\nspec:\n  tfReplicaSpecs:\n{roles}")
    };
    let same = manifest(&(role("Worker", "a") + &role("PS", "a")));
    assert_eq!(json!(convert(&yaml(&same)).unwrap().kubernetes.replicas), json!({"worker": 2, "ps": 2}));
    let other = refused(&manifest(&(role("Worker", "a") + &role("PS", "b"))));
    assert!(
        other.starts_with("spec.tfReplicaSpecs.PS.template: expected the image and the command of Worker"),
        "{other}"
    );
    let none = refused(&manifest("    Boss: {}\n"));
    assert!(none.starts_with("spec.tfReplicaSpecs: expected some of Chief, Master, Worker"), "{none}");
}
