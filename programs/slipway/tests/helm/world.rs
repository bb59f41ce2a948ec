//! The chart on a real cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use serde_json::{Value, json};
use slipway_kubernetes_testkit::{Archive, Cluster, Helm, Level, NODE_NAME};
use slipway_toolbox::Toolbox;

use crate::chart::{RELEASE, folder, values};
use crate::client::Client;

pub(crate) const SERVICES: [(&str, u16); 5] = [
    ("registry", 5000),
    ("launcher", 5010),
    ("serving", 8000),
    ("rollout-controller", 5020),
    ("drift-monitor", 5030),
];
const VERSION: &str = env!("CARGO_PKG_VERSION");
const LIBRARY: &str = "/opt/libonnxruntime.so";
/// Certificate authorities, which clients of OIDC issuers and webhooks require.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Folder with the programs of the services, if not the one of the tests, e.g. `target/release`.
const PROGRAMS: &str = "SLIPWAY_TEST_PROGRAMS";
/// Further settings of an installation on one node with two CPUs.
const SETTINGS: [&str; 9] = [
    "postgres.image.repository=registry.local/postgres",
    "postgres.image.tag=test",
    "postgres.persistence.storageClass=local",
    "nats.image.repository=registry.local/nats",
    "nats.image.tag=test",
    "nats.persistence.storageClass=local",
    "s3.image.repository=registry.local/s3",
    "s3.image.tag=test",
    "s3.persistence.storageClass=local",
];

/// A namespace with a release of the chart, or without one. Its namespaces are deleted when it is dropped.
pub(crate) struct World {
    pub(crate) helm: Helm,
    pub(crate) cluster: &'static Cluster,
    pub(crate) namespace: String,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for what in [&["get", "pods,events,pvc", "--output", "wide"][..], &["describe", "pods"]] {
                eprintln!(
                    "--- kubectl {}\n{}",
                    what.join(" "),
                    self.try_kubectl(what).unwrap_or_else(|error| error)
                );
            }
            for (service, _) in SERVICES {
                let logs = ["logs", &format!("deployment/{RELEASE}-{service}"), "--tail=20"];
                eprintln!("--- {service}\n{}", self.try_kubectl(&logs).unwrap_or_else(|error| error));
            }
        }
        let workloads = self.workloads();
        // There may be no operator any more, which would remove them.
        let finalizers = ["--type=merge", "--patch", "{\"metadata\": {\"finalizers\": null}}"];
        let object = ["--namespace", &workloads, "patch", "modeldeployment", "fraud"];
        let _ = self.cluster.kubectl(&[&object[..], &finalizers].concat());
        for namespace in [&workloads, &self.namespace] {
            let _ = self.cluster.kubectl(&["delete", "namespace", namespace, "--wait=false"]);
        }
        let volumes = ["postgres", "nats", "s3"].map(|part| self.volume(part));
        for volume in &volumes {
            let _ = self.cluster.kubectl(&["delete", "pv", volume, "--wait=false"]);
        }
    }
}

impl World {
    /// A namespace with the restricted Pod Security Standard; left out where no cluster can run.
    pub(crate) fn begin(name: &str) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        static LOADED: std::sync::Once = std::sync::Once::new();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (helm, cluster) = (Helm::own()?, Cluster::shared(Level::Node)?);
        LOADED.call_once(|| images().iter().for_each(|image| cluster.load(image).unwrap()));
        cluster.join_network().unwrap();
        let restricted = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }});
        cluster.apply(&restricted.to_string()).unwrap();
        Some(Self { helm, cluster, namespace: name.to_owned(), _alone: alone })
    }

    /// Namespace of training jobs and ModelDeployments.
    pub(crate) fn workloads(&self) -> String {
        format!("{}-workloads", self.namespace)
    }

    fn volume(&self, part: &str) -> String {
        format!("{}-{part}", self.namespace)
    }

    /// Makes the volume of a backend.
    pub(crate) fn provide(&self, part: &str) {
        let path = self.cluster.folder().join("volumes").join(self.volume(part));
        let made = self.cluster.command("mkdir").arg("-p").arg(&path).status().unwrap();
        assert!(made.success());
        let node = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]});
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": self.volume(part)},
        "spec": {
            "capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "persistentVolumeReclaimPolicy": "Retain", "local": {"path": path},
            "claimRef": {"namespace": self.namespace, "name": format!("data-{RELEASE}-{part}-0")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
        }});
        self.cluster.apply(&volume.to_string()).unwrap();
    }

    /// Installs or upgrades the release for evaluation.
    pub(crate) fn helm(&self, verb: &str, further: &[&str]) -> String {
        let (chart, file) = (folder(), values("evaluation"));
        let mut arguments = vec![verb, RELEASE];
        if verb == "install" || verb == "upgrade" {
            arguments.extend([&*chart, "--values", &file]);
            arguments.extend(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
            // The definitions belong to the release of the test before.
            arguments.push("--take-ownership");
        }
        arguments.extend(["--namespace", &self.namespace]);
        arguments.extend(further);
        self.helm.on(self.cluster, &arguments).unwrap()
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap()
    }

    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let all = [&["--namespace", &self.namespace], arguments].concat();
        self.cluster.kubectl(&all).map_err(|error| error.to_string())
    }

    pub(crate) fn get(&self, arguments: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "--output", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// A client of the services, as the administrator.
    pub(crate) fn client(&self) -> Client {
        let urls = SERVICES.map(|(service, port)| {
            let service = self.get(&["service", &format!("{RELEASE}-{service}")]);
            format!("http://{}:{port}", service["spec"]["clusterIP"].as_str().unwrap())
        });
        Client::at(urls).with_token(&self.token("admin-token"))
    }

    /// A token that the chart made.
    pub(crate) fn token(&self, key: &str) -> String {
        let secret = self.get(&["secret", &format!("{RELEASE}-tokens")]);
        let encoded = secret["data"][key].as_str().unwrap();
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).unwrap()).unwrap()
    }

    /// The pods of a service.
    pub(crate) fn pods(&self, component: &str) -> Vec<Value> {
        let selector = format!("app.kubernetes.io/component={component}");
        let list = self.get(&["pods", "--selector", &selector]);
        list["items"].as_array().unwrap().clone()
    }

    /// Resident memory of the pods of a service in bytes: all, and the part that is no file.
    pub(crate) fn memory(&self, component: &str) -> (u64, u64) {
        let uids: Vec<String> = self
            .pods(component)
            .iter()
            .map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned())
            .collect();
        let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let of_pods = processes.filter(|path| {
            let groups = std::fs::read_to_string(path.join("cgroup")).unwrap_or_default();
            let command = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            uids.iter().any(|uid| groups.contains(uid)) && !command.starts_with("/pause")
        });
        of_pods.map(|path| resident(&path)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

fn resident(process: &Path) -> (u64, u64) {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
    };
    (of("VmRSS:"), of("RssAnon:"))
}

