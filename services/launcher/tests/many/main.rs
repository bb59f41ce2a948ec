//! Many jobs at once, on nodes that kwok plays; this test plays the agents.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

#[path = "../kubernetes/account.rs"]
mod account;
#[path = "../it/world.rs"]
#[expect(dead_code, reason = "what the other tests need of it")]
mod launcher;
#[path = "../it/processes.rs"]
#[expect(dead_code, reason = "what the other tests need of it")]
mod processes;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use slipway_api::proto::launcher::agents_client::AgentsClient;
use slipway_api::proto::launcher::{AcquireLeaseRequest, FinishAttemptRequest, HeartbeatRequest};
use slipway_kubernetes_testkit::{BUSYBOX_IMAGE, Cluster, FakeNodes, Level, TestNamespace};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::account::{ACCOUNT, ROLE, kubeconfig, written};

/// Number of jobs.
const COUNT_VARIABLE: &str = "SLIPWAY_TEST_JOBS";
const DEFAULT_COUNT: usize = 60;
const LEASE_MS: u64 = 24_000;
const MAX_REQUESTS_PER_JOB: f64 = 6.0;
const MAX_LAUNCHER_KIB: u64 = 64 * 1024;
/// A kwok node takes 110 pods.
const PODS_PER_NODE: usize = 100;
const PARALLEL_SUBMISSIONS: usize = 8;
/// What is submitted to the last end takes no longer, unless something is stuck.
const LIMIT: Duration = Duration::from_secs(900);

struct World {
    launcher: launcher::World,
    namespace: TestNamespace<'static>,
    cluster: &'static Cluster,
}

impl World {
    async fn begin(cluster: &'static Cluster) -> Self {
        let namespace = cluster.namespace();
        let mut launcher = launcher::World::without_launcher(LEASE_MS).await;
        let kubeconfig = kubeconfig(&namespace, ROLE, None);
        launcher.more.extend([
            ("KUBECONFIG", written(&kubeconfig, &launcher.data_dir)),
            ("SLIPWAY_BACKEND", "kubernetes".to_owned()),
            ("SLIPWAY_KUBERNETES_NAMESPACES", namespace.name().to_owned()),
            ("SLIPWAY_KUBERNETES_AGENT_IMAGE", "agent:1".to_owned()),
            ("SLIPWAY_KUBERNETES_JOB_TTL_S", "10".to_owned()),
            ("SLIPWAY_LAUNCHER_URL", launcher.url.clone()),
        ]);
        launcher.start_launcher().await;
        Self { launcher, namespace, cluster }
    }

    /// Submits the jobs.
    async fn submit(&self, count: usize) {
        // The pod ends by itself a little after its agent has reported.
        let body = json!({"name": "many", "command": ["true"],
            "kubernetes": {"image": BUSYBOX_IMAGE, "annotations": {"fake/run-time": "15s"}}});
        let submit = |_| async { drop(self.launcher.submit(body.clone()).await) };
        futures::stream::iter(0..count).for_each_concurrent(PARALLEL_SUBMISSIONS, submit).await;
    }

    /// Plays an agent for each Secret that appears, until so many have reported.
    async fn play_agents(&self, count: usize) {
        let config = kube::config::Kubeconfig::read_from(self.cluster.kubeconfig()).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(config, &options).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let secrets: kube::Api<Secret> = kube::Api::namespaced(client, self.namespace.name());
        let channel = Channel::from_shared(self.launcher.url.clone()).unwrap().connect_lazy();
        let mut events = std::pin::pin!(watcher(secrets, watcher::Config::default()).applied_objects());
        let (mut seen, mut agents) = (HashSet::new(), JoinSet::new());
        while seen.len() < count {
            let secret = events.try_next().await.unwrap().unwrap();
            let labels = secret.metadata.labels.unwrap_or_default();
            let Some(job) = labels.get("slipway.dev/job-id") else { continue };
            let attempt: u32 = labels["slipway.dev/attempt"].parse().unwrap();
            assert_eq!(attempt, 1, "job {job} has another attempt");
            if seen.insert(job.clone()) {
                let token = secret.data.unwrap()["SLIPWAY_ATTEMPT_TOKEN"].0.clone();
                let token = String::from_utf8(token).unwrap();
                agents.spawn(play(AgentsClient::new(channel.clone()), job.clone(), token));
            }
        }
        agents.join_all().await;
    }

