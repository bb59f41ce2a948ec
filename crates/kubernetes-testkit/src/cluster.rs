//! A running cluster.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::layout::Layout;
use crate::owner::Owner;
use crate::{Archive, Credentials, Error, Level, command, folder};

/// A running cluster.
///
/// The one that [`Cluster::start`] returns owns it: the cluster ends when that is dropped, and when the
/// process ends. All that the cluster wrote is deleted then.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    facts: Facts,
    credentials: Credentials,
    owner: Option<Mutex<Owner>>,
}

/// What a client of a running cluster needs to know of it.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) level: Level,
    /// Folder of the programs.
    pub(crate) programs: PathBuf,
    /// The program that loads images.
    pub(crate) images: Option<PathBuf>,
}

impl Facts {
    pub(crate) fn write(&self, layout: &Layout) -> Result<(), Error> {
        let facts = json!({ "level": self.level.name(), "programs": self.programs, "images": self.images });
        let path = layout.facts();
        std::fs::write(&path, facts.to_string()).map_err(Error::file("cannot write", &path))
    }

    fn read(layout: &Layout) -> Option<Self> {
        let facts: Value = serde_json::from_slice(&std::fs::read(layout.facts()).ok()?).ok()?;
        Some(Self {
            level: facts["level"].as_str()?.parse().ok()?,
            programs: facts["programs"].as_str()?.into(),
            images: facts["images"].as_str().map(PathBuf::from),
        })
    }
}

/// One process of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessState {
    /// Its program, e.g. `etcd`.
    pub program: String,
    /// The process.
    pub pid: u32,
}

impl Cluster {
    /// A client of the running cluster in a folder, which does not own it.
    ///
    /// # Errors
    /// There is none.
    pub fn attach(folder: &Path) -> Result<Self, Error> {
        let layout = Layout::new(folder);
        let not_running = || Error::NotRunning { folder: folder.to_path_buf() };
        if !folder::in_use(folder) {
            return Err(not_running());
        }
        let facts = Facts::read(&layout).ok_or_else(not_running)?;
        let kubeconfig = std::fs::read(layout.kubeconfig("admin")).ok();
        let kubeconfig = kubeconfig.and_then(|text| serde_json::from_slice(&text).ok());
        let credentials = kubeconfig.as_ref().and_then(Credentials::parse).ok_or_else(not_running)?;
        Ok(Self::new(layout, facts, credentials, None))
    }

    pub(crate) fn new(layout: Layout, facts: Facts, credentials: Credentials, owner: Option<Owner>) -> Self {
        Self { layout, facts, credentials, owner: owner.map(Mutex::new) }
    }

    /// Its level.
    pub fn level(&self) -> Level {
        self.facts.level
    }

    /// Its folder, which is deleted when it ends.
    pub fn folder(&self) -> &Path {
        self.layout.folder()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig("admin")
    }

    /// The administrator's credentials. The server is reachable from this machine at levels `api` and
    /// `control`, and at level `node` only from the node: see [`Cluster::command`] and
    /// [`Cluster::join_network`].
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Requests to kube-apiserver, one JSON object per line, if the cluster started with `audit`.
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }

    /// The log of one of its programs, e.g. `kubelet`.
    pub fn log(&self, program: &str) -> PathBuf {
        self.layout.log(program)
    }

    /// A command with `KUBECONFIG` and `PATH` for this cluster. At level `node`, it runs on the node, in the
    /// same working directory: it reaches pods and the API server, and nothing outside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = if self.facts.level == Level::Node {
            let mut command = Command::new("/bin/sh");
            command.arg(self.layout.script("enter.sh")).arg(self.layout.folder()).arg(program);
            command
        } else {
            Command::new(program)
        };
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.facts.programs.display()));
        command.env("KUBECONFIG", self.kubeconfig());
        // kubectl keeps a cache and preferences in the user's home otherwise.
        command.env("KUBECACHEDIR", self.layout.path("kubectl-cache")).env("KUBERC", "off");
        command
    }

    /// A process that was started later, which ends with the cluster.
    pub(crate) fn adopt(&self, child: Child) {
        if let Some(owner) = &self.owner {
            owner.lock().unwrap_or_else(PoisonError::into_inner).adopt(child);
        }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.facts.programs.join(name)
    }

    /// Loads an image into the node, under the archive's name.
    ///
    /// # Errors
    /// The cluster has no node, or containerd rejects the image.
    pub fn load(&self, archive: &Archive) -> Result<(), Error> {
        let file = tempfile::Builder::new()
            .prefix("image-")
            .suffix(".tar")
            .tempfile_in(self.folder())
            .map_err(Error::file("cannot create a file in", self.folder()))?;
        archive.write(file.as_file())?;
        self.load_file(file.path())
    }

    /// Loads an OCI image archive into the node.
    ///
    /// # Errors
    /// The cluster has no node, or containerd rejects the image.
    pub fn load_file(&self, archive: &Path) -> Result<(), Error> {
        let Some(images) = &self.facts.images else {
            let reason = format!("the cluster has level {}, and only level node has images", self.level());
            return Err(Error::Image { image: archive.display().to_string(), reason });
        };
        let mut command = self.command(images);
        command.arg("--address").arg(self.layout.containerd_socket());
        command.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
        command::output(&mut command, "ctr images import", None).map(drop)
    }

    /// The processes that were started and still run, by program.
    pub fn processes(&self) -> Vec<ProcessState> {
        let entries = std::fs::read_dir(self.layout.path("pids")).into_iter().flatten().flatten();
        let mut running: Vec<ProcessState> = entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some(ProcessState { program: self.program_of(pid)?, pid }))
            .collect();
        running.sort_by_key(|process| process.pid);
        running
    }

    fn program_of(&self, pid: u32) -> Option<String> {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let folder = self.folder().display().to_string();
        words.iter().any(|word| word.contains(&folder)).then(|| program_in(&words))
    }
}

/// The program that a command line runs, on the node or not.
fn program_in(words: &[String]) -> String {
    let name = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
    let first = words.first().map(name).unwrap_or_default();
    match first.as_str() {
        "nsenter" => words.iter().skip_while(|word| *word != "--").nth(1).map(name).unwrap_or(first),
        "unshare" => "node".to_owned(),
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_its_program() {
        let named = |line: &str| program_in(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(named("/cache/bin/etcd --data-dir=/tmp/c/etcd"), "etcd");
        assert_eq!(named("nsenter --target 7 --wd=/ -- /cache/bin/kubelet --config=/tmp/c/k"), "kubelet");
        assert_eq!(named("unshare --mount sh /tmp/c/scripts/node.sh"), "node");
        assert_eq!(named(""), "");
    }
}
