//! Signing, reporting, approving and looking at lineage, as a person at a shell does it.

use serde_json::json;

use crate::client::{Client, strategy};
use crate::platform::{Platform, wait_for};

fn fixture(name: &str) -> String {
    format!("{}/../../crates/model-signing/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What a command prints.
fn shown(platform: &Platform, arguments: &[&str]) -> String {
    String::from_utf8(platform.slipway(arguments).success().stdout).unwrap()
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_signed_reported_approved_and_then_promoted() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    let (key, public) = (fixture("p384.sec1.key"), fixture("p384.pub"));
    let refusal = platform.slipway(&["models", "verify", "m", "1"]).refusal();
    assert!(refusal.contains("not validly signed"), "{refusal}");
    let folder = platform.data_dir().join("copy");
    std::fs::create_dir(&folder).unwrap();
    let description = "flavors:\n  onnx:\n    data: model.onnx\n    onnx_version: 1.19.0\n";
    std::fs::write(folder.join("MLmodel"), description).unwrap();
    std::fs::write(folder.join("model.onnx"), b"another").unwrap();
    let sign = ["models", "sign", "m", "1", "--key", &key, "--files", folder.to_str().unwrap()];
    let refusal = platform.slipway(&sign).refusal();
    assert!(refusal.contains("'model.onnx' of the version has other bytes"), "{refusal}");
    assert!(platform.slipway(&["models", "verify", "m", "1"]).text().contains("unsigned"));
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/testkit/fixtures/right-1.onnx");
    std::fs::copy(model, folder.join("model.onnx")).unwrap();
    let signed = shown(&platform, &sign);
    assert!(signed.contains("untrusted_key"), "nobody trusts that key yet: {signed}");
    shown(&platform, &["models", "keys", "trust", "release", &public, "--description", "the pipeline's"]);
    assert!(shown(&platform, &["models", "keys", "list"]).contains("ecdsa-p384"));
    assert!(shown(&platform, &["models", "verify", "m", "1"]).contains("signed by 'release'"));
    shown(&platform, &["models", "verify", "m", "1", "--key", &public]);
    let other = fixture("p256.pub");
    assert!(
        platform.slipway(&["models", "verify", "m", "1", "--key", &other]).text().contains("untrusted_key")
    );
    for (key, words) in [(fixture("sealed.key"), "is encrypted"), (public, "no private key")] {
        let refusal = platform.slipway(&["models", "sign", "m", "1", "--key", &key]).refusal();
        assert!(refusal.contains(words), "{refusal}");
    }

    let write = |name: &str, body: serde_json::Value| {
        let path = platform.data_dir().join(name);
        std::fs::write(&path, body.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let policy = write(
        "policy.json",
        json!({"rules": [
        {"rule": "signed", "keys": ["release"]}, {"rule": "approved", "by_at_least": 1},
        {"rule": "fairness-gap-at-most", "report": "holdout", "attribute": "age", "metric": "accuracy",
            "value": 0.1}]}),
    );
    shown(&platform, &["models", "guard", "m", "champion", &policy]);
    let check = shown(&platform, &["models", "check", "m", "1", "champion"]);
    assert!(check.contains("approved by nobody: 0 of 1") && check.contains("no report holdout"), "{check}");
    let segment = |value: &str, accuracy: f64| {
        json!({"attribute": "age", "value": value, "rows": 50,
            "metrics": {"accuracy": accuracy}})
    };
    let report = write(
        "report.json",
        json!({"name": "holdout", "dataset": {"name": "d", "digest": "1"}, "rows": 100,
        "metrics": {"accuracy": 0.9}, "segments": [segment("old", 0.88), segment("young", 0.92)]}),
    );
    assert!(shown(&platform, &["models", "report", "m", "1", &report]).contains("0.04"));
    assert!(shown(&platform, &["models", "reports", "m", "1", "--name", "holdout"]).contains("accuracy=0.9"));
    shown(&platform, &["models", "approve", "m", "1", "--by", "ada", "--comment", "fine"]);
    assert!(shown(&platform, &["models", "approvals", "m", "1"]).contains("fine"));
    shown(&platform, &["models", "set-alias", "m", "champion", "1"]);

    let file = write("strategy.json", strategy(0.1));
    let create = ["deployments", "create", "d", "--model", "m", "--version", "1", "--strategy", &file];
    shown(&platform, &create);
    wait_for("the deployment to be told of", || {
        platform.json(&["models", "lineage", "m", "1"])["deployments"][0]["role"] == "stable"
    });
    let card = shown(&platform, &["models", "card", "m", "1"]);
    assert!(card.contains("| d | stable |") && card.contains("| signed | valid:"), "{card}");
    shown(&platform, &["models", "withdraw", "m", "1", "--by", "ada"]);
    shown(&platform, &["models", "keys", "remove", "release"]);
    let refusal = platform.slipway(&["models", "set-alias", "m", "champion", "1"]).refusal();
    assert!(refusal.contains("not validly signed"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_job_is_tagged_with_the_job() {
    let platform = Platform::start(&[]);
    let job = platform.data_dir().join("job.json");
    let body = json!({"name": "nightly", "command": ["sh", "-c", "echo context $MLFLOW_RUN_CONTEXT"]});
    std::fs::write(&job, body.to_string()).unwrap();
    shown(&platform, &["jobs", "submit", job.to_str().unwrap(), "--wait"]);
    let id = platform.json(&["jobs", "list"])["jobs"][0]["id"].as_str().unwrap().to_owned();
    let log = shown(&platform, &["jobs", "logs", &id]);
    let context = log.lines().find_map(|line| line.split_once("context ")).expect("the command printed it").1;
    let tags: serde_json::Value = serde_json::from_str(context).unwrap();
    let expected = json!({"slipway.job_id": id, "slipway.job_name": "nightly", "slipway.attempt": "1"});
    assert_eq!(tags, expected);
}
