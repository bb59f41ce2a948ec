//! The command line as a person at a shell uses it, over a running platform.

use serde_json::json;

use crate::client::{Client, strategy};
use crate::platform::{Platform, wait_for};

/// What a command prints.
fn shown(platform: &Platform, arguments: &[&str]) -> String {
    String::from_utf8(platform.slipway(arguments).success().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_deployed_rolled_out_and_taken_back() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.register("m", "right-2.onnx").await;
    assert!(shown(&platform, &["models", "list"]).contains("m      2"));
    assert!(shown(&platform, &["models", "version", "m", "1"]).contains("sha256:"));
    assert_eq!(platform.json(&["models", "show", "m"])["latest_version"], "2");

    let file = platform.data_dir().join("strategy.json");
    std::fs::write(&file, strategy(0.1).to_string()).unwrap();
    let file = file.to_str().unwrap();
    let create =
        ["deployments", "create", "m", "--model", "m", "--version", "1", "--watch-alias", "champion"];
    shown(&platform, &[&create[..], &["--strategy", file]].concat());
    wait_for("version 1 to answer", || {
        platform.slipway(&["predict", "m", "[[1.0, 0.0]]"]).text().contains("label")
    });
    assert!(shown(&platform, &["deployments", "list"]).contains("champion"));
    assert_eq!(platform.json(&["deployments", "show", "m"])["stable_version"], "1");

    shown(&platform, &["models", "set-alias", "m", "champion", "2"]);
    let newest = || platform.json(&["rollouts", "list", "--deployment", "m"])["rollouts"][0].clone();
    wait_for("the canary", || newest()["to_version"] == "2" && newest()["phase"] == "progressing");
    let id = newest()["id"].as_str().unwrap().to_owned();
    shown(&platform, &["rollouts", "pause", &id]);
    assert_eq!(newest()["phase"], "paused");
    assert!(platform.slipway(&["rollouts", "pause", &id]).refusal().contains("paused"));
    shown(&platform, &["rollouts", "resume", &id]);
    shown(&platform, &["rollouts", "promote", &id]);
    wait_for("the promotion", || newest()["phase"] == "promoted");
    assert!(shown(&platform, &["rollouts", "show", &id]).contains("promoted by hand"));
    shown(&platform, &["deployments", "rollback", "m"]);
    wait_for("the rollback", || newest()["phase"] == "rolled_back");
    assert_eq!(platform.json(&["predict", "m", "[[1.0, 0.0]]"])["model_version"], "1");

    let seen = shown(&platform, &["events", "tail", "--since", "600", "--for", "2"]);
    for subject in ["registry.alias.set", "rollout-controller.rollout.promoted", "rollout.rolled-back"] {
        assert!(seen.contains(subject), "{subject} is not in\n{seen}");
    }
    shown(&platform, &["deployments", "delete", "m"]);
    assert!(platform.slipway(&["deployments", "show", "m"]).refusal().contains("deployment `m`"));
}

/// A manifest for Kubernetes: shown as a job, and refused by a launcher that runs jobs on its own machine.
fn manifests_are_converted(platform: &Platform) {
    let manifest = "apiVersion: batch/v1
kind: Job
metadata: {name: mnist}
spec:
  backoffLimit: 2
  podReplacementPolicy: Failed
  template:
    spec:
      restartPolicy: Never
      containers:
        - {name: main, image: 'train:1', command: [python3, train.py]}
";
    let path = platform.data_dir().join("manifest.yaml");
    std::fs::write(&path, manifest).unwrap();
    let submit = ["jobs", "submit", "-f", path.to_str().unwrap()];
    let converted = platform.slipway(&[&submit[..], &["--dry-run"]].concat()).success();
    let job: serde_json::Value = serde_json::from_slice(&converted.stdout).unwrap();
    assert_eq!((&job["name"], &job["kubernetes"]["image"]), (&json!("mnist"), &json!("train:1")));
    assert_eq!((&job["command"], &job["retries"]["limit"]), (&json!(["python3", "train.py"]), &json!(2)));
    let refusal = platform.slipway(&submit).refusal();
    assert!(refusal.contains("no launcher of this installation runs jobs on Kubernetes"), "{refusal}");
    std::fs::write(&path, manifest.replace("kind: Job", "kind: CronJob")).unwrap();
    let refusal = platform.slipway(&submit).refusal();
    assert!(refusal.contains("manifest.yaml: kind:"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_monitors_are_made_from_files_and_looked_at() {
    let platform = Platform::start(&[]);
    let write = |name: &str, body: serde_json::Value| {
        let path = platform.data_dir().join(name);
        std::fs::write(&path, body.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let job = write(
        "job.json",
        json!({"name": "hello", "command": ["sh", "-c", "echo said $WHAT"], "env": {"WHAT": "hi"}}),
    );
    shown(&platform, &["jobs", "submit", &job, "--wait"]);
    let listed = platform.json(&["jobs", "list", "--status", "succeeded"]);
    let id = listed["jobs"][0]["id"].as_str().unwrap();
    assert!(shown(&platform, &["jobs", "logs", id]).contains("said hi"));
    assert!(shown(&platform, &["jobs", "show", id]).contains("succeeded"));
    assert_eq!(platform.json(&["jobs", "checkpoints", id])["checkpoints"], json!([]));
    let failing = write("failing.json", json!({"name": "fails", "command": ["false"]}));
    assert!(platform.slipway(&["jobs", "submit", &failing, "--wait"]).refusal().contains("exit code 1"));
    manifests_are_converted(&platform);
    let long = write("long.json", json!({"name": "long", "command": ["sleep", "600"]}));
    let long = platform.json(&["jobs", "submit", &long])["id"].as_str().unwrap().to_owned();
    shown(&platform, &["jobs", "cancel", &long]);
    wait_for("the cancellation", || platform.json(&["jobs", "show", &long])["status"] == "cancelled");

    let monitor = write("monitor.json", json!({"name": "w", "deployment": "none", "model": "none"}));
    shown(&platform, &["monitors", "create", &monitor]);
    wait_for("the reason", || {
        shown(&platform, &["monitors", "list"]).contains("there is no deployment `none`")
    });
    assert_eq!(platform.json(&["monitors", "show", "w"])["state"], "waiting_for_baseline");
    assert_eq!(platform.json(&["monitors", "windows", "w"])["windows"], json!([]));
    assert_eq!(platform.json(&["monitors", "actions", "w"])["actions"], json!([]));
    assert_eq!(platform.json(&["monitors", "verdicts", "w"])["verdicts"], json!([]));
    assert!(shown(&platform, &["monitors", "windows", "w"]).contains("VERDICT"));
    assert!(
        platform
            .slipway(&["monitors", "windows", "w", "--window", "3"])
            .refusal()
            .contains("window 3 of monitor `w`")
    );
    let change = write("change.json", json!({"window": {"max_s": 60}}));
    let update = ["monitors", "update", "w", &change, "--window-rows", "50", "--threshold", "psi=0.3"];
    let spec = &platform.json(&update)["spec"];
    assert_eq!(
        (&spec["window"], &spec["thresholds"]["psi"]),
        (&json!({"rows": 50, "max_s": 60.0}), &json!(0.3))
    );
    assert_eq!(spec["thresholds"]["p_value"], 0.01, "defaults are shown");
    let refused = |arguments: &[&str]| platform.slipway(arguments).refusal();
    assert!(refused(&["monitors", "update", "w"]).contains("nothing to change"));
    assert!(refused(&["monitors", "update", "w", "--threshold", "psi"]).contains("NAME=VALUE"));
    assert!(refused(&["monitors", "update", "w", "--threshold", "typo=1"]).contains("typo"));
    shown(&platform, &["monitors", "delete", "w"]);
    assert!(platform.slipway(&["monitors", "show", "w"]).refusal().contains("monitor `w`"));
    assert!(shown(&platform, &["runs", "list"]).contains("RUN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_purged_on_request() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    let made = client.mlflow("experiments/create", json!({"name": "old"})).await;
    let experiment = made["experiment_id"].as_str().unwrap().to_owned();
    for _ in 0..60 {
        client.mlflow("runs/create", json!({"experiment_id": experiment})).await;
    }
    client.mlflow("experiments/delete", json!({"experiment_id": experiment})).await;
    let purge = ["registry", "purge", "--older-than-days"];
    assert!(shown(&platform, &[&purge[..], &["1", "--yes"]].concat()).contains("runs           0"));
    let dry = shown(&platform, &[&purge[..], &["0"]].concat());
    assert!(dry.contains("runs           60") && dry.contains("run again with --yes"), "{dry}");
    let done = platform.json(&[&purge[..], &["0", "--yes"]].concat());
    let expected = json!({"runs": 60, "logged_models": 0, "experiments": 1, "files": 0, "size_bytes": 0,
        "dry_run": false});
    assert_eq!(done, expected);
    assert!(shown(&platform, &["models", "list"]).contains('m'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_alias_is_refused_with_the_numbers() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    let file = platform.data_dir().join("policy.json");
    let rules = json!({"rules": [{"rule": "servable"},
        {"rule": "metric-at-least", "metric": "accuracy", "value": 0.9}]});
    std::fs::write(&file, rules.to_string()).unwrap();
    let guarded = shown(&platform, &["models", "guard", "m", "champion", file.to_str().unwrap()]);
    assert!(guarded.contains("m@champion is guarded by 2 rules"), "{guarded}");
    let check = shown(&platform, &["models", "check", "m", "1", "champion"]);
    assert!(
        check.contains("metric-at-least") && check.contains("refused: the alias cannot be set"),
        "{check}"
    );
    let refusal = platform.slipway(&["models", "set-alias", "m", "champion", "1"]).refusal();
    assert!(refusal.contains("no metric accuracy; at least 0.9 is required"), "{refusal}");
    shown(&platform, &["models", "unguard", "m", "champion"]);
    shown(&platform, &["models", "set-alias", "m", "champion", "1"]);
    let card = shown(&platform, &["models", "card", "m", "1"]);
    assert!(card.starts_with("# m 1\n") && card.contains("| aliases | champion |"), "{card}");
}
