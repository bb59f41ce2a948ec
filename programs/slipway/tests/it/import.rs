//! `slipway registry import`, from one registry into another: both speak MLflow's protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::client::Client;
use crate::platform::{Platform, kill};

const RUNS: usize = 24;
/// Makes an import last long enough to be interrupted.
const DELAY_MS: u64 = 4;
const SICK_MS: u64 = 1_500;

/// Stands before the old server: slows it down, and answers 503 while it is sick.
struct Proxy {
    url: String,
    sick: Arc<AtomicBool>,
}

impl Proxy {
    async fn before(server: &str) -> Self {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let sick = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&sick);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, sick) = (server.clone(), Arc::clone(&shared));
                tokio::spawn(async move { Self::serve(client, &server, &sick).await });
            }
        });
        Self { url, sick }
    }

    async fn serve(mut client: TcpStream, server: &str, sick: &AtomicBool) -> std::io::Result<()> {
        if sick.load(Ordering::Relaxed) {
            let mut request = [0u8; 4096];
            let _ = client.read(&mut request).await?;
            let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            return client.write_all(answer.as_bytes()).await;
        }
        let mut upstream = TcpStream::connect(server).await?;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = upstream.split();
        let answers = async {
            let mut chunk = vec![0u8; 64 * 1024];
            loop {
                let length = from_server.read(&mut chunk).await?;
                if length == 0 {
                    return to_client.shutdown().await;
                }
                tokio::time::sleep(Duration::from_millis(DELAY_MS)).await;
                to_client.write_all(&chunk[..length]).await?;
            }
        };
        tokio::select! {
            ended = answers => ended,
            ended = tokio::io::copy(&mut from_client, &mut to_server) => ended.map(drop),
        }
    }
}

/// One side, asked through MLflow's protocol.
struct Side {
    client: Client,
}

impl Side {
    fn url(&self, path: &str) -> String {
        format!("{}/api/2.0/mlflow/{path}", self.client.registry)
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.client.post(&self.url(path), body).await
    }

    async fn experiment(&self, name: &str) -> String {
        let answer =
            self.client.get(&self.url(&format!("experiments/get-by-name?experiment_name={name}"))).await;
        answer["experiment"]["experiment_id"].as_str().unwrap().to_owned()
    }

    async fn runs(&self) -> Vec<Value> {
        let ids: Vec<String> = self.experiments().await.into_keys().collect();
        let search = json!({"experiment_ids": ids, "run_view_type": "ALL", "max_results": 1000});
        self.post("runs/search", search).await["runs"].as_array().cloned().unwrap_or_default()
    }

