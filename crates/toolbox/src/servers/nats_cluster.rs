//! Several NATS servers as one cluster, each of which can be killed, started again, and cut off from the
//! others.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::nats::{Membership, NatsOptions, start_member};
use super::{Link, Running, free_port, kept_secret};
use crate::{Error, private};

/// Where a route is announced to lead: nowhere, so that servers reach each other through their links only.
const NOWHERE: &str = "127.0.0.1:1";

/// One server of a cluster.
#[derive(Debug)]
struct Node {
    options: NatsOptions,
    route_port: u16,
}

/// The way by which one server connects to another one. Of the two connections between them, they keep one.
#[derive(Debug)]
struct Route {
    from: usize,
    to: usize,
    link: Link,
}

/// The servers of a cluster, running or not. Each is started with [`NatsCluster::start`], any number of
/// times, on the same port and data.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<Node>,
    routes: Vec<Route>,
    users_dir: PathBuf,
    /// What the servers show to each other.
    secret: String,
    /// Whether clients learn the addresses of the other servers from the one they are connected to.
    discovery: bool,
}

impl NatsCluster {
    /// A cluster of `size` servers, none of which runs yet. Of `options`, the folder is that of all servers,
    /// and each gets a port of its own.
    ///
    /// # Errors
    /// The folder cannot be made, or no port is free.
    pub fn plan(options: &NatsOptions, size: usize) -> Result<Self, Error> {
        private::folder(&options.dir)?;
        let mut nodes = Vec::with_capacity(size);
        for number in 0..size {
            let dir = options.dir.join(format!("node-{number}"));
            let log_dir = options.log_dir.join(format!("node-{number}"));
            let own = NatsOptions { dir, log_dir, port: free_port()?, ..options.clone() };
            nodes.push(Node { options: own, route_port: free_port()? });
        }
        let mut routes = Vec::new();
        for from in 0..size {
            for to in (0..size).filter(|to| *to != from) {
                routes.push(Route { from, to, link: Link::to(nodes[to].route_port)? });
            }
        }
        let secret = kept_secret(&options.dir.join("routes"))?;
        Ok(Self { nodes, routes, users_dir: options.dir.join("users"), secret, discovery: true })
    }

    /// The same cluster, of which clients know only the servers that they were given: they cannot bypass a
    /// proxy.
    #[must_use]
    pub fn without_discovery(self) -> Self {
        Self { discovery: false, ..self }
    }

    /// Number of servers.
    pub const fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Starts a server, by its number from 0, and waits until it takes connections; JetStream works once more
    /// than half of the servers run. The server ends with the thread that started it.
    ///
    /// # Errors
    /// It does not start; the end of its log is in the error.
    pub fn start(&self, number: usize) -> Result<Running, Error> {
        let membership = self.membership(number);
        start_member(&self.nodes[number].options, &membership).map(|(running, _)| running)
    }

    /// How clients reach the cluster as its first user: the URLs of all servers, separated by commas.
    ///
    /// # Errors
    /// The password cannot be read or made.
    pub fn url(&self) -> Result<String, Error> {
        let urls: Result<Vec<String>, Error> = (0..self.size()).map(|number| self.node_url(number)).collect();
        Ok(urls?.join(","))
    }

    /// The URL of one server.
    ///
    /// # Errors
    /// The password cannot be read or made.
    pub fn node_url(&self, number: usize) -> Result<String, Error> {
        let NatsOptions { users, port, .. } = &self.nodes[number].options;
        let Some(user) = users.first() else { return Ok(format!("nats://127.0.0.1:{port}")) };
        private::folder(&self.users_dir)?;
        let password = kept_secret(&self.users_dir.join(&user.name))?;
        Ok(format!("nats://{}:{password}@127.0.0.1:{port}", user.name))
    }

    /// The port of one server for clients.
    pub fn port(&self, number: usize) -> u16 {
        self.nodes[number].options.port
    }

