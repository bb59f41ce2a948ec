//! A data directory of an earlier release: from before the outbox and the audit trail had migrations of their
//! own, and before services had roles of their own in Postgres.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_toolbox::servers::{self, PostgresOptions, Running, S3Options};
use slipway_toolbox::{Account, DEFAULT_ACCOUNT, PostgresBinaries, Toolbox};

use crate::client::{Client, fixture_bytes};
use crate::platform::Platform;

/// Schemas with the last migration of that release, and what they held.
const SCHEMAS: [(&str, u32, &str); 4] = [
    ("registry", 20, include_str!("../fixtures/earlier-release/registry.sql")),
    ("launcher", 1, include_str!("../fixtures/earlier-release/launcher.sql")),
    ("drift_monitor", 1, include_str!("../fixtures/earlier-release/drift_monitor.sql")),
    ("rollout_controller", 1, include_str!("../fixtures/earlier-release/rollout_controller.sql")),
];
const RUN: &str = "5033a18d1cb444bca68ec679ad4466bb";
const JOB: &str = "01a226e4-cb61-7386-95ca-44e66dcaade3";
const ROLLOUT: &str = "01a226e4-cbf0-73a2-9ba2-dc65839993f9";
const DIGEST: &str = "sha256:ecc8aa54a834d414cfdfda3e33c4bbf171631eb5422f345945800366464aff98";
const NOTES: &[u8] = b"trained before the upgrade\n";
const MLMODEL: &[u8] = b"flavors:\n  onnx:\n    data: model.onnx\n    onnx_version: 1.19.0\n";
const ONNX: &str = "right-1.onnx";

