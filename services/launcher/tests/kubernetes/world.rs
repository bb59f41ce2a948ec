//! A launcher that runs jobs on a cluster with a node.

use std::future::Future;
use std::path::PathBuf;

use serde_json::{Value, json};
use slipway_kubernetes_testkit::{
    Archive, BUSYBOX_IMAGE, Cluster, Credentials, Forward, Level, NODE_ADDRESS, NODE_NAME, TestNamespace,
};
use slipway_testkit::FailingProxy;

use crate::account::{ROLE, kubeconfig, written};
use crate::launcher;

/// The resource TrainingJob.
const DEFINITION: &str = include_str!("../../../../deploy/kubernetes/trainingjobs.yaml");
const AGENT_IMAGE: &str = "registry.local/agent:1";
/// Short enough for tests, and long enough for a busy machine.
const LEASE_MS: u64 = 24_000;
const TARGET: &str = "x86_64-unknown-linux-musl";

/// The launcher and its namespace.
pub(crate) struct World {
    pub(crate) launcher: launcher::World,
    pub(crate) namespace: TestNamespace<'static>,
    /// How pods reach the artifact store.
    pub(crate) s3: Forward,
    /// How the launcher reaches Postgres and NATS.
    pub(crate) postgres: Forward,
    pub(crate) nats: Forward,
    /// How the launcher reaches the API server, if not directly.
    pub(crate) proxy: Option<FailingProxy>,
}

/// The static agent, which `cargo xtask test` builds.
fn agent() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).unwrap();
    let agent = target.join(TARGET).join("debug/slipway-agent");
    let command = format!("cargo build --package slipway-agent --target {TARGET}");
    assert!(agent.is_file(), "{} is missing: {command}", agent.display());
    agent
}

/// What a test needs that is not usual.
#[derive(Default)]
pub(crate) struct Setup<'test> {
    /// What the launcher may do, in place of [`ROLE`].
    pub(crate) role: Option<&'test str>,
    /// Whether the cluster has TrainingJobs, and the launcher runs them.
    pub(crate) training_jobs: bool,
    /// Whether the launcher reaches the API server through a proxy that can fail.
    pub(crate) proxied: bool,
}

/// Runs a test with a launcher on the network of the cluster; left out where no cluster can run.
pub(crate) fn on_a_cluster<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    with(&Setup::default(), test);
}

/// Runs a test with a launcher that may do what this Role allows.
pub(crate) fn with_role<F: Future<Output = ()>>(role: &str, test: impl FnOnce(World) -> F) {
    with(&Setup { role: Some(role), ..Setup::default() }, test);
}

/// Runs a test with a launcher that runs TrainingJobs.
pub(crate) fn with_training_jobs<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    with(&Setup { training_jobs: true, ..Setup::default() }, test);
}

/// Runs a test.
pub(crate) fn with<F: Future<Output = ()>>(setup: &Setup<'_>, test: impl FnOnce(World) -> F) {
    let Some(cluster) = Cluster::shared(Level::Node) else { return };
    static LOADED: std::sync::Once = std::sync::Once::new();
    LOADED.call_once(|| {
        let mut image = Archive::new(AGENT_IMAGE);
        image.base_files().file("/slipway-agent", &agent()).unwrap();
        cluster.load(&image).unwrap();
        cluster.apply(DEFINITION).unwrap();
        cluster.kubectl(&["wait", "crd/trainingjobs.slipway.dev", "--for=condition=Established"]).unwrap();
    });
    cluster.join_network().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::begin(cluster, setup).await;
        test(world).await;
    });
}