/// Folder with the programs of the services.
pub(crate) fn programs() -> PathBuf {
    let own = Path::new(env!("CARGO_BIN_EXE_slipway")).parent().unwrap();
    std::env::var_os(PROGRAMS).map_or(own.to_owned(), PathBuf::from)
}

fn images() -> Vec<Archive> {
    let mut images = vec![image("slipway", &["/slipway"])];
    images.extend(SERVICES.map(|(service, _)| {
        let name = format!("slipway-{service}");
        image(&name, &[&format!("/{name}")])
    }));
    images.extend([postgres(), nats(), s3()]);
    images
}

/// An image of a program, without its debugging information.
fn image(name: &str, entrypoint: &[&str]) -> Archive {
    let program = programs().join(name);
    assert!(program.exists(), "{} is not built: `cargo build --workspace --bins`", program.display());
    let folder = tempfile::tempdir().unwrap().keep();
    let stripped = folder.join(name);
    let status = Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(&program).status();
    let program = if status.is_ok_and(|status| status.success()) { stripped } else { program };
    let mut archive = Archive::new(&format!("registry.local/{name}:{VERSION}"));
    archive.base_files().file(&format!("/{name}"), &program).unwrap();
    archive.file(AUTHORITIES, Path::new(AUTHORITIES)).unwrap();
    let mut variables = vec!["HOME=/tmp".to_owned()];
    if name == "slipway-serving" {
        archive.file(LIBRARY, &slipway_testkit::onnxruntime_library()).unwrap();
        variables.push(format!("SLIPWAY_ONNXRUNTIME_LIB={LIBRARY}"));
    }
    archive.shared_libraries().unwrap().configure(json!({
        "Entrypoint": entrypoint, "Env": variables, "User": "65532:65532", "WorkingDir": "/tmp",
    }));
    archive
}

fn toolbox() -> Toolbox {
    Toolbox::from_env().unwrap()
}

/// Postgres with the commands that the chart runs.
fn postgres() -> Archive {
    let binaries = toolbox().postgres(&mut |_| {}).unwrap();
    let root = binaries.bin_dir.ancestors().nth(3).unwrap();
    let folder = tempfile::tempdir().unwrap().keep();
    let users = folder.join("passwd");
    std::fs::write(&users, "root:x:0:0::/root:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n")
        .unwrap();
    let mut archive = Archive::new("registry.local/postgres:test");
    archive.base_files().file("/etc/passwd", &users).unwrap();
    archive.folder("/opt/postgres", root).unwrap();
    for tool in ["sh", "mv", "rm"] {
        archive.file(&format!("/bin/{tool}"), &Path::new("/bin").join(tool)).unwrap();
    }
    let bin = Path::new("/opt/postgres").join(binaries.bin_dir.strip_prefix(root).unwrap());
    archive.shared_libraries().unwrap().configure(json!({
        "Entrypoint": ["sh"], "Env": [format!("PATH={}:/bin", bin.display())],
    }));
    archive
}

fn nats() -> Archive {
    let mut archive = Archive::new("registry.local/nats:test");
    archive.base_files().file("/nats-server", &toolbox().nats_server(&mut |_| {}).unwrap()).unwrap();
    archive.shared_libraries().unwrap().configure(json!({"Entrypoint": ["/nats-server"]}));
    archive
}

fn s3() -> Archive {
    let mut archive = Archive::new("registry.local/s3:test");
    archive.base_files().file("/usr/bin/weed", &toolbox().weed(&mut |_| {}).unwrap()).unwrap();
    archive
        .shared_libraries()
        .unwrap()
        .configure(json!({"Entrypoint": ["weed"], "Env": ["PATH=/usr/bin:/bin"]}));
    archive
}