/// Objects of the store by their keys.
fn objects() -> [(&'static str, Vec<u8>); 3] {
    [
        ("blobs/01a226e4c9de723cadd1fc3ff63ca9b8", NOTES.to_vec()),
        ("blobs/01a226e4cad07780a1aaae92ea352a6d", MLMODEL.to_vec()),
        ("blobs/01a226e4cae170aeb1d3e4d1b0251c11", fixture_bytes(ONNX)),
    ]
}

/// Fills the servers of a platform that has never run, as the earlier release left them.
async fn lay_out(data_dir: &Path) {
    slipway_runtime::install_tls_provider();
    slipway_toolbox::private::folder(data_dir).unwrap();
    let log_dir = data_dir.join("logs");
    slipway_toolbox::private::folder(&log_dir).unwrap();
    let toolbox = Toolbox::from_env().unwrap();
    let account = Account::for_servers(DEFAULT_ACCOUNT).unwrap();
    let binaries = toolbox.postgres(&mut |_| {}).unwrap();
    let postgres = PostgresOptions {
        binaries: binaries.clone(),
        dir: data_dir.join("postgres"),
        log_dir: log_dir.clone(),
        port: servers::free_port().unwrap(),
        account,
        // Every service connected as the superuser.
        roles: Vec::new(),
    };
    let (mut running, _) = servers::start_postgres(&postgres).unwrap();
    SCHEMAS.iter().for_each(|(schema, last, rows)| restore(&binaries, &running, schema, *last, rows));
    running.stop();
    let s3 = S3Options {
        program: toolbox.weed(&mut |_| {}).unwrap(),
        dir: data_dir.join("s3"),
        log_dir,
        port: servers::free_port().unwrap(),
        account,
    };
    let (mut running, keys) = servers::start_s3(&s3).unwrap();
    let store = ArtifactStore::new(&S3Config {
        s3_endpoint: running.url.clone(),
        s3_region: "us-east-1".to_owned(),
        s3_bucket: "slipway".to_owned(),
        s3_access_key: keys.access_key,
        s3_secret_key: keys.secret_key.into(),
    });
    store.ensure_bucket().await.unwrap();
    for (key, bytes) in objects() {
        store.put_bytes(key, bytes.into()).await.unwrap();
    }
    running.stop();
}

/// The schema by the migrations of that release, which never change, and its rows. The rows include the
/// checksums that sqlx compares with the migrations.
fn restore(binaries: &PostgresBinaries, postgres: &Running, schema: &str, last: u32, rows: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(schema);
    let mut migrations: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    migrations.retain(|path| {
        let number = path.file_name().unwrap().to_str().unwrap().split('_').next().unwrap();
        number.parse::<u32>().unwrap() <= last
    });
    migrations.sort();
    let mut script = format!("CREATE SCHEMA {schema};\nSET search_path = {schema};\n");
    for path in migrations {
        script += &format!("BEGIN;\n{}\nCOMMIT;\n", std::fs::read_to_string(path).unwrap());
    }
    script += rows;
    let mut psql = Command::new(binaries.bin_dir.join("psql"));
    psql.args([&postgres.url, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
    let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{schema}");
}

impl Client {
    /// A file of the registry's REST v1.
    async fn file(&self, path: &str) -> Vec<u8> {
        let response = reqwest::get(format!("{}/api/v1/{path}", self.registry)).await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.bytes().await.unwrap().to_vec()
    }

    async fn registry_v1(&self, path: &str) -> serde_json::Value {
        self.get(&format!("{}/api/v1/{path}", self.registry)).await
    }

    /// Waits until the job has ended.
    async fn ended_job(&self, id: &str) -> serde_json::Value {
        for _ in 0..600 {
            let job = self.get(&format!("{}/api/v1/jobs/{id}", self.launcher)).await;
            if job["finished_at"].is_string() {
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the job does not end");
    }
}

async fn what_was_stored_is_there(client: &Client) {
    let run = client.registry_v1(&format!("runs/{RUN}")).await;
    assert_eq!((&run["info"]["run_name"], &run["info"]["status"]), (&json!("trial-1"), &json!("FINISHED")));
    assert_eq!(run["data"]["params"], json!([{"key": "lr", "value": "0.1"}]));
    assert_eq!(run["data"]["metrics"][0]["value"], 0.25, "{run}");
    let history = client.registry_v1(&format!("runs/{RUN}/metrics/loss")).await;
    assert_eq!(history["points"].as_array().unwrap().len(), 4, "{history}");
    let notes = client.file(&format!("runs/{RUN}/artifacts/content?path=notes.txt")).await;
    assert_eq!(notes, NOTES);
    let experiment = client.registry_v1("experiments/1").await;
    assert_eq!((&experiment["name"], &experiment["tags"]["team"]), (&json!("churn"), &json!("growth")));

    let version = client.registry_v1("models/churn/aliases/champion").await;
    assert_eq!((&version["version"], &version["digest"]), (&json!("1"), &json!(DIGEST)), "{version}");
    assert_eq!((&version["run_id"], &version["servable"]), (&json!(RUN), &json!(true)), "{version}");
    let onnx = client.file("models/churn/versions/1/artifacts/content?path=model.onnx").await;
    assert_eq!(onnx, fixture_bytes(ONNX));

    let job = client.get(&format!("{}/api/v1/jobs/{JOB}", client.launcher)).await;
    assert_eq!((&job["status"], &job["attempts"][0]["exit_code"]), (&json!("succeeded"), &json!(0)), "{job}");
    assert_eq!(job["spec"]["files"]["train.py"], "print(1)", "{job}");

    let deployment = client.get(&format!("{}/api/v1/deployments/churn", client.controller)).await;
    assert_eq!(
        (&deployment["stable_version"], &deployment["watch_alias"]),
        (&json!("1"), &json!("champion"))
    );
    let rollout = client.get(&format!("{}/api/v1/rollouts/{ROLLOUT}", client.controller)).await;
    assert_eq!((&rollout["phase"], &rollout["to_version"]), (&json!("promoted"), &json!("1")), "{rollout}");
    assert_eq!(client.predict("churn", 1.0, "before").await, Ok(("1".to_owned(), 1)));

    let monitor = client.get(&format!("{}/api/v1/monitors/churn-inputs", client.monitor)).await;
    assert_eq!(monitor["state"], "waiting_for_baseline", "{monitor}");
    assert_eq!(monitor["spec"]["thresholds"]["p_value"], 0.01, "{monitor}");
    assert_eq!(monitor["spec"]["window"]["rows"], 100, "{monitor}");
}

/// The trail goes on after its last row, with the event that the earlier release had not published yet.
async fn the_audit_trail_goes_on(platform: &Platform, client: &Client) {
    let rows = client.registry_v1("audit?order=chain&limit=100").await;
    let rows = rows["audit"].as_array().unwrap().clone();
    let what = |row: usize| format!("{}.{}", rows[row]["entity"], rows[row]["what"]).replace('"', "");
    assert_eq!((what(0), what(10)), ("experiment.created".to_owned(), "model-version.created".to_owned()));
    assert_eq!((what(11), &rows[11]["id"]), ("alias.set".to_owned(), &json!("churn@champion")));
    let verified = platform.slipway(&["audit", "verify"]).success();
    assert!(!verified.stdout.is_empty());
}

async fn new_writes_work(client: &Client) {
    let metric = json!({"run_id": RUN, "key": "loss", "value": 0.125, "timestamp": 1_767_225_604_000_i64,
        "step": 4});
    client.mlflow("runs/log-metric", metric).await;
    assert_eq!(client.registry_v1(&format!("runs/{RUN}")).await["data"]["metrics"][0]["value"], 0.125);
    assert_eq!(client.register("churn", "right-2.onnx").await, "2");
    let traffic = client.traffic("churn");
    client.set_alias("churn", "champion", "2").await;
    client.wait_for_rollout("churn", "2", "promoted").await;
    assert_eq!(traffic.stop().await, [""; 0]);
    let job = json!({"name": "again", "command": ["sh", "-c", "echo again"]});
    let job = client.post(&format!("{}/api/v1/jobs", client.launcher), job).await;
    let ended = client.ended_job(job["id"].as_str().unwrap()).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let change = json!({"consecutive_windows": 3});
    let url = format!("{}/api/v1/monitors/churn-inputs", client.monitor);
    let (status, monitor) = client.send(reqwest::Method::PATCH, &url, Some(&change)).await;
    assert!(status.is_success(), "{monitor}");
    assert_eq!(monitor["spec"]["consecutive_windows"], 3, "{monitor}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_an_earlier_release_opens_with_all_that_it_holds() {
    let platform = Platform::new();
    lay_out(&platform.data_dir()).await;
    platform.up(&[]);
    let client = Client::new(&platform);
    what_was_stored_is_there(&client).await;
    the_audit_trail_goes_on(&platform, &client).await;
    new_writes_work(&client).await;

    platform.slipway(&["down"]).success();
    platform.up(&[]);
    let client = Client::new(&platform);
    assert_eq!(client.predict("churn", 1.0, "after").await.map(|(version, _)| version), Ok("2".to_owned()));
    let metrics = client.registry_v1(&format!("runs/{RUN}/metrics/loss")).await;
    assert_eq!(metrics["points"].as_array().unwrap().len(), 5, "{metrics}");
}
