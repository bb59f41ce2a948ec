//! Clients that keep sending requests to every service, over connections that they keep, over new ones, over
//! gRPC and as streams, and report each request that failed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use slipway_api::inference::ModelReadyRequest;
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_api::proto::drift::GetMonitorRequest;
use slipway_api::proto::drift::drift_monitor_client::DriftMonitorClient;
use slipway_api::proto::launcher::ListJobsRequest;
use slipway_api::proto::launcher::launcher_client::LauncherClient;
use slipway_api::proto::registry::GetModelVersionRequest;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::rollout::GetDeploymentRequest;
use slipway_api::proto::rollout::rollout_controller_client::RolloutControllerClient;
use slipway_client::sse::Reader;
use slipway_service_kit::registry::{ServiceToken, service_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

/// Pause of a client between two requests.
const PAUSE: Duration = Duration::from_millis(20);
/// Pause of those that change something or are expensive.
const LONG_PAUSE: Duration = Duration::from_millis(200);
/// A request that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What clients of a kind came to.
#[derive(Debug, Default)]
struct Count {
    answered: u64,
    failures: Vec<String>,
}

/// What all clients came to.
#[derive(Debug, Default)]
pub(crate) struct Report(BTreeMap<&'static str, Count>);

impl Report {
    fn add(&mut self, name: &'static str, outcome: Result<(), String>) {
        let count = self.0.entry(name).or_default();
        match outcome {
            Ok(()) => count.answered += 1,
            Err(failure) => count.failures.push(failure),
        }
    }

    pub(crate) fn failures(&self) -> Vec<&String> {
        self.0.values().flat_map(|count| &count.failures).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, Count { answered, failures }) in &self.0 {
            writeln!(formatter, "{name}: {answered} answered, {} failed", failures.len())?;
            for failure in failures.iter().take(5) {
                writeln!(formatter, "  {failure}")?;
            }
        }
        Ok(())
    }
}

/// The clients, until they are stopped.
pub(crate) struct Requests {
    counts: Arc<Mutex<Report>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// Ends the stream, once nothing is created any more.
    created_all: CancellationToken,
    stream: tokio::task::JoinHandle<Vec<String>>,
    created: Arc<Mutex<Vec<String>>>,
}

impl Requests {
    /// Starts the clients. `serving_grpc` is the URL of serving's gRPC port.
    pub(crate) fn start(client: &Client, serving_grpc: &str) -> Self {
        let (counts, stop) = (Arc::default(), CancellationToken::new());
        let created = Arc::<Mutex<Vec<String>>>::default();
        let created_all = CancellationToken::new();
        let (url, ends) = (client.registry.clone(), created_all.clone());
        let stream = tokio::spawn(experiments(url, Arc::clone(&created), ends));
        let mut requests = Self { counts, stop, tasks: JoinSet::new(), created_all, stream, created };
        requests.read(client);
        requests.write(client);
        requests.call(client, serving_grpc);
        requests
    }

    /// Stops them; what they came to.
    pub(crate) async fn stop(mut self) -> Report {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.created_all.cancel();
        let (seen, created) = (self.stream.await.unwrap(), self.created.lock().unwrap().clone());
        assert_eq!(seen, created, "the stream has each experiment once, in its order");
        std::mem::take(&mut *self.counts.lock().unwrap())
    }

    fn keep<R>(
        &mut self,
        name: &'static str,
        pause: Duration,
        mut request: impl FnMut(u64) -> R + Send + 'static,
    ) where
        R: Future<Output = Result<(), String>> + Send,
    {
        let (counts, stop) = (Arc::clone(&self.counts), self.stop.clone());
        self.tasks.spawn(async move {
            for number in 0.. {
                let mut outcome = request(number).await;
                let unseen = |why: &String| UNSEEN.iter().any(|what| why.contains(what));
                if outcome.as_ref().is_err_and(unseen) {
                    outcome = request(number).await;
                }
                counts.lock().unwrap().add(name, outcome.map_err(|why| format!("request {number}: {why}")));
                if stop.is_cancelled() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Reads, over a connection that is kept and over a new one for each request.
    fn read(&mut self, client: &Client) {
        let paths = [
            ("registry", format!("{}/api/v1/models", client.registry)),
            ("launcher", format!("{}/api/v1/jobs?limit=1", client.launcher)),
            ("rollout-controller", format!("{}/api/v1/deployments/churn", client.controller)),
            ("drift-monitor", format!("{}/api/v1/monitors/churn-inputs", client.monitor)),
            ("serving", format!("{}/v2/models/churn/ready", client.serving)),
        ];
        for (name, url) in paths {
            for kept in [true, false] {
                let http = http(kept);
                let url = url.clone();
                self.keep(name, PAUSE, move |_| {
                    let (http, url) = (http.clone(), url.clone());
                    async move { ask(&http, Method::GET, &url, None).await.map(drop) }
                });
            }
        }
        let predicting = client.clone();
        self.keep("serving", PAUSE, move |number| {
            let client = predicting.clone();
            async move { client.predict("churn", 1.0, &format!("p-{number}")).await.map(drop) }
        });
    }

    fn write(&mut self, client: &Client) {
        let (url, created) = (client.registry.clone(), Arc::clone(&self.created));
        self.posting("registry, writes", move |http, number| {
            let (url, created) = (format!("{url}/api/2.0/mlflow"), Arc::clone(&created));
            async move {
                let name = format!("e-{number}");
                let made = post(&http, &format!("{url}/experiments/create"), json!({"name": name})).await?;
                created.lock().unwrap().push(name);
                let run = json!({"experiment_id": made["experiment_id"]});
                let run = post(&http, &format!("{url}/runs/create"), run).await?;
                let metric = json!({"run_id": run["run"]["info"]["run_id"], "key": "loss", "value": 0.5,
                    "timestamp": 1, "step": 1});
                post(&http, &format!("{url}/runs/log-metric"), metric).await.map(drop)
            }
        });
        let url = format!("{}/api/v1/jobs", client.launcher);
        self.posting("launcher, writes", move |http, number| {
            let url = url.clone();
            async move {
                let job = json!({"name": format!("j-{number}"), "command": ["true"],
                    "resources": {"cpus": 0.01}});
                let made = post(&http, &url, job).await?;
                let id = made["id"].as_str().ok_or("no id")?;
                post(&http, &format!("{url}/{id}/cancel"), json!({})).await.map(drop)
            }
        });
        let url = format!("{}/api/v1/deployments/churn/kill-switch", client.controller);
        self.posting("rollout-controller, writes", move |http, _| {
            let url = url.clone();
            async move {
                let on = json!({"mode": "stable-only", "reason": "a test"});
                ask(&http, Method::PUT, &url, Some(on)).await?;
                ask(&http, Method::DELETE, &url, None).await.map(drop)
            }
        });
        let url = format!("{}/api/v1/monitors/churn-inputs", client.monitor);
        self.posting("drift-monitor, writes", move |http, number| {
            let url = url.clone();
            let change = json!({"consecutive_windows": 2 + number % 2});
            async move { ask(&http, Method::PATCH, &url, Some(change)).await.map(drop) }
        });
    }

    fn posting<R>(
        &mut self,
        name: &'static str,
        mut request: impl FnMut(reqwest::Client, u64) -> R + Send + 'static,
    ) where
        R: Future<Output = Result<(), String>> + Send,
    {
        let http = http(true);
        self.keep(name, LONG_PAUSE, move |number| request(http.clone(), number));
    }

    /// Calls by gRPC, each service over one channel.
    fn call(&mut self, client: &Client, serving_grpc: &str) {
        let channel = |url: &str| service_channel(url, &ServiceToken::default()).unwrap();
        let registry = RegistryClient::new(channel(&client.registry));
        self.keep("registry, gRPC", PAUSE, move |_| {
            let mut registry = registry.clone();
            let version = GetModelVersionRequest {
                model: "churn".to_owned(),
                version: "1".to_owned(),
                for_deployment: String::new(),
                digest: String::new(),
            };
            async move { called(registry.get_model_version(version).await) }
        });
        let launcher = LauncherClient::new(channel(&client.launcher));
        self.keep("launcher, gRPC", PAUSE, move |_| {
            let mut launcher = launcher.clone();
            let one = ListJobsRequest { limit: 1, ..ListJobsRequest::default() };
            async move { called(launcher.list_jobs(one).await) }
        });
        let controller = RolloutControllerClient::new(channel(&client.controller));
        self.keep("rollout-controller, gRPC", PAUSE, move |_| {
            let mut controller = controller.clone();
            let named = GetDeploymentRequest { name: "churn".to_owned() };
            async move { called(controller.get_deployment(named).await) }
        });
        let monitor = DriftMonitorClient::new(channel(&client.monitor));
        self.keep("drift-monitor, gRPC", PAUSE, move |_| {
            let mut monitor = monitor.clone();
            let named = GetMonitorRequest { name: "churn-inputs".to_owned() };
            async move { called(monitor.get_monitor(named).await) }
        });
        let serving = GrpcInferenceServiceClient::new(channel(serving_grpc));
        self.keep("serving, gRPC", PAUSE, move |_| {
            let mut serving = serving.clone();
            let named = ModelReadyRequest { name: "churn".to_owned(), version: String::new() };
            async move {
                match serving.model_ready(named).await {
                    Ok(answer) if answer.get_ref().ready => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            }
        });
    }
}

/// Calls that cross the end of their connection, and that the server has not seen. gRPC clients send them
/// again by themselves ("transparent retry", gRFC A6); tonic leaves that to its callers.
const UNSEEN: [&str; 3] = [r#"GoAway(b"", NO_ERROR, Remote)"#, "hyper::Error(Canceled", "REFUSED_STREAM"];

fn called<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<(), String> {
    answer.map(drop).map_err(|status| format!("{status:?}"))
}

/// A client of its own, which keeps its connection or makes a new one for each request.
fn http(keeps: bool) -> reqwest::Client {
    let idle = if keeps { usize::MAX } else { 0 };
    reqwest::Client::builder().pool_max_idle_per_host(idle).timeout(TIMEOUT).build().unwrap()
}

async fn ask(
    http: &reqwest::Client,
    method: Method,
    url: &str,
    body: Option<Value>,
) -> Result<Value, String> {
    let mut request = http.request(method, url);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.map_err(|error| format!("{url}: {error:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| format!("{url}: {error:?}"))?;
    if !status.is_success() {
        return Err(format!("{url}: {status}: {text}"));
    }
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

async fn post(http: &reqwest::Client, url: &str, body: Value) -> Result<Value, String> {
    ask(http, Method::POST, url, Some(body)).await
}

/// Names of the experiments that the registry's stream of events tells of, until it has told of all that
/// were created when `stop` came. A stream may end, but in order, and goes on where it ended.
async fn experiments(
    registry: String,
    created: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
) -> Vec<String> {
    let url = format!("{registry}/api/v1/events/stream?type=slipway.registry.experiment.created");
    let http = reqwest::Client::new();
    let (mut names, mut last) = (Vec::new(), String::from("0"));
    loop {
        let request = http.get(&url).header("last-event-id", &last);
        let answer = request.send().await.unwrap_or_else(|error| panic!("the stream: {error:?}"));
        assert!(answer.status().is_success(), "the stream: {answer:?}");
        let body = answer.bytes_stream().map(|chunk| chunk.map_err(unreachable)).boxed();
        let mut reader = Reader::new(body);
        loop {
            let complete = || names.len() >= created.lock().unwrap().len();
            if stop.is_cancelled() && complete() {
                return names;
            }
            let message = tokio::select! {
                message = reader.next() => message.unwrap_or_else(|error| panic!("the stream: {error:?}")),
                () = tokio::time::sleep(LONG_PAUSE) => continue,
            };
            if let Some(id) = reader.last_id() {
                id.clone_into(&mut last);
            }
            let Some(message) = message else { break };
            let event: Value = serde_json::from_str(&message.data).unwrap();
            let name = event["data"]["details"]["name"].as_str().unwrap().to_owned();
            if name.starts_with("e-") {
                names.push(name);
            }
        }
    }
}

fn unreachable(error: reqwest::Error) -> slipway_client::Error {
    slipway_client::Error::Unreachable(format!("{error:?}"))
}
