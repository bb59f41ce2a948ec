//! NATS servers.

use std::sync::{Arc, Once};

use slipway_toolbox::servers::{self, NatsCluster, NatsOptions, NatsUser};

use crate::hosts::{Host, open_folder};
use crate::{account, toolbox};

/// A NATS server with JetStream; gone when dropped.
#[derive(Debug)]
pub struct TestNats {
    host: Host,
    /// `nats://user:password@127.0.0.1:<port>`; the user may do everything.
    pub url: String,
}

impl TestNats {
    /// Ends it at once, as a crash would.
    pub async fn kill(&self) {
        tokio::task::block_in_place(|| self.host.kill());
    }

    /// Starts it again on the same port and data.
    pub async fn start_again(&self) {
        tokio::task::block_in_place(|| self.host.start_again());
    }
}

pub(crate) async fn start() -> TestNats {
    tokio::task::spawn_blocking(|| {
        let (folder, path) = open_folder();
        let options = NatsOptions {
            program: toolbox().nats_server(&mut |_| {}).expect("the NATS server is there"),
            dir: path.join("nats"),
            log_dir: path.join("logs"),
            port: servers::free_port().expect("a free port"),
            account: account(),
            users: vec![NatsUser::unlimited("tester")],
        };
        let (host, url, ()) =
            Host::start(Some(folder), move || (servers::start_nats(&options).expect("NATS starts").0, ()));
        TestNats { host, url }
    })
    .await
    .expect("NATS starts")
}

/// Three NATS servers with JetStream as one cluster; gone when dropped.
#[derive(Debug)]
pub struct TestNatsCluster {
    hosts: Vec<Host>,
    cluster: Arc<NatsCluster>,
    /// URLs of all servers, separated by commas.
    pub url: String,
}

impl TestNatsCluster {
    /// Number of servers.
    pub const SIZE: usize = 3;

    /// Ends a server at once, as a crash would.
    pub async fn kill(&self, number: usize) {
        tokio::task::block_in_place(|| self.hosts[number].kill());
    }

    /// Starts it again on the same port and data.
    pub async fn start_again(&self, number: usize) {
        tokio::task::block_in_place(|| self.hosts[number].start_again());
    }

    /// Cuts a server off from the others; its clients stay connected to it.
    pub fn cut_off(&self, number: usize) {
        self.cluster.cut_off(number);
    }

    /// Connects it with the others again.
    pub fn rejoin(&self, number: usize) {
        self.cluster.rejoin(number);
    }

    /// Fills the disk of a server's streams.
    pub fn fill_disk(&self, number: usize) {
        self.cluster.fill_disk(number).expect("the disk takes a file");
    }

    /// Makes space on it again.
    pub fn free_disk(&self, number: usize) {
        self.cluster.free_disk(number).expect("the file is there");
    }

    /// The URL of one server. Clients learn of the others from it.
    pub fn node_url(&self, number: usize) -> String {
        self.cluster.node_url(number).expect("the password is kept")
    }
}

/// `disk_bytes` is the size of each server's disk, which requires root; `None` for the system's disk.
pub(crate) async fn start_cluster(disk_bytes: Option<u64>) -> TestNatsCluster {
    tokio::task::spawn_blocking(move || {
        let (folder, path) = open_folder();
        let options = NatsOptions {
            program: toolbox().nats_server(&mut |_| {}).expect("the NATS server is there"),
            dir: path.join("nats"),
            log_dir: path.join("logs"),
            port: 0,
            account: account(),
            users: vec![NatsUser::unlimited("tester")],
        };
        let cluster = NatsCluster::plan(&options, TestNatsCluster::SIZE).expect("a cluster");
        let (cluster, folder) = (Arc::new(cluster), Arc::new(folder));
        let mut hosts = Vec::new();
        for number in 0..TestNatsCluster::SIZE {
            let mounted = Once::new();
            // The last one to end removes the folder.
            let (starting, kept) = (Arc::clone(&cluster), Arc::clone(&folder));
            let start = move || {
                let _kept = &kept;
                if let Some(bytes) = disk_bytes {
                    // In the thread that starts the server: no other one sees the disk, and it goes with it.
                    mounted.call_once(|| starting.mount_disk(number, bytes).expect("a small disk"));
                }
                (starting.start(number).expect("NATS starts"), ())
            };
            hosts.push(Host::start(None, start).0);
        }
        let url = cluster.url().expect("the password is kept");
        TestNatsCluster { hosts, cluster, url }
    })
    .await
    .expect("NATS starts")
}
