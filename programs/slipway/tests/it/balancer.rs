//! What stands in front of the replicas of a service on Kubernetes: a port that passes each connection to a
//! replica that is ready, in turn. A connection stays with its replica until one of its ends closes it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How often replicas are asked whether they are ready.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// A replica behind a balancer.
#[derive(Clone)]
struct Member {
    /// Address of each port.
    addresses: Vec<SocketAddr>,
    is_ready: bool,
    /// Whether it gets no further connections, ready or not.
    is_leaving: bool,
}

#[derive(Default)]
struct Members {
    list: Vec<Member>,
    turn: usize,
}

impl Members {
    fn next(&mut self, port: usize) -> Option<SocketAddr> {
        let open = self.list.iter().filter(|member| member.is_ready && !member.is_leaving);
        let open: Vec<SocketAddr> = open.map(|member| member.addresses[port]).collect();
        self.turn += 1;
        (!open.is_empty()).then(|| open[self.turn % open.len()])
    }
}

/// Ports of a service that pass connections on.
pub(crate) struct Balancer {
    members: Arc<Mutex<Members>>,
    addresses: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

impl Balancer {
    /// Opens that many ports. The first one of a replica answers probes.
    pub(crate) async fn open(ports: usize) -> Self {
        let members = Arc::new(Mutex::new(Members::default()));
        let (mut tasks, mut addresses) = (JoinSet::new(), Vec::new());
        tasks.spawn(probe(Arc::clone(&members)));
        for port in 0..ports {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            tasks.spawn(pass(listener, port, Arc::clone(&members)));
        }
        Self { members, addresses, _tasks: tasks }
    }

    /// URL of a port.
    pub(crate) fn url(&self, port: usize) -> String {
        format!("http://{}", self.addresses[port])
    }

    /// Adds a replica, which gets connections once it is ready.
    pub(crate) fn add(&self, addresses: Vec<SocketAddr>) {
        self.members.lock().unwrap().list.push(Member { addresses, is_ready: false, is_leaving: false });
    }

    /// Takes a replica out before it gets its signal, as a `preStop` hook that sleeps does.
    pub(crate) fn take_out(&self, first: SocketAddr) {
        for member in &mut self.members.lock().unwrap().list {
            member.is_leaving |= member.addresses[0] == first;
        }
    }

    pub(crate) fn remove(&self, first: SocketAddr) {
        self.members.lock().unwrap().list.retain(|member| member.addresses[0] != first);
    }

    pub(crate) fn is_ready(&self, first: SocketAddr) -> bool {
        let members = self.members.lock().unwrap();
        members.list.iter().any(|member| member.addresses[0] == first && member.is_ready)
    }
}

async fn probe(members: Arc<Mutex<Members>>) {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    loop {
        let list: Vec<SocketAddr> =
            members.lock().unwrap().list.iter().map(|member| member.addresses[0]).collect();
        for first in list {
            let answer = client.get(format!("http://{first}/readyz")).timeout(Duration::from_secs(5));
            let is_ready = answer.send().await.is_ok_and(|answer| answer.status().is_success());
            for member in &mut members.lock().unwrap().list {
                if member.addresses[0] == first {
                    member.is_ready = is_ready;
                }
            }
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

async fn pass(listener: TcpListener, port: usize, members: Arc<Mutex<Members>>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        while connections.try_join_next().is_some() {}
        let Some(address) = members.lock().unwrap().next(port) else { continue };
        connections.spawn(async move {
            let Ok(mut replica) = TcpStream::connect(address).await else { return };
            let _ = (client.set_nodelay(true), replica.set_nodelay(true));
            // One that breaks breaks for its client.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
        });
    }
}
