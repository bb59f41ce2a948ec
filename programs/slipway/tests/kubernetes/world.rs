//! A registry and an operator on the network of a cluster with a node.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_kubernetes_testkit::{
    Archive, Cluster, Credentials, Forward, Level, NODE_ADDRESS, TestNamespace,
};
use slipway_testkit::{FailingProxy, TestBucket, TestDatabase, TestNats, free_port};

use crate::client::Client;

/// What the operator may do, as people install it.
pub(crate) const ROLE: &str = include_str!("../../../../deploy/kubernetes/operator-role.yaml");
/// Name of the Role, and of the account that gets it.
pub(crate) const ACCOUNT: &str = "slipway-rollout-controller";
/// The resource ModelDeployment.
const DEFINITION: &str = include_str!("../../../../deploy/kubernetes/modeldeployments.yaml");
const SERVING_IMAGE: &str = "registry.local/slipway-serving:1";
const LIBRARY: &str = "/opt/libonnxruntime.so";
/// Path of the program to test [default: the one that cargo builds for the tests].
const PROGRAM_VARIABLE: &str = "SLIPWAY_TEST_PROGRAM";
/// Nothing here takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(180);
/// The same for kubectl.
pub(crate) const LIMIT: &str = "--timeout=180s";

/// The tests that use the cluster.
static TESTS: RwLock<()> = RwLock::new(());

/// A process; it is killed when dropped.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The platform, without serving, and its namespace.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) namespace: TestNamespace<'static>,
    database: TestDatabase,
    nats: TestNats,
    bucket: TestBucket,
    pub(crate) folder: tempfile::TempDir,
    registry_url: String,
    controller_port: u16,
    kubeconfig: PathBuf,
    /// How the operator reaches the API server, if not directly.
    pub(crate) proxy: Option<FailingProxy>,
    /// Namespaces of the operator.
    namespaces: String,
    /// Further settings of the operator.
    pub(crate) more: Vec<(&'static str, String)>,
    operator: Mutex<Option<Process>>,
    _registry: Process,
    /// How pods reach NATS and the artifact store.
    _pods: [Outside; 2],
    /// The settings of serving pods.
    shared: Value,
    /// How the operator reaches Postgres and NATS.
    postgres: Outside,
    nats_of_operator: Outside,
}

/// A server on the network of the cluster, which can be made unreachable.
struct Outside {
    forward: Forward,
    url: String,
}

impl Outside {
    async fn of(url: &str) -> Self {
        let (forward, url) = Forward::of(url).await;
        Self { forward, url }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["registry", "rollout-controller"] {
                let log = std::fs::read_to_string(self.folder.path().join(format!("{name}.log")));
                let log = log.unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                eprintln!("--- {name}");
                tail.into_iter().rev().for_each(|line| eprintln!("{line}"));
            }
            let conditions = "jsonpath={.items[*].status.conditions}";
            for what in [
                &["get", "pods,modeldeployments,events"][..],
                &["get", "modeldeployments", "--output", conditions],
                &["logs", "deployment/fraud", "--tail=40"],
            ] {
                let found = self.namespace.kubectl(what);
                let found = found.unwrap_or_else(|error| error.to_string());
                eprintln!("--- kubectl {}\n{found}", what.join(" "));
            }
        }
    }
}

/// Runs a test with an operator on the network of the cluster; left out where no cluster can run.
pub(crate) fn on_a_cluster<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    with(ROLE, false, test);
}

/// Runs a test with an operator that reaches the API server through a proxy that can fail.
pub(crate) fn behind_a_proxy<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    with(ROLE, true, test);
}

/// Runs a test alone on the cluster, because it disturbs others.
pub(crate) fn alone<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    let alone = TESTS.write().unwrap_or_else(PoisonError::into_inner);
    run(ROLE, false, test);
    drop(alone);
}

/// Runs a test with an operator that may do what this Role allows.
pub(crate) fn with_role<F: Future<Output = ()>>(role: &str, test: impl FnOnce(World) -> F) {
    with(role, false, test);
}

fn with<F: Future<Output = ()>>(role: &str, is_proxied: bool, test: impl FnOnce(World) -> F) {
    let together = TESTS.read().unwrap_or_else(PoisonError::into_inner);
    run(role, is_proxied, test);
    drop(together);
}