    /// Names by their ids.
    async fn experiments(&self) -> BTreeMap<String, String> {
        let found = self.post("experiments/search", json!({"view_type": "ALL", "max_results": 100})).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        found["experiments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|experiment| (text(&experiment["experiment_id"]), text(&experiment["name"])))
            .collect()
    }

    /// Everything that an import keeps, in a shape that is the same on both sides.
    async fn state(&self) -> Value {
        let experiments = self.experiments().await;
        let mut runs = BTreeMap::new();
        for run in self.runs().await {
            let (id, run) = self.run(run, &experiments).await;
            runs.insert(id, run);
        }
        let mut versions = BTreeMap::new();
        let found = self.client.get(&self.url("model-versions/search?max_results=1000")).await;
        for mut version in found["model_versions"].as_array().cloned().unwrap_or_default() {
            for made_here in ["creation_timestamp", "last_updated_timestamp", "source"] {
                version.as_object_mut().unwrap().remove(made_here);
            }
            version["tags"] = own(&version["tags"]);
            let (name, number) = (version["name"].as_str().unwrap(), version["version"].as_str().unwrap());
            let key = format!("{name}/{number}");
            let url = format!("{}/api/v1/models/{name}/versions/{number}", self.client.registry);
            // The digest is over all files, so equal ones are equal byte for byte.
            let digest = self.client.get(&url).await["digest"].clone();
            version["digest"] = digest;
            versions.insert(key, version);
        }
        let names: BTreeSet<&String> = experiments.values().collect();
        json!({"experiments": names, "runs": runs, "versions": versions})
    }

    async fn run(&self, mut run: Value, experiments: &BTreeMap<String, String>) -> (String, Value) {
        let id = run["info"]["run_id"].as_str().unwrap().to_owned();
        run["info"]["experiment_id"] =
            experiments[run["info"]["experiment_id"].as_str().unwrap()].clone().into();
        let root = run["info"]["artifact_uri"].take().as_str().unwrap().replace("mlflow-artifacts:/", "");
        for list in ["tags", "params", "metrics"] {
            run["data"][list] = own(&run["data"][list]);
        }
        let mut histories = BTreeMap::new();
        let metrics = run["data"]["metrics"].as_array().cloned().unwrap_or_default();
        for key in metrics.iter().map(|metric| metric["key"].as_str().unwrap()) {
            let url = self.url(&format!("metrics/get-history?run_id={id}&metric_key={key}"));
            histories.insert(key.to_owned(), self.client.get(&url).await["metrics"].clone());
        }
        run["histories"] = json!(histories);
        let proxy = format!("{}/api/2.0/mlflow-artifacts/artifacts", self.client.registry);
        run["files"] = self.client.get(&format!("{proxy}?path={root}/notes")).await["files"].clone();
        (id, run)
    }
}

/// A list without the marks of an import, in an order that is the same on both sides.
fn own(list: &Value) -> Value {
    let mut own: Vec<Value> = list.as_array().cloned().unwrap_or_default();
    own.retain(|item| !item["key"].as_str().unwrap().starts_with("slipway.import."));
    own.sort_by_key(Value::to_string);
    own.into()
}

/// An old server's life: runs of every kind, a long history, files with odd names, versions with a gap.
async fn populate(old: &Side) {
    let tags = json!([{"key": "team", "value": "a"}]);
    let made = old.post("experiments/create", json!({"name": "churn", "tags": tags})).await;
    let experiment = made["experiment_id"].as_str().unwrap().to_owned();
    let mut run = String::new();
    for number in 0..RUNS {
        run = populate_run(old, &experiment, number).await;
    }
    // As MLflow 2 registers: by the place of the files.
    old.post("registered-models/create", json!({"name": "by-path"})).await;
    let source = format!("mlflow-artifacts:/{experiment}/{run}/artifacts/notes");
    old.post("model-versions/create", json!({"name": "by-path", "source": source, "run_id": run})).await;
    for fixture in ["right-1.onnx", "right-2.onnx", "right-3.onnx"] {
        old.client.register("m", fixture).await;
    }
    let gone = json!({"name": "m", "version": "2"});
    assert!(
        old.client.send(Method::DELETE, &old.url("model-versions/delete"), Some(&gone)).await.0.is_success()
    );
    let stage =
        json!({"name": "m", "version": "1", "stage": "Production", "archive_existing_versions": false});
    old.post("model-versions/transition-stage", stage).await;
    old.post("registered-models/set-tag", json!({"name": "m", "key": "owner", "value": "b"})).await;
    old.client.set_alias("m", "champion", "3").await;
    old.post("registered-models/create", json!({"name": "copy"})).await;
    old.post("model-versions/create", json!({"name": "copy", "source": "models:/m/3"})).await;
}

async fn populate_run(old: &Side, experiment: &str, number: usize) -> String {
    let tags = json!([{"key": "mlflow.user", "value": "ada"}, {"key": "kind", "value": "ü"}]);
    let (name, start) = (format!("run {number}"), 1000 + number);
    let body = json!({"experiment_id": experiment, "run_name": name, "start_time": start, "tags": tags});
    let run = old.post("runs/create", body).await;
    let run = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let points = if number == 0 { 2_500 } else { 3 };
    let mut metrics: Vec<Value> = (0..points)
        .map(|step| {
            json!({"key": "loss", "value": 1.0 / f64::from(step + 1), "timestamp": step,
            "step": step})
        })
        .collect();
    for (step, value) in ["NaN", "Infinity", "-Infinity"].into_iter().enumerate() {
        metrics.push(json!({"key": "odd", "value": value, "timestamp": 7, "step": step}));
    }
    for metrics in metrics.chunks(900) {
        let params = json!([{"key": "lr", "value": number.to_string()}]);
        old.post("runs/log-batch", json!({"run_id": run, "metrics": metrics, "params": params})).await;
    }
    let dataset = json!({"name": "d", "digest": "1", "source_type": "local", "source": "x", "profile": "{}"});
    let input = json!({"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": "training"}]});
    old.post("runs/log-inputs", json!({"run_id": run, "datasets": [input]})).await;
    let path = format!("{experiment}/{run}/artifacts/notes/50%25%20of%20%23{number}.txt");
    assert!(old.client.put_artifact(&path, vec![b'x'; 1 + number]).await.is_success());
    let status = if number.is_multiple_of(2) { "FINISHED" } else { "KILLED" };
    old.post("runs/update", json!({"run_id": run, "status": status, "end_time": 2000})).await;
    if number == 1 {
        old.post("runs/delete", json!({ "run_id": run })).await;
    }
    run
}

