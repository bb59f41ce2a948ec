//! Starting a cluster, program by program.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::json;
use slipway_toolbox::servers::free_port;

use crate::certificates::{self, Certificate};
use crate::cluster::Facts;
use crate::folder;
use crate::kubelet::node_environment;
use crate::layout::Layout;
use crate::names::{NODE_ADDRESS, NODE_NAME};
use crate::owner::Owner;
use crate::processes::{Processes, found};
use crate::{
    Archive, BUSYBOX_IMAGE, Cluster, Credentials, Error, Level, PAUSE_IMAGE, Packages, Programs, Progress,
    flags, missing,
};

/// The API server's port where the cluster has a network of its own.
const NODE_PORT: u16 = 6443;
/// Bytes of the random part of names.
const ID_CHARACTERS: usize = 12;

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much of Kubernetes runs.
    pub level: Level,
    /// Where the cluster keeps everything. [default: a new folder in the temporary folder]
    pub folder: Option<PathBuf>,
    /// Whether kube-apiserver logs every request, see [`Cluster::audit_log`].
    pub audit: bool,
    /// More flags of kube-apiserver.
    pub apiserver_flags: Vec<String>,
    /// More flags of kube-controller-manager.
    pub controller_manager_flags: Vec<String>,
}

impl Options {
    /// A cluster at a level, with everything else by default.
    pub fn new(level: Level) -> Self {
        let none = Vec::new();
        let (apiserver_flags, controller_manager_flags) = (none.clone(), none);
        Self { level, folder: None, audit: false, apiserver_flags, controller_manager_flags }
    }
}

/// Ends clusters of killed owners in the temporary folder, and deletes their folders.
///
/// # Errors
/// A process cannot be ended, or a folder cannot be deleted.
pub fn remove_orphans() -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(default_parent()) else { return Ok(()) };
    for entry in entries.flatten() {
        // A folder without a lock is not a cluster, or not yet.
        if entry.path().join("lock").is_file() && !entry.file_name().to_string_lossy().starts_with('.') {
            folder::end_orphan(&entry.path())?;
        }
    }
    Ok(())
}

fn default_parent() -> PathBuf {
    std::env::temp_dir().join(format!("slipway-clusters-{}", nix::unistd::geteuid()))
}

impl Cluster {
    /// Starts a cluster and waits until it works. The first one on a machine builds its programs.
    ///
    /// # Errors
    /// This machine cannot run the level, or a program does not start.
    pub fn start(options: &Options, progress: Progress<'_>) -> Result<Self, Error> {
        start(options, progress)
    }
}

fn start(options: &Options, progress: Progress<'_>) -> Result<Cluster, Error> {
    let level = options.level;
    if let Some(reason) = missing(level) {
        return Err(Error::Missing { level, reason });
    }
    let programs = Programs::ensure(progress)?;
    let packages = if level == Level::Node { Some(Packages::ensure(progress)?) } else { None };
    remove_orphans()?;
    let id: String = slipway_runtime::id::random().simple().to_string().chars().take(ID_CHARACTERS).collect();
    let folder = options.folder.clone().unwrap_or_else(|| default_parent().join(&id));
    let (layout, lock) = folder::claim(&folder)?;
    let mut owner = Owner::new(&layout, lock)?;
    let starting = Starting { options, layout: &layout, programs: &programs, packages: packages.as_ref() };
    let mut processes = Processes::new(&layout, level);
    let started = starting.all(&mut processes, &id, progress);
    processes.into_children().for_each(|child| owner.adopt(child));
    let credentials = started?;
    let facts =
        Facts { level, programs: programs.folder(), images: packages.map(|packages| packages.path("ctr")) };
    facts.write(&layout)?;
    Ok(Cluster::new(layout, facts, credentials, Some(owner)))
}

struct Starting<'start> {
    options: &'start Options,
    layout: &'start Layout,
    programs: &'start Programs,
    packages: Option<&'start Packages>,
}