fn run<F: Future<Output = ()>>(role: &str, is_proxied: bool, test: impl FnOnce(World) -> F) {
    let Some(cluster) = Cluster::shared(Level::Node) else { return };
    static LOADED: std::sync::Once = std::sync::Once::new();
    LOADED.call_once(|| {
        let (image, _program) = image();
        cluster.load(&image).unwrap();
        cluster.apply(DEFINITION).unwrap();
    });
    cluster.join_network().unwrap();
    let established = "--for=condition=Established";
    cluster.kubectl(&["wait", "crd/modeldeployments.slipway.dev", established]).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::begin(cluster, role, is_proxied).await;
        test(world).await;
    });
}

/// An image of serving, and the folder of the program, which the image reads when it is written.
fn image() -> (Archive, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("slipway");
    // Of the debugging information, a node needs nothing.
    let stripped = Command::new("strip").args(["--strip-debug", "-o"]).arg(&program).arg(slipway()).status();
    let program = if stripped.is_ok_and(|status| status.success()) { program } else { slipway().to_owned() };
    let mut image = Archive::new(SERVING_IMAGE);
    image.base_files().file("/slipway", &program).unwrap();
    image.file(LIBRARY, Path::new(&slipway_testkit::onnxruntime_library())).unwrap();
    image.shared_libraries().unwrap().configure(json!({
        "Entrypoint": ["/slipway", "service", "serving"], "WorkingDir": "/tmp",
        "Env": [format!("SLIPWAY_ONNXRUNTIME_LIB={LIBRARY}"), "HOME=/tmp"],
    }));
    (image, folder)
}

/// The program `slipway`; another build of it, to measure that.
fn slipway() -> &'static Path {
    static PROGRAM: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        std::env::var_os(PROGRAM_VARIABLE).map_or_else(|| env!("CARGO_BIN_EXE_slipway").into(), PathBuf::from)
    });
    &PROGRAM
}

