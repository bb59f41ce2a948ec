//! What remains of a cluster that ended: nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slipway_kubernetes_testkit::{Cluster, Level, Options, end_orphan, left_out, remove_orphans};

use crate::support::{pod, wait_for, wait_for_phase};

/// Set for a process that these tests start and kill: the folder of its cluster.
const FOLDER: &str = "SLIPWAY_TEST_CLUSTER_FOLDER";
/// And its level.
const LEVEL: &str = "SLIPWAY_TEST_CLUSTER_LEVEL";
/// Folders in the user's home in which clients write by default.
const HOME_FOLDERS: [&str; 2] = [".kube", ".kwok"];
/// Where kubelet, containerd and CNI plugins write by default.
const DEFAULT_PATHS: [&str; 14] = [
    "/etc/cni",
    "/etc/containerd",
    "/etc/kubernetes",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/kubernetes",
    "/run/netns",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];
/// Parameters that kubelet sets.
const PARAMETERS: [&str; 4] =
    ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys"];

/// What a cluster has on the machine while it runs.
struct Traces {
    folder: PathBuf,
    namespaces: BTreeSet<PathBuf>,
    cgroups: Vec<PathBuf>,
}

impl Traces {
    fn of(folder: &Path) -> Self {
        let pid = std::fs::read_to_string(folder.join("node.pid")).ok();
        let ours = namespaces_of("self");
        let namespaces = pid.map(|pid| namespaces_of(&pid)).unwrap_or_default();
        let cgroups = std::fs::read_to_string(folder.join("cgroups")).unwrap_or_default();
        Self {
            folder: folder.to_path_buf(),
            namespaces: namespaces.difference(&ours).cloned().collect(),
            cgroups: cgroups.lines().map(PathBuf::from).collect(),
        }
    }

    fn assert_gone(&self) {
        assert!(!self.folder.exists(), "{} exists", self.folder.display());
        let folder = self.folder.to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(folder), "{mounts}");
        for cgroup in &self.cgroups {
            assert!(!cgroup.exists(), "{} exists", cgroup.display());
        }
        // A process that the kernel is ending has no command line any more, but it may keep its namespaces
        // for a moment.
        wait_for("end of the cluster's processes", || {
            let mut pids = processes();
            pids.retain(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(folder)
                    || !namespaces_of(pid).is_disjoint(&self.namespaces)
            });
            pids.is_empty().then_some(())
        });
    }
}

fn namespaces_of(process: &str) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{process}/ns")).into_iter().flatten().flatten();
    entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
}

fn processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// Paths that exist, and parameters of the kernel.
fn machine() -> BTreeSet<String> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let paths = DEFAULT_PATHS.iter().map(PathBuf::from).chain(HOME_FOLDERS.map(|name| home.join(name)));
    let paths = paths.filter(|path| path.exists()).map(|path| path.display().to_string());
    let parameters = PARAMETERS
        .iter()
        .map(|name| format!("{name} = {:?}", std::fs::read_to_string(format!("/proc/sys/{name}")).ok()));
    paths.chain(parameters).collect()
}

#[test]
fn a_cluster_with_containers_ends_without_a_trace() {
    let before = machine();
    let Some(cluster) = Cluster::own(&Options::new(Level::Node)) else { return };
    let traces = Traces::of(cluster.folder());
    assert!(traces.namespaces.len() >= 6 && !traces.cgroups.is_empty());
    let namespace = cluster.namespace();
    namespace.apply(&pod("sleeper", &["sleep", "3600"]).to_string()).unwrap();
    wait_for_phase(&namespace, "sleeper", "Running");
    drop(namespace);
    drop(cluster);
    traces.assert_gone();
    assert_eq!(machine(), before);
}

#[test]
fn two_clusters_run_side_by_side() {
    let Some(one) = Cluster::own(&Options::new(Level::Control)) else { return };
    let Some(two) = Cluster::own(&Options::new(Level::Control)) else { return };
    assert_ne!(one.credentials().server, two.credentials().server);
    one.kubectl(&["create", "namespace", "of-one"]).unwrap();
    let absent = two.kubectl(&["get", "namespace", "of-one"]).unwrap_err().to_string();
    assert!(absent.contains("not found"), "{absent}");
    drop(one);
    two.kubectl(&["get", "--raw=/readyz"]).unwrap();
}

#[test]
fn two_nodes_run_side_by_side() {
    let Some(one) = Cluster::own(&Options::new(Level::Node)) else { return };
    let Some(two) = Cluster::own(&Options::new(Level::Node)) else { return };
    for cluster in [&one, &two] {
        let namespace = cluster.namespace();
        namespace.apply(&pod("greeter", &["echo", "hello"]).to_string()).unwrap();
        wait_for_phase(&namespace, "greeter", "Succeeded");
    }
    drop(one);
    two.kubectl(&["get", "--raw=/readyz"]).unwrap();
}

/// A process of its own for the tests below: it starts a cluster and waits to be killed.
#[test]
fn a_process_of_the_other_tests() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let level = std::env::var(LEVEL).unwrap().parse().unwrap();
    let options = Options { folder: Some(folder.into()), ..Options::new(level) };
    let _cluster = Cluster::start(&options, &mut |_| {}).unwrap();
    loop {
        std::thread::park();
    }
}

/// Starts a cluster in another process and kills that process.
fn killed_owner(folder: &Path, level: Level) -> Traces {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "leftovers::a_process_of_the_other_tests", "--nocapture"]);
    command.env(FOLDER, folder).env(LEVEL, level.name()).stdout(Stdio::null());
    let mut owner = command.spawn().unwrap();
    wait_for("cluster of another process", || {
        assert_eq!(owner.try_wait().unwrap(), None, "the other process ended");
        Cluster::attach(folder).ok()
    });
    let traces = Traces::of(folder);
    owner.kill().unwrap();
    owner.wait().unwrap();
    traces
}

#[test]
fn a_cluster_ends_with_an_owner_that_is_killed() {
    for level in [Level::Control, Level::Node] {
        if left_out(level) {
            return;
        }
        let parent = tempfile::Builder::new().prefix("slipway-test-").tempdir().unwrap();
        let folder = parent.path().join("killed");
        let traces = killed_owner(&folder, level);
        wait_for("end of the cluster", || (!folder.exists()).then_some(()));
        traces.assert_gone();
    }
}

#[test]
fn a_cluster_whose_owner_and_whose_script_were_killed_is_ended_by_the_next_start() {
    for level in [Level::Control, Level::Node] {
        if left_out(level) {
            return;
        }
        let parent = tempfile::Builder::new().prefix("slipway-test-").tempdir().unwrap();
        let folder = parent.path().join("orphan");
        let script = folder.join("scripts/end.sh");
        let traces = {
            // The script ends the cluster when its owner is gone: it must not see that.
            let stopped = std::thread::spawn({
                let folder = folder.clone();
                move || killed_owner(&folder, level)
            });
            wait_for("script", || {
                let pid = processes().into_iter().find(|pid| {
                    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    let line = String::from_utf8_lossy(&line).into_owned();
                    line.starts_with("/bin/sh\0") && line.contains(script.to_str().unwrap())
                })?;
                kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).ok()
            });
            stopped.join().unwrap()
        };
        assert!(folder.exists(), "nothing has ended the cluster so far");
        remove_orphans().unwrap();
        assert!(end_orphan(&folder).unwrap());
        traces.assert_gone();
    }
}