    /// Folder of all data of a server.
    pub fn dir(&self, number: usize) -> &Path {
        &self.nodes[number].options.dir
    }

    /// Folder of a server's streams.
    pub fn store_dir(&self, number: usize) -> PathBuf {
        let NatsOptions { dir, account, .. } = &self.nodes[number].options;
        if account.ids().is_some() { dir.join("home/jetstream") } else { dir.join("jetstream") }
    }

    /// Gives the calling thread a disk of its own for a server's streams, before it starts that server. The
    /// disk is in memory, no other thread sees it, and it goes with the last process that does.
    ///
    /// # Errors
    /// The caller is not root.
    pub fn mount_disk(&self, number: usize, bytes: u64) -> Result<(), Error> {
        let (dir, account) = (self.store_dir(number), self.nodes[number].options.account);
        private::folder(&dir)?;
        let owner = account.ids().map(|(uid, gid)| format!(",uid={uid},gid={gid}")).unwrap_or_default();
        let options = format!("size={bytes},mode=0700{owner}");
        let nothing = None::<&str>;
        let mounted = unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing))
            .and_then(|()| {
                mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            });
        mounted.map_err(|errno| Error::file("cannot mount a disk at", &dir)(errno.into()))
    }

    /// Fills the disk of a running server's streams to the last byte.
    ///
    /// # Errors
    /// It does not run, or the disk takes no file.
    pub fn fill_disk(&self, number: usize) -> Result<(), Error> {
        let path = self.filler(number)?;
        let failed = || Error::file("cannot write", &path);
        let mut file = File::create(&path).map_err(failed())?;
        for bytes in [1 << 20, 1 << 10, 1] {
            let block = vec![0; bytes];
            while file.write_all(&block).is_ok() {}
        }
        Ok(())
    }

    /// Removes what filled it.
    ///
    /// # Errors
    /// It does not run, or its disk was not filled.
    pub fn free_disk(&self, number: usize) -> Result<(), Error> {
        let path = self.filler(number)?;
        std::fs::remove_file(&path).map_err(Error::file("cannot remove", &path))
    }

    /// A file on the disk as the server's process sees it.
    fn filler(&self, number: usize) -> Result<PathBuf, Error> {
        let pid_file = self.nodes[number].options.dir.join("server.pid");
        let text = std::fs::read_to_string(&pid_file).map_err(Error::file("cannot read", &pid_file))?;
        let pid = text.split_whitespace().next().unwrap_or_default();
        let dir = self.store_dir(number);
        Ok(Path::new("/proc")
            .join(pid)
            .join("root")
            .join(dir.strip_prefix("/").unwrap_or(&dir))
            .join("filler"))
    }

    /// Cuts a server off from the others; its clients stay connected to it.
    pub fn cut_off(&self, number: usize) {
        self.routes_of(number).for_each(|route| route.link.cut());
    }

    /// Connects a server with the others again.
    pub fn rejoin(&self, number: usize) {
        self.routes_of(number).for_each(|route| route.link.mend());
    }

    fn routes_of(&self, number: usize) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(move |route| route.from == number || route.to == number)
    }

    fn membership(&self, number: usize) -> Membership {
        let of_ours = self.routes.iter().filter(|route| route.from == number);
        let url =
            |route: &Route| format!("nats-route://cluster:{}@127.0.0.1:{}", self.secret, route.link.port());
        let cluster = json!({
            "name": "slipway",
            "listen": format!("127.0.0.1:{}", self.nodes[number].route_port),
            "advertise": NOWHERE,
            "no_advertise": !self.discovery,
            "authorization": {"user": "cluster", "password": self.secret, "timeout": 5},
            "routes": of_ours.map(url).collect::<Vec<_>>(),
        });
        Membership { server_name: format!("node-{number}"), users_dir: self.users_dir.clone(), cluster }
    }
}