    /// Number of jobs that have succeeded.
    async fn succeeded(&self) -> usize {
        let mut succeeded = 0;
        let mut path = "/api/v1/jobs?status=succeeded&limit=200".to_owned();
        loop {
            let page = self.launcher.get(&path).await;
            succeeded += page["jobs"].as_array().unwrap().len();
            match page["next_page_token"].as_str() {
                Some(token) => path = format!("/api/v1/jobs?status=succeeded&limit=200&page_token={token}"),
                None => return succeeded,
            }
        }
    }

    /// Memory of the launcher by the name that the kernel gives it, KiB.
    fn memory_kib(&self, name: &str) -> u64 {
        let id = self.launcher.launcher.lock().unwrap().as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < LIMIT, "waited in vain for: {what}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn objects(&self, kinds: &str) -> usize {
        tokio::task::block_in_place(|| {
            self.namespace.kubectl(&["get", kinds, "--output", "name", "--selector", "slipway.dev/job-id"])
        })
        .unwrap()
        .lines()
        .count()
    }
}

/// An agent whose command does nothing.
async fn play(mut agents: AgentsClient<Channel>, job_id: String, token: String) {
    let (attempt, job, own) = (1, job_id.clone(), token.clone());
    let lease = AcquireLeaseRequest { job_id, attempt, token, ends_with_lease: true, process: 0 };
    agents.acquire_lease(lease).await.unwrap();
    let heartbeat = HeartbeatRequest {
        job_id: job.clone(),
        attempt,
        token: own.clone(),
        ready: true,
        ..HeartbeatRequest::default()
    };
    agents.heartbeat(heartbeat).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = FinishAttemptRequest {
        job_id: job,
        attempt,
        token: own,
        exit_code: Some(0),
        ..FinishAttemptRequest::default()
    };
    agents.finish_attempt(report).await.unwrap();
}

#[test]
fn many_jobs_cost_few_requests_and_little_memory_and_leave_nothing() {
    let Some(cluster) = Cluster::shared(Level::Control) else { return };
    let count = std::env::var(COUNT_VARIABLE).map_or(DEFAULT_COUNT, |count| count.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::task::block_in_place(|| {
            cluster.add_fake_nodes(&FakeNodes::new("many", count.div_ceil(PODS_PER_NODE))).unwrap();
        });
        let world = World::begin(cluster).await;
        let started = Instant::now();
        tokio::join!(world.submit(count), world.play_agents(count));
        world.until("all jobs have succeeded", async || world.succeeded().await == count).await;
        let elapsed = started.elapsed();
        world.until("nothing is left", async || world.objects("jobs,pods,secrets") == 0).await;
        let asked = world.namespace.requests(ACCOUNT).unwrap();
        // Watches and lists are for all jobs together.
        let per_job = asked.iter().filter(|request| !matches!(&*request.verb, "watch" | "list")).count();
        let per_job = per_job as f64 / count as f64;
        // A debug build has tens of MiB of code, which says nothing about a release.
        let peak_kib = world.memory_kib("VmHWM:") - world.memory_kib("RssFile:");
        let text = format!(
            "{count} jobs: {:.1} s from the first submission to the last end, {per_job:.2} requests per job \
             ({} in all), peak memory of the launcher {:.1} MiB without its code",
            elapsed.as_secs_f64(),
            asked.len(),
            peak_kib as f64 / 1024.0
        );
        println!("{text}");
        assert!(asked.len() as f64 / count as f64 <= MAX_REQUESTS_PER_JOB, "{text}");
        assert!(peak_kib <= MAX_LAUNCHER_KIB, "{text}");
    });
}
