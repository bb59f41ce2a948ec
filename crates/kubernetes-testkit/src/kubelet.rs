//! kubelet, killed and started again.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::Layout;
use crate::processes::{Processes, children_of};
use crate::{Cluster, Error, Level, Packages, flags};

const KUBELET: &str = "kubelet";

/// Environment of the programs that make the node.
pub(crate) fn node_environment(layout: &Layout, packages: &Packages) -> Vec<(&'static str, String)> {
    let mut environment =
        vec![("PATH", packages.search_path()), ("TMPDIR", layout.path("node/tmp").display().to_string())];
    environment.extend(packages.library_path().map(|path| ("LD_LIBRARY_PATH", path)));
    environment
}

impl Cluster {
    /// Kills kubelet as `kill -9` does, and starts it again. Containers go on meanwhile.
    ///
    /// # Errors
    /// The cluster has no node, or kubelet cannot be started.
    pub fn restart_kubelet(&self) -> Result<(), Error> {
        let outside = self.processes().into_iter().find(|process| process.program == KUBELET);
        let outside = outside.ok_or_else(|| Error::NotRunning { folder: self.folder().to_path_buf() })?.pid;
        // What is on record is `nsenter`, which waits for its child in the node's namespaces.
        for pid in children_of(outside)?.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let packages = Packages::ensure(&mut |_| {})?;
        let layout = self.layout();
        let mut processes = Processes::new(layout, Level::Node);
        let environment = node_environment(layout, &packages);
        processes.start(KUBELET, &self.program(KUBELET), &flags::kubelet(layout), &environment)?;
        for mut child in processes.into_children() {
            std::thread::spawn(move || child.wait());
        }
        Ok(())
    }
}
