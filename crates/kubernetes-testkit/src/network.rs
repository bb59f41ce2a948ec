//! The network of a cluster with a node.

use std::fs::File;

use nix::sched::{CloneFlags, setns};

use crate::{Cluster, Error, Level};

impl Cluster {
    /// Moves the calling thread into the network of the cluster; at levels `api` and `control` that is the
    /// machine's, and nothing changes.
    ///
    /// Threads and processes that it starts afterwards are in that network as well, and sockets that are open
    /// stay where they are. A test calls this before it starts servers or an asynchronous runtime: then all
    /// of them reach pods and the API server, and pods reach them at the node's address.
    ///
    /// # Errors
    /// We are not root.
    pub fn join_network(&self) -> Result<(), Error> {
        if self.level() < Level::Node {
            return Ok(());
        }
        let record = self.folder().join("node.pid");
        let pid = std::fs::read_to_string(&record).map_err(Error::file("cannot read", &record))?;
        let path = format!("/proc/{}/ns/net", pid.trim());
        let network = File::open(&path).map_err(Error::file("cannot open", path.as_ref()))?;
        setns(network, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::file("cannot enter", path.as_ref())(errno.into()))
    }
}
