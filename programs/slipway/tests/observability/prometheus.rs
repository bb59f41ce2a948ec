//! The real Prometheus with the rules of deploy/prometheus, on the ports of a running platform.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::declared::root;
use crate::platform::Platform;
use crate::rules::yaml;

/// Ended when dropped.
pub(crate) struct Prometheus {
    child: Child,
    pub(crate) url: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// Job and name of the endpoint that it scrapes.
pub(crate) const ENDPOINTS: [(&str, &str); 5] = [
    ("slipway-registry", "registry"),
    ("slipway-launcher", "launcher"),
    ("slipway-serving", "serving_metrics"),
    ("slipway-rollout-controller", "rollout_controller"),
    ("slipway-drift-monitor", "drift_monitor"),
];

impl Prometheus {
    /// With the committed configuration, apart from addresses and intervals.
    pub(crate) async fn start(program: PathBuf, platform: &Platform) -> Self {
        let folder = tempfile::Builder::new().prefix("slipway-prometheus-").tempdir().unwrap();
        let source = root().join("deploy/prometheus");
        let mut config = yaml(&source.join("prometheus.yml"));
        config["global"] = json!({"scrape_interval": "1s", "evaluation_interval": "1s"});
        config["rule_files"] = json!([folder.path().join("*.yml")]);
        for job in config["scrape_configs"].as_array_mut().unwrap() {
            let name = job["job_name"].as_str().unwrap().to_owned();
            let (_, endpoint) = ENDPOINTS.into_iter().find(|(job, _)| *job == name).unwrap();
            let address = platform.endpoint(endpoint).replace("http://", "");
            job["static_configs"] = json!([{"targets": [address]}]);
        }
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        for entry in std::fs::read_dir(source.join("rules")).unwrap() {
            let path = entry.unwrap().path();
            let rules = std::fs::read_to_string(&path).unwrap().replace("interval: 30s", "interval: 1s");
            std::fs::write(folder.path().join(path.file_name().unwrap()), rules).unwrap();
        }
        let address = free_address();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", folder.path().join("config.json").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        slipway_runtime::install_tls_provider();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        let prometheus = Self { child, url: format!("http://{address}"), http, _folder: folder };
        let started = Instant::now();
        while !prometheus.is_ready().await {
            assert!(started.elapsed() < Duration::from_secs(30), "Prometheus does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // What happens before the first scrape of a service is no increase.
        while prometheus.query("up == 1").await.len() < ENDPOINTS.len() {
            assert!(started.elapsed() < Duration::from_secs(30), "Prometheus cannot scrape every service");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        prometheus
    }

    async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/-/ready", self.url)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// What a query returns now.
    pub(crate) async fn query(&self, expression: &str) -> Vec<Value> {
        let url = format!("{}/api/v1/query", self.url);
        let request = self.http.get(url).query(&[("query", expression)]);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Values of a label.
    pub(crate) async fn values(&self, label: &str, series: &str) -> Vec<Value> {
        let url = format!("{}/api/v1/label/{label}/values", self.url);
        let request = self.http.get(url).query(&[("match[]", series)]);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["data"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
