//! `slipway backup` and `slipway restore`: an installation is destroyed and comes back.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{Client, fixture_bytes, strategy};
use crate::platform::{Platform, wait_for};

/// Everything that a caller sees of models, runs, deployments and the audit trail.
fn seen(platform: &Platform) -> Vec<Value> {
    let commands: [&[&str]; 6] = [
        &["models", "list"],
        &["models", "show", "m"],
        &["models", "version", "m", "2"],
        &["runs", "list", "--limit", "1000"],
        &["deployments", "show", "m"],
        &["rollouts", "list", "--deployment", "m"],
    ];
    let mut seen: Vec<Value> = commands.iter().map(|command| platform.json(command)).collect();
    // Replicas have new names.
    seen[4]["replicas"].take();
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_is_destroyed_comes_back_from_its_backup() {
    let old = Platform::start(&[]);
    let client = Client::new(&old);
    client.register("m", "right-1.onnx").await;
    client.register("m", "right-2.onnx").await;
    for number in 0..20 {
        one_run(&client, number).await;
    }
    client.deploy("m", strategy(0.1)).await;
    wait_for("an answer", || old.slipway(&["predict", "m", "[[1.0, 0.0]]"]).text().contains("label"));
    let answer = old.json(&["predict", "m", "[[1.0, 0.0]]"]);

    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("backup").to_str().unwrap().to_owned();
    let made = old.json(&["backup", "create", "--output", &place]);
    assert!(made["artifacts"]["objects"].as_u64().unwrap() >= 2, "{made}");
    let said = old.slipway(&["backup", "verify", &place]).text();
    assert!(said.contains("verified: "), "{said}");
    assert!(
        old.slipway(&["backup", "create", "--output", &place]).refusal().contains("use another --output")
    );
    let refused = old.slipway(&["restore", &place, "--replace"]).refusal();
    assert!(
        refused.contains("services still use the database") && refused.contains("registry ("),
        "{refused}"
    );
    let before = seen(&old);
    let events = old.slipway(&["events", "tail", "--since", "600", "--for", "1"]).text();
    old.slipway(&["down"]).success();
    drop(old);

    let new = Platform::start(&["--restore", &place]);
    wait_for("the model to answer", || {
        new.slipway(&["predict", "m", "[[1.0, 0.0]]"]).text().contains("label")
    });
    assert_eq!(seen(&new), before);
    assert_eq!(new.json(&["predict", "m", "[[1.0, 0.0]]"])["outputs"], answer["outputs"]);
    let restored = new.slipway(&["events", "tail", "--since", "600", "--for", "1"]).text();
    let known = events.lines().filter(|line| line.contains("model-version")).count();
    assert!(known > 0 && restored.lines().filter(|line| line.contains("model-version")).count() >= known);
    // It goes on: the next version has the next number, and the audit trail is unbroken.
    let client = Client::new(&new);
    assert_eq!(client.register("m", "right-1.onnx").await, "3");
    assert!(new.slipway(&["audit", "verify"]).text().contains("intact"));
}

#[test]
fn a_place_or_an_installation_that_does_not_exist_is_named() {
    let platform = Platform::new();
    let run = |arguments: &[&str]| platform.slipway(arguments).refusal();
    let nowhere = run(&["backup", "create", "--output", "/nonexistent/x"]);
    assert!(nowhere.contains("SLIPWAY_POSTGRES_URL is not set"), "{nowhere}");
    let none = run(&["backup", "verify", "/nonexistent"]);
    assert!(none.contains("/nonexistent has no backup.json"), "{none}");
    assert!(run(&["backup", "show", "s3://bucket"]).contains("expected s3://BUCKET/PREFIX"));
    assert!(run(&["restore", "ftp://x/y"]).contains("`ftp://x/y` is not a place of a backup"));
}

/// 10 000 runs and 100 versions; slow, so on demand only.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: 10 000 runs and 100 versions"]
async fn ten_thousand_runs_and_a_hundred_versions_come_back_byte_for_byte() {
    let runs = std::env::var("SLIPWAY_TEST_RUNS").map_or(10_000, |runs| runs.parse().unwrap());
    let versions = 100;
    let old = Platform::start(&[]);
    let client = Client::new(&old);
    let started = Instant::now();
    for batch in 0..runs / 50 {
        let of_batch = (0..50).map(|number| one_run(&client, batch * 50 + number));
        futures::future::join_all(of_batch).await;
    }
    let onnx = fixture_bytes("right-1.onnx");
    for _ in 0..versions {
        assert!(client.try_register("m", &onnx).await.0.is_success());
    }
    println!("{runs} runs and {versions} versions made in {:.1} s", started.elapsed().as_secs_f64());
    old.slipway(&["down"]).success();
    old.up(&[]);

    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let timed = |platform: &Platform, what: &str, arguments: &[&str]| {
        let started = Instant::now();
        platform.slipway(arguments).success();
        println!("{what}: {:.2} s", started.elapsed().as_secs_f64());
    };
    timed(&old, "backup create", &["backup", "create", "--output", &place("first")]);
    timed(&old, "backup verify", &["backup", "verify", &place("first")]);
    old.slipway(&["down"]).success();
    drop(old);
    let started = Instant::now();
    let new = Platform::start(&["--restore", &place("first")]);
    println!("up --restore, until every service is ready: {:.2} s", started.elapsed().as_secs_f64());
    timed(&new, "second backup", &["backup", "create", "--output", &place("second")]);
    same_contents(&folder.path().join("first"), &folder.path().join("second"));
}

async fn one_run(client: &Client, number: usize) {
    let created = client.mlflow("runs/create", json!({"experiment_id": "0", "start_time": number})).await;
    let id = created["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let metrics: Vec<Value> =
        (0..10).map(|step| json!({"key": "loss", "value": 0.1, "timestamp": step, "step": step})).collect();
    let batch = json!({"run_id": id, "metrics": metrics, "params": [{"key": "trees", "value": "60"}],
        "tags": [{"key": "team", "value": "risk"}]});
    client.mlflow("runs/log-batch", batch).await;
    let ended = json!({"run_id": id, "status": "FINISHED", "end_time": number + 1});
    client.mlflow("runs/update", ended).await;
}

/// Rows of all tables but those that a service writes when it starts, and the bytes of all objects.
fn same_contents(first: &std::path::Path, second: &std::path::Path) {
    /// Leadership, registrations of running launchers, published events, and heartbeats of replicas.
    const RUNNING: [&str; 6] =
        ["lease", "lease_partitions", "outbox", "inbox", "deployed_tables", "launchers"];
    let read = |folder: &std::path::Path| -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join("backup.json")).unwrap()).unwrap()
    };
    let tables = |manifest: &Value| -> Vec<(String, Value)> {
        let schemas = manifest["postgres"]["schemas"].as_array().unwrap().clone();
        let tables = schemas.iter().flat_map(|schema| schema["tables"].as_array().unwrap().clone());
        let named = tables.map(|table| {
            (table["file"]["path"].as_str().unwrap().to_owned(), table["name"].clone(), table["rows"].clone())
        });
        named
            .filter(|(_, name, _)| !RUNNING.contains(&name.as_str().unwrap()))
            .map(|(path, _, rows)| (path, rows))
            .collect()
    };
    let (one, other) = (read(first), read(second));
    assert_eq!(tables(&one), tables(&other));
    for (path, _) in tables(&one) {
        assert_eq!(rows(&first.join(&path)), rows(&second.join(&path)), "{path}");
    }
    let objects = |folder: &std::path::Path| -> Vec<(Value, Value)> {
        let text = std::fs::read_to_string(folder.join("objects.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (line["key"].clone(), line["copy"]["sha256"].clone())).collect()
    };
    let (before, after) = (objects(first), objects(second));
    assert_eq!(before, after);
    println!("{} tables and {} objects are equal", tables(&one).len(), before.len());
}

/// The rows of a table in one order: a table has none.
fn rows(file: &std::path::Path) -> Vec<String> {
    let output = std::process::Command::new("gzip").args(["-dc"]).arg(file).output().unwrap();
    assert!(output.status.success());
    let mut rows: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    rows.sort();
    rows
}