impl World {
    async fn begin(cluster: &'static Cluster, setup: &Setup<'_>) -> Self {
        let namespace = cluster.namespace();
        let mut launcher = launcher::World::without_launcher(LEASE_MS).await;
        let port = launcher.port;
        let (s3, _) = Forward::of(&launcher.bucket.endpoint).await;
        let (postgres, postgres_url) = Forward::of(&launcher.database).await;
        let (nats, nats_url) = Forward::of(&launcher.nats.url).await;
        let Credentials { server, authority, .. } = cluster.credentials();
        let proxy = if setup.proxied { Some(FailingProxy::begin(server, authority).await) } else { None };
        let server = proxy.as_ref().map(|proxy| proxy.url.as_str());
        let kubeconfig = kubeconfig(&namespace, setup.role.unwrap_or(ROLE), server);
        launcher.more.extend([
            ("KUBECONFIG", written(&kubeconfig, &launcher.data_dir)),
            ("SLIPWAY_POSTGRES_URL", postgres_url),
            ("SLIPWAY_NATS_URL", nats_url),
            ("SLIPWAY_BACKEND", "kubernetes".to_owned()),
            ("SLIPWAY_KUBERNETES_TRAINING_JOBS", setup.training_jobs.to_string()),
            ("SLIPWAY_KUBERNETES_GANG_TIMEOUT_S", "4".to_owned()),
            ("SLIPWAY_KUBERNETES_NAMESPACES", namespace.name().to_owned()),
            ("SLIPWAY_KUBERNETES_AGENT_IMAGE", AGENT_IMAGE.to_owned()),
            ("SLIPWAY_LISTEN", format!("0.0.0.0:{port}")),
            ("SLIPWAY_LAUNCHER_URL", format!("http://{NODE_ADDRESS}:{port}")),
            ("SLIPWAY_AGENT_S3_ENDPOINT", format!("http://{NODE_ADDRESS}:{}", s3.port)),
        ]);
        launcher.start_launcher().await;
        Self { launcher, namespace, s3, postgres, nats, proxy }
    }

    /// Submits a shell script that runs in BusyBox, with further fields of the job and of its section.
    pub(crate) async fn submit(&self, script: &str, job: Value, kubernetes: Value) -> String {
        let mut section = json!({"image": BUSYBOX_IMAGE});
        section.as_object_mut().unwrap().extend(kubernetes.as_object().unwrap().clone());
        let mut further = json!({"kubernetes": section});
        further.as_object_mut().unwrap().extend(job.as_object().unwrap().clone());
        self.launcher.submit_script(script, further).await
    }

    /// What kubectl prints of this namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        tokio::task::block_in_place(|| self.namespace.kubectl(arguments).unwrap())
    }

    /// Creates or changes an object of this namespace.
    pub(crate) fn apply(&self, manifest: &Value) {
        tokio::task::block_in_place(|| self.namespace.apply(&manifest.to_string()).unwrap());
    }

    /// As [`Self::kubectl`] where it may fail, e.g. because an object is gone already.
    pub(crate) fn try_kubectl(&self, arguments: &[&str]) {
        let _ = tokio::task::block_in_place(|| self.namespace.kubectl(arguments));
    }

    /// Gives the node a resource, as a device plugin does.
    pub(crate) fn offer(&self, resource: &str, quantity: u32) {
        let cluster = Cluster::shared(Level::Node).unwrap();
        tokio::task::block_in_place(|| cluster.offer(NODE_NAME, resource, quantity).unwrap());
    }

    /// Evicts a pod, as `kubectl drain` does.
    pub(crate) fn evict(&self, pod: &str) {
        let namespace = self.namespace.name();
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace}});
        let file = self.launcher.data_dir.join("eviction.json");
        std::fs::write(&file, eviction.to_string()).unwrap();
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        self.try_kubectl(&["create", "--raw", &path, "--filename", file.to_str().unwrap()]);
    }

    /// Objects of a job, as kubectl lists their names.
    pub(crate) fn objects(&self, job: &str, kinds: &str) -> Vec<String> {
        let selector = format!("slipway.dev/job-id={job}");
        let names = self.kubectl(&["get", kinds, "--selector", &selector, "--output", "name"]);
        names.lines().map(str::to_owned).collect()
    }

    /// Waits until the reason of a job that waits contains this text.
    pub(crate) async fn pending(&self, job: &str, text: &str) -> Value {
        let waits = |job: &Value| {
            job["status"] == "pending" && job["reason"].as_str().is_some_and(|reason| reason.contains(text))
        };
        self.launcher.wait(job, text, waits).await
    }
}