impl Starting<'_> {
    fn all(
        &self,
        processes: &mut Processes<'_>,
        id: &str,
        progress: Progress<'_>,
    ) -> Result<Credentials, Error> {
        let level = self.options.level;
        let (server, port) = match level {
            Level::Node => (format!("https://{NODE_ADDRESS}:{NODE_PORT}"), NODE_PORT),
            Level::Api | Level::Control => {
                let port = free_port()?;
                (format!("https://127.0.0.1:{port}"), port)
            }
        };
        let admin = self.write_files(&server)?;
        let cluster = self.view(admin.clone());
        if level == Level::Node {
            processes.start_node(id)?;
        }
        progress("starting etcd and kube-apiserver");
        self.api(processes, &cluster, port)?;
        if level >= Level::Control {
            progress("starting kube-controller-manager, kube-scheduler and kwok");
            self.control(processes)?;
        }
        if let Some(packages) = self.packages {
            progress("starting containerd, kubelet, kube-proxy and CoreDNS");
            self.node(processes, &cluster, packages)?;
        }
        if level >= Level::Control {
            // The admission of pods requires it.
            processes.wait("default ServiceAccount", &mut || {
                let account =
                    cluster.kubectl(&["--namespace", "default", "get", "serviceaccount", "default"]);
                account.map(drop).map_err(|error| error.to_string())
            })?;
        }
        Ok(admin)
    }

    /// The cluster as its clients see it, without its end.
    fn view(&self, credentials: Credentials) -> Cluster {
        let images = self.packages.map(|packages| packages.path("ctr"));
        let facts = Facts { level: self.options.level, programs: self.programs.folder(), images };
        Cluster::new(self.layout.clone(), facts, credentials, None)
    }

    /// Keys, kubeconfigs and configuration; returns the administrator's credentials.
    fn write_files(&self, server: &str) -> Result<Credentials, Error> {
        let keys = certificates::make(&self.layout.path("keys"))?;
        let credentials = |user: &Certificate| Credentials {
            server: server.to_owned(),
            authority: keys.authority.clone(),
            certificate: user.certificate.clone(),
            key: user.key.clone(),
        };
        let users = [
            ("admin", &keys.admin),
            ("controller-manager", &keys.controller_manager),
            ("scheduler", &keys.scheduler),
            ("kubelet", &keys.kubelet),
        ];
        for (name, user) in users {
            self.write(self.layout.kubeconfig(name), &credentials(user).kubeconfig().to_string())?;
        }
        let plugins = self.packages.map(|packages| packages.plugins().display().to_string());
        let files = [
            ("audit.yaml", include_str!("config/audit.yaml")),
            ("Corefile", include_str!("config/Corefile")),
            ("cni/bridge.conflist", include_str!("config/bridge.conflist")),
            ("containerd.toml", include_str!("config/containerd.toml")),
            ("kubelet.yaml", include_str!("config/kubelet.yaml")),
            ("kwok.yaml", include_str!("config/kwok.yaml")),
        ];
        for (name, template) in files {
            let text = template
                .replace("@FOLDER@", &self.layout.folder().display().to_string())
                .replace("@PAUSE@", PAUSE_IMAGE)
                .replace("@CNI@", plugins.as_deref().unwrap_or_default());
            self.write(self.layout.path("config").join(name), &text)?;
        }
        Ok(credentials(&keys.admin))
    }

    fn write(&self, path: PathBuf, text: &str) -> Result<(), Error> {
        std::fs::write(&path, text).map_err(Error::file("cannot write", &path))
    }

    fn api(&self, processes: &mut Processes<'_>, cluster: &Cluster, port: u16) -> Result<(), Error> {
        processes.start("etcd", &self.programs.path("etcd"), &flags::etcd(self.layout), &[])?;
        let socket = self.layout.etcd_socket();
        processes.wait("listening etcd", &mut || {
            UnixStream::connect(&socket).map(drop).map_err(|error| error.to_string())
        })?;
        let mut apiserver = flags::apiserver(self.layout, self.options.level, port, self.options.audit);
        apiserver.extend(self.options.apiserver_flags.iter().cloned());
        processes.start("kube-apiserver", &self.programs.path("kube-apiserver"), &apiserver, &[])?;
        processes.wait("ready kube-apiserver", &mut || {
            cluster.kubectl(&["get", "--raw=/readyz"]).map(drop).map_err(|error| error.to_string())
        })
    }

    fn control(&self, processes: &mut Processes<'_>) -> Result<(), Error> {
        let mut manager = flags::controller_manager(self.layout);
        manager.extend(self.options.controller_manager_flags.iter().cloned());
        let name = "kube-controller-manager";
        processes.start(name, &self.programs.path(name), &manager, &[])?;
        let name = "kube-scheduler";
        processes.start(name, &self.programs.path(name), &flags::scheduler(self.layout), &[])?;
        processes.start("kwok", &self.programs.path("kwok"), &flags::kwok(self.layout), &[])
    }

    fn node(
        &self,
        processes: &mut Processes<'_>,
        cluster: &Cluster,
        packages: &Packages,
    ) -> Result<(), Error> {
        let environment = node_environment(self.layout, packages);
        let containerd = packages.path("containerd");
        processes.start("containerd", &containerd, &flags::containerd(self.layout), &environment)?;
        let socket = self.layout.containerd_socket();
        processes.wait("listening containerd", &mut || found(UnixStream::connect(&socket).is_ok()))?;
        for archive in base_images(self.programs, packages)? {
            cluster.load(&archive)?;
        }
        processes.start("coredns", &self.programs.path("coredns"), &flags::coredns(self.layout), &[])?;
        let kubelet = flags::kubelet(self.layout);
        processes.start("kubelet", &self.programs.path("kubelet"), &kubelet, &environment)?;
        let proxy = flags::proxy(self.layout);
        processes.start("kube-proxy", &self.programs.path("kube-proxy"), &proxy, &environment)?;
        // It prints its version once it has the services and listens.
        let log = self.layout.log("coredns");
        processes.wait("listening CoreDNS", &mut || {
            found(std::fs::read_to_string(&log).is_ok_and(|text| text.contains("CoreDNS-")))
        })?;
        processes.wait("ready node", &mut || {
            let condition = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
            match cluster.kubectl(&["get", "node", NODE_NAME, "--output", condition]) {
                Ok(status) if status == "True" => Ok(()),
                Ok(status) => Err(format!("the condition Ready is `{status}`")),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}

/// The sandbox of pods, and a shell for the containers of tests.
fn base_images(programs: &Programs, packages: &Packages) -> Result<[Archive; 2], Error> {
    const COMMANDS: [&str; 17] = [
        "cat", "cp", "date", "echo", "env", "false", "httpd", "id", "ls", "mkdir", "nc", "seq", "sh",
        "sleep", "true", "wget", "nslookup",
    ];
    let mut pause = Archive::new(PAUSE_IMAGE);
    pause.file("/pause", &programs.path("pause"))?.configure(json!({ "Entrypoint": ["/pause"] }));
    let mut busybox = Archive::new(BUSYBOX_IMAGE);
    busybox.base_files().file("/bin/busybox", &packages.path("busybox"))?;
    for command in COMMANDS {
        busybox.symlink(&format!("/bin/{command}"), "busybox");
    }
    busybox.configure(json!({ "Cmd": ["/bin/sh"] }));
    Ok([pause, busybox])
}