impl World {
    async fn begin(cluster: &'static Cluster, role: &str, is_proxied: bool) -> Self {
        slipway_runtime::install_tls_provider();
        let namespace = cluster.namespace();
        let (database, nats) = (slipway_testkit::postgres().await, slipway_testkit::nats().await);
        let bucket = slipway_testkit::s3().await;
        let folder = tempfile::tempdir().unwrap();
        let pods = [Outside::of(&nats.url).await, Outside::of(&bucket.endpoint).await];
        let (registry_port, controller_port) = (free_port().unwrap(), free_port().unwrap());
        let kubeconfig = folder.path().join("kubeconfig");
        let mut account = namespace.account(ACCOUNT, role).unwrap();
        let Credentials { server, authority, .. } = cluster.credentials();
        let proxy = if is_proxied { Some(FailingProxy::begin(server, authority).await) } else { None };
        if let Some(proxy) = &proxy {
            account["clusters"][0]["cluster"] = json!({"server": proxy.url});
        }
        std::fs::write(&kubeconfig, account.to_string()).unwrap();
        let registry_url = format!("http://127.0.0.1:{registry_port}");
        let shared = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "slipway-serving"},
        "stringData": {
            "SLIPWAY_NATS_URL": pods[0].url, "SLIPWAY_S3_ENDPOINT": pods[1].url,
            "SLIPWAY_REGISTRY_URL": format!("http://{NODE_ADDRESS}:{registry_port}"),
            "SLIPWAY_S3_BUCKET": bucket.bucket, "SLIPWAY_S3_ACCESS_KEY": bucket.access_key,
            "SLIPWAY_S3_SECRET_KEY": bucket.secret_key,
        }});
        namespace.apply(&shared.to_string()).unwrap();
        let (postgres, nats_of_operator) = (Outside::of(&database.url).await, Outside::of(&nats.url).await);
        let namespaces = namespace.name().to_owned();
        let nowhere = || "http://127.0.0.1:9".to_owned();
        let controller_url = format!("http://127.0.0.1:{controller_port}");
        let urls = [registry_url.clone(), nowhere(), nowhere(), controller_url, nowhere()];
        let listen = format!("0.0.0.0:{registry_port}");
        let services = (&database, &nats, &bucket);
        let sources = format!("s3://{}/outside/", bucket.bucket);
        let settings = [("SLIPWAY_LISTEN", listen.as_str()), ("SLIPWAY_IMPORT_SOURCES", &sources)];
        let registry = start("registry", folder.path(), services, &settings);
        let world = Self {
            client: Client::at(urls),
            namespace,
            database,
            nats,
            bucket,
            folder,
            registry_url,
            controller_port,
            kubeconfig,
            proxy,
            namespaces,
            more: Vec::new(),
            operator: Mutex::new(None),
            _registry: registry,
            _pods: pods,
            shared,
            postgres,
            nats_of_operator,
        };
        world.start_operator().await;
        world.ready(&world.registry_url).await;
        world
    }

    /// Starts the operator, and waits until it is ready.
    pub(crate) async fn start_operator(&self) {
        let listen = format!("127.0.0.1:{}", self.controller_port);
        let more = [
            ("SLIPWAY_LISTEN", listen.as_str()),
            ("SLIPWAY_REGISTRY_URL", &self.registry_url),
            ("SLIPWAY_OPERATOR", "true"),
            ("SLIPWAY_OPERATOR_NAMESPACES", &self.namespaces),
            ("SLIPWAY_POSTGRES_URL", &self.postgres.url),
            ("SLIPWAY_NATS_URL", &self.nats_of_operator.url),
            ("SLIPWAY_OPERATOR_SERVING_IMAGE", SERVING_IMAGE),
            ("KUBECONFIG", self.kubeconfig.to_str().unwrap()),
        ];
        let more: Vec<(&str, &str)> =
            more.into_iter().chain(self.more.iter().map(|(name, value)| (*name, value.as_str()))).collect();
        let services = (&self.database, &self.nats, &self.bucket);
        let operator = start("rollout-controller", self.folder.path(), services, &more);
        *self.operator.lock().unwrap() = Some(operator);
        self.ready(&self.client.controller).await;
    }

    /// Takes Postgres, or NATS, from the operator for a while.
    pub(crate) async fn without(&self, what: &str, time: Duration) {
        let outside = if what == "Postgres" { &self.postgres } else { &self.nats_of_operator };
        outside.forward.set_open(false);
        tokio::time::sleep(time).await;
        outside.forward.set_open(true);
    }

    /// Has the operator run the ModelDeployments of another namespace, too.
    pub(crate) async fn also_in(&mut self, other: &TestNamespace<'_>) {
        tokio::task::block_in_place(|| {
            let account = format!("{}:{ACCOUNT}", self.namespace.name());
            other.allow(&account, ACCOUNT, ROLE).unwrap();
            other.apply(&self.shared.to_string()).unwrap();
        });
        self.namespaces = format!("{},{}", self.namespaces, other.name());
        self.kill_operator();
        self.start_operator().await;
    }

    /// Gives the operator a further Role.
    pub(crate) fn allow(&self, name: &str, role: &str) {
        let account = format!("{}:{ACCOUNT}", self.namespace.name());
        tokio::task::block_in_place(|| self.namespace.allow(&account, name, role).unwrap());
    }

    /// Restarts the operator with further settings.
    pub(crate) async fn set(&mut self, settings: &[(&'static str, &str)]) {
        self.more.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        self.kill_operator();
        self.start_operator().await;
    }

    /// Stores a model in a bucket from which models may be imported; its address, or that of its folder.
    pub(crate) async fn store_outside(&self, key: &str, fixture: &str) -> String {
        self.store(&format!("outside/{key}"), fixture).await
    }

    /// Stores a model in the bucket; the address of its folder.
    pub(crate) async fn store(&self, key: &str, fixture: &str) -> String {
        let store = ArtifactStore::new(&S3Config {
            s3_endpoint: self.bucket.endpoint.clone(),
            s3_region: "us-east-1".to_owned(),
            s3_bucket: self.bucket.bucket.clone(),
            s3_access_key: self.bucket.access_key.clone(),
            s3_secret_key: self.bucket.secret_key.clone().into(),
        });
        store.put_bytes(key, crate::client::fixture_bytes(fixture).into()).await.unwrap();
        let folder = key.rsplit_once('/').map_or(key, |(folder, _)| folder);
        format!("s3://{}/{folder}", self.bucket.bucket)
    }

    /// A setting that all serving pods share.
    pub(crate) fn shared(&self, name: &str) -> &str {
        self.shared["stringData"][name].as_str().unwrap()
    }

    /// Starts serving outside of the cluster, for these deployments.
    pub(crate) fn serve(&self, deployments: &str) -> Process {
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        let (grpc, metrics) = ("127.0.0.1:0", "127.0.0.1:0");
        let library = slipway_testkit::onnxruntime_library();
        let more = [
            ("SLIPWAY_LISTEN", listen.as_str()),
            ("SLIPWAY_LISTEN_GRPC", grpc),
            ("SLIPWAY_LISTEN_METRICS", metrics),
            ("SLIPWAY_REGISTRY_URL", &self.registry_url),
            ("SLIPWAY_SERVING_DEPLOYMENTS", deployments),
            ("SLIPWAY_CACHE_DIR", self.folder.path().to_str().unwrap()),
            ("SLIPWAY_ONNXRUNTIME_LIB", library.to_str().unwrap()),
        ];
        start("serving", self.folder.path(), (&self.database, &self.nats, &self.bucket), &more)
    }

    /// Process ID of the operator.
    pub(crate) fn operator_pid(&self) -> u32 {
        self.operator.lock().unwrap().as_ref().unwrap().0.id()
    }

    /// Kills the operator as a crash would.
    pub(crate) fn kill_operator(&self) {
        *self.operator.lock().unwrap() = None;
    }

    async fn ready(&self, url: &str) {
        let http = reqwest::Client::new();
        let answers = async || {
            let response = http.get(format!("{url}/readyz")).send().await.ok()?;
            response.status().is_success().then_some(())
        };
        self.eventually(&format!("{url} is ready"), answers).await;
    }

    /// Waits until something holds.
    pub(crate) async fn eventually<T>(&self, what: &str, holds: impl AsyncFn() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = holds().await {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "waited in vain for: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What kubectl prints of this namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        tokio::task::block_in_place(|| self.namespace.kubectl(arguments).unwrap())
    }

    /// Creates or changes an object of this namespace.
    pub(crate) fn apply(&self, manifest: &Value) {
        tokio::task::block_in_place(|| self.namespace.apply(&manifest.to_string()).unwrap());
    }

    /// Evicts a pod, as `kubectl drain` does.
    pub(crate) fn evict(&self, pod: &str) {
        let namespace = self.namespace.name();
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace}});
        let file = self.folder.path().join("eviction.json");
        std::fs::write(&file, eviction.to_string()).unwrap();
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        self.kubectl(&["create", "--raw", &path, "--filename", file.to_str().unwrap()]);
    }

    /// Why an object is refused.
    pub(crate) fn refused(&self, manifest: &Value) -> String {
        tokio::task::block_in_place(|| self.namespace.apply(&manifest.to_string()).unwrap_err().to_string())
    }

    /// An object as JSON.
    pub(crate) fn found(&self, object: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", object, "--output", "json"])).unwrap()
    }

    /// Waits until kubectl finds a condition of the ModelDeployment `fraud`.
    pub(crate) fn wait(&self, condition: &str) {
        self.kubectl(&["wait", "modeldeployment/fraud", &format!("--for={condition}"), LIMIT]);
    }

    /// Names of the objects of these kinds that belong to ModelDeployments.
    pub(crate) fn objects(&self, kinds: &str) -> Vec<String> {
        let selector = ["--selector", "slipway.dev/model-deployment", "--output", "name"];
        let found = self.kubectl(&[&["get", kinds][..], &selector].concat());
        found.lines().map(str::to_owned).collect()
    }

    /// A client of the Service of the ModelDeployment `fraud`.
    pub(crate) fn service(&self) -> Client {
        self.service_called("fraud")
    }

    /// A client of a Service.
    pub(crate) fn service_called(&self, name: &str) -> Client {
        let address = self.kubectl(&["get", "service", name, "--output", "jsonpath={.spec.clusterIP}"]);
        Client { serving: format!("http://{address}:8000"), ..self.client.clone() }
    }
}

/// Starts a service.
fn start(
    name: &str,
    folder: &Path,
    (database, nats, bucket): (&TestDatabase, &TestNats, &TestBucket),
    more: &[(&str, &str)],
) -> Process {
    let log = folder.join(format!("{name}.log"));
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    let child = Command::new(slipway())
        .args(["service", name])
        .env("SLIPWAY_POSTGRES_URL", &database.url)
        .env("SLIPWAY_NATS_URL", &nats.url)
        .env("SLIPWAY_S3_ENDPOINT", &bucket.endpoint)
        .env("SLIPWAY_S3_BUCKET", &bucket.bucket)
        .env("SLIPWAY_S3_ACCESS_KEY", &bucket.access_key)
        .env("SLIPWAY_S3_SECRET_KEY", &bucket.secret_key)
        .env("SLIPWAY_DATA_DIR", folder.join(name))
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Process(child)
}

/// A ModelDeployment `fraud` of this reference to a version, with further fields of its spec.
pub(crate) fn manifest(model: Value, further: &Value) -> Value {
    let mut spec = json!({"model": model});
    spec["model"]["name"] = json!("fraud-model");
    spec.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "fraud"},
        "spec": spec})
}