fn begin_import(new: &Platform, from: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_slipway"))
        .args(["registry", "import", "--from", from, "--concurrency", "2", "--data-dir"])
        .arg(new.data_dir())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn import(new: &Platform, from: &str, more: &[&str]) -> Value {
    new.json(&[&["registry", "import", "--from", from], more].concat())
}

/// The report, whatever is said next to it.
fn first_json(text: &str) -> Value {
    serde_json::Deserializer::from_str(text).into_iter().next().unwrap().unwrap()
}

fn copied(report: &Value, kind: &str) -> u64 {
    report["counts"][kind]["copied"].as_u64().unwrap_or_else(|| panic!("no {kind}: {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_is_imported_through_interruptions_and_only_once() {
    let start = || tokio::task::spawn_blocking(|| Platform::start(&[]));
    let (old_platform, new_platform) = tokio::try_join!(start(), start()).unwrap();
    let old = Side { client: Client::new(&old_platform) };
    let new = Side { client: Client::new(&new_platform) };
    populate(&old).await;
    // So that the same experiment has another id here.
    new.post("experiments/create", json!({"name": "ours"})).await;
    let proxy = Proxy::before(&old.client.registry).await;

    let planned = import(&new_platform, &proxy.url, &["--dry-run"]);
    assert_eq!(copied(&planned, "runs"), RUNS as u64);
    assert_eq!(new.experiments().await.len(), 2, "a dry run writes nothing");

    let mut importer = begin_import(&new_platform, &proxy.url);
    wait_for_runs(&new, 5).await;
    kill(i32::try_from(importer.id()).unwrap());
    assert!(!importer.wait().unwrap().success());
    assert_ne!(
        new.state().await["versions"],
        old.state().await["versions"],
        "it was to be interrupted half-way"
    );

    proxy.sick.store(true, Ordering::Relaxed);
    let sick = Arc::clone(&proxy.sick);
    let recovery = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(SICK_MS)).await;
        sick.store(false, Ordering::Relaxed);
    });
    let report = import(&new_platform, &proxy.url, &[]);
    recovery.await.unwrap();
    assert_eq!(report["failures"], json!([]));
    let (mut before, mut after) = (old.state().await, new.state().await);
    // Only the new one has it.
    after["experiments"].as_array_mut().unwrap().retain(|name| name != "ours");
    assert_eq!(before.take(), after.take());
    let version = new.client.get(&new.url("registered-models/get?name=m")).await;
    assert_eq!(version["registered_model"]["aliases"], json!([{"alias": "champion", "version": "3"}]));
    let by_path = new.client.get(&new.url("model-versions/get?name=by-path&version=1")).await;
    let (old_id, new_id) = (old.experiment("churn").await, new.experiment("churn").await);
    assert_ne!(old_id, new_id);
    let source = by_path["model_version"]["source"].as_str().unwrap();
    assert!(source.starts_with(&format!("mlflow-artifacts:/{new_id}/")), "{source}");

    let again = import(&new_platform, &proxy.url, &[]);
    for kind in
        ["experiments", "runs", "logged_models", "artifacts", "registered_models", "versions", "aliases"]
    {
        assert_eq!(copied(&again, kind), 0, "{kind}: {again}");
    }
    let said = new_platform.slipway(&["registry", "import", "--from", &proxy.url]).text();
    assert!(said.contains("nothing to copy"), "{said}");

    changes_are_copied(&old, &new, &new_platform).await;
    let refusal = new_platform.slipway(&["registry", "import", "--from", "http://127.0.0.1:1"]).refusal();
    assert!(refusal.contains("http://127.0.0.1:1"), "{refusal}");
}

async fn wait_for_runs(new: &Side, count: usize) {
    for _ in 0..2_000 {
        if new.runs().await.len() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the import does not begin");
}

/// What changed at the source comes; what was changed here stays; what someone else made here is not touched.
async fn changes_are_copied(old: &Side, new: &Side, new_platform: &Platform) {
    let runs = old.runs().await;
    let id = |name: &str| {
        let run = runs.iter().find(|run| run["info"]["run_name"] == name).unwrap();
        run["info"]["run_id"].clone()
    };
    old.post("runs/log-metric", json!({"run_id": id("run 2"), "key": "late", "value": 1, "timestamp": 1}))
        .await;
    old.post("runs/delete", json!({ "run_id": id("run 3") })).await;
    new.post("runs/set-tag", json!({"run_id": id("run 4"), "key": "kind", "value": "ours"})).await;
    let running =
        json!({"experiment_id": old.experiment("churn").await, "start_time": 1, "run_name": "running"});
    old.post("runs/create", running).await;
    new.post("registered-models/create", json!({"name": "taken"})).await;
    old.client.register("taken", "right-1.onnx").await;

    let from = &old.client.registry;
    let ended = new_platform.slipway(&["registry", "import", "--from", from, "--json"]);
    let report = first_json(&ended.text());
    let said = ended.refusal();
    assert!(!said.contains("slipway:"), "a failure of one thing is no failure of the command: {said}");
    assert_eq!(copied(&report, "runs"), 3, "{report}");
    assert_eq!(report["failures"].as_array().unwrap().len(), 1, "{report}");
    assert!(report["failures"][0]["why"].as_str().unwrap().contains("was not imported"), "{report}");
    let ended =
        new_platform.slipway(&["registry", "import", "--from", from, "--experiment", "churn", "--json"]);
    let report = first_json(&ended.text());
    assert_eq!(copied(&report, "runs"), 1, "a run that is not over is copied each time: {report}");
    assert_eq!(report["counts"]["registered_models"]["found"], 0, "{report}");

    let runs = new.runs().await;
    let of = |wanted: &Value| runs.iter().find(|run| run["info"]["run_id"] == *wanted).unwrap();
    assert!(of(&id("run 2"))["data"]["metrics"].to_string().contains("late"));
    assert_eq!(of(&id("run 3"))["info"]["lifecycle_stage"], "deleted");
    assert!(of(&id("run 4"))["data"]["tags"].to_string().contains("ours"));
}
