//! Postgres, the nodes of NATS, and S3. Each is owned by a thread, which stops it and starts it again: a
//! server ends with the thread that started it, and a start takes some time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slipway_toolbox::servers::{
    self, NatsCluster, NatsOptions, NatsUser, PostgresOptions, Running, S3Keys, S3Options, free_port,
};
use slipway_toolbox::{Account, DEFAULT_ACCOUNT, Toolbox};

use super::faults::{NATS_NODES, Part, Server, Stop};

const START_ATTEMPTS: usize = 5;
const START_DELAY: Duration = Duration::from_secs(2);
/// Folder of the nodes of NATS: `node-0` and so on.
pub(super) const NATS_FOLDER: &str = "nats";

/// What the replicas connect to.
#[derive(Debug)]
pub(super) struct Servers {
    /// By server, or node of NATS.
    hosts: BTreeMap<Part, Host>,
    nats: Arc<NatsCluster>,
    pub(super) keys: Keys,
    pub(super) onnxruntime: PathBuf,
}

/// How clients reach a server without a proxy, and how they authenticate.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// With user and password.
    pub(super) postgres_url: String,
    /// Of each node, with user and password.
    pub(super) nats_urls: Vec<String>,
    pub(super) s3_access_key: String,
    pub(super) s3_secret_key: String,
    /// Postgres, each node of NATS, and S3.
    ports: BTreeMap<Server, Vec<u16>>,
}

type Start = Box<dyn Fn() -> anyhow::Result<(Running, Option<S3Keys>)> + Send>;
/// Called when a server is up again, or did not start.
pub(super) type Done = Box<dyn FnOnce(anyhow::Result<()>) + Send>;

enum Order {
    Stop(Stop),
    Start(Done),
}

/// A server and the thread that owns it.
#[derive(Debug)]
struct Host {
    orders: Mutex<Option<Sender<Order>>>,
    pid: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    /// Starts all of them with data in `dir`.
    pub(super) fn start(dir: &Path) -> anyhow::Result<Self> {
        let toolbox = Toolbox::from_env()?;
        let nats = Arc::new(nats_cluster(dir, &toolbox)?);
        let (postgres_port, s3_port) = (free_port()?, free_port()?);
        let start = |part, start| Host::start(start).with_context(|| format!("{part} does not start"));
        let postgres = Part::Server(Server::Postgres);
        let (host, postgres_url, _) = start(postgres, postgres_starter(dir, postgres_port, &toolbox)?)?;
        let mut hosts = BTreeMap::from([(postgres, host)]);
        let mut nats_urls = Vec::new();
        for number in 0..NATS_NODES {
            let (host, url, _) = start(Part::Node(number), node_starter(&nats, number))?;
            hosts.insert(Part::Node(number), host);
            nats_urls.push(url);
        }
        let s3 = Part::Server(Server::S3);
        let (host, _, keys) = start(s3, s3_starter(dir, s3_port, &toolbox)?)?;
        hosts.insert(s3, host);
        let S3Keys { access_key: s3_access_key, secret_key: s3_secret_key } =
            keys.context("S3 has no keys")?;
        let nodes = (0..NATS_NODES).map(|number| nats.port(number)).collect();
        let ports = BTreeMap::from([
            (Server::Postgres, vec![postgres_port]),
            (Server::Nats, nodes),
            (Server::S3, vec![s3_port]),
        ]);
        let keys = Keys { postgres_url, nats_urls, s3_access_key, s3_secret_key, ports };
        Ok(Self { hosts, nats, keys, onnxruntime: toolbox.onnxruntime_library(&mut |_| {})? })
    }

    /// The server, the node, or all nodes.
    fn hosts(&self, part: Part) -> impl Iterator<Item = &Host> {
        let all = part == Part::Server(Server::Nats);
        let is_meant = move |known: &Part| *known == part || all && matches!(known, Part::Node(_));
        self.hosts.iter().filter(move |(known, _)| is_meant(known)).map(|(_, host)| host)
    }

    /// Sends a signal to the server's process.
    pub(super) fn signal(&self, part: Part, signal: Signal) {
        for host in self.hosts(part) {
            let pid = host.pid.load(Ordering::SeqCst).cast_signed();
            if pid > 0 {
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    /// Stops it; returns immediately.
    pub(super) fn stop(&self, part: Part, stop: Stop) {
        self.hosts(part).for_each(|host| host.order(Order::Stop(stop)));
    }

    /// Starts it again; returns immediately. `done` is called once, with the first error of several nodes.
    pub(super) fn start_again(&self, part: Part, done: Done) {
        let all = Arc::new(Mutex::new((self.hosts(part).count(), Ok(()), Some(done))));
        for host in self.hosts(part) {
            let all = Arc::clone(&all);
            host.order(Order::Start(Box::new(move |started| {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let (waiting, outcome, done) = &mut *all;
                *waiting -= 1;
                if outcome.is_ok() {
                    *outcome = started;
                }
                if let Some(done) = done.take_if(|_| *waiting == 0) {
                    done(std::mem::replace(outcome, Ok(())));
                }
            })));
        }
    }

    /// Cuts a node of NATS off from the others, or connects it with them again.
    pub(super) fn cut_off(&self, node: usize, cut: bool) {
        if cut { self.nats.cut_off(node) } else { self.nats.rejoin(node) }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // All are asked to end before the first one is waited for.
        for host in self.hosts.values() {
            host.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        for host in self.hosts.values_mut() {
            if let Some(thread) = host.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Keys {
    /// Ports of a server, without a proxy: one, or those of all nodes.
    pub(super) fn ports(&self, server: Server) -> &[u16] {
        self.ports.get(&server).map_or(&[], Vec::as_slice)
    }

    /// The URL of the server with other ports in place of its own. Several are separated by commas.
    pub(super) fn through(&self, server: Server, ports: &[u16]) -> String {
        let own = match server {
            Server::Postgres => vec![self.postgres_url.clone()],
            Server::Nats => self.nats_urls.clone(),
            Server::S3 => self.ports(server).iter().map(|port| format!("http://127.0.0.1:{port}")).collect(),
        };
        let replaced = own.iter().zip(self.ports(server)).zip(ports).map(|((url, own), other)| {
            url.replace(&format!("127.0.0.1:{own}"), &format!("127.0.0.1:{other}"))
        });
        replaced.collect::<Vec<_>>().join(",")
    }
}

fn logs(dir: &Path) -> anyhow::Result<PathBuf> {
    let logs = dir.join("logs");
    std::fs::create_dir_all(&logs)?;
    Ok(logs)
}

/// What starts Postgres, also again on the same data and port.
fn postgres_starter(dir: &Path, port: u16, toolbox: &Toolbox) -> anyhow::Result<Start> {
    let (log_dir, account) = (logs(dir)?, Account::for_servers(DEFAULT_ACCOUNT)?);
    let binaries = toolbox.postgres(&mut |_| {})?;
    let dir = dir.join("postgres");
    let options = PostgresOptions { binaries, dir, log_dir, port, account, roles: Vec::new() };
    Ok(Box::new(move || Ok((servers::start_postgres(&options)?.0, None))))
}

fn s3_starter(dir: &Path, port: u16, toolbox: &Toolbox) -> anyhow::Result<Start> {
    let (log_dir, account) = (logs(dir)?, Account::for_servers(DEFAULT_ACCOUNT)?);
    let program = toolbox.weed(&mut |_| {})?;
    let options = S3Options { program, dir: dir.join("s3"), log_dir, port, account };
    Ok(Box::new(move || servers::start_s3(&options).map(|(s3, keys)| (s3, Some(keys))).map_err(Into::into)))
}

/// Clients reach its nodes through proxies only.
fn nats_cluster(dir: &Path, toolbox: &Toolbox) -> anyhow::Result<NatsCluster> {
    let (log_dir, account) = (logs(dir)?, Account::for_servers(DEFAULT_ACCOUNT)?);
    let (program, users) = (toolbox.nats_server(&mut |_| {})?, vec![NatsUser::unlimited("chaos")]);
    let options = NatsOptions { program, dir: dir.join(NATS_FOLDER), log_dir, port: 0, account, users };
    Ok(NatsCluster::plan(&options, NATS_NODES)?.without_discovery())
}

fn node_starter(cluster: &Arc<NatsCluster>, number: usize) -> Start {
    let cluster = Arc::clone(cluster);
    Box::new(move || Ok((cluster.start(number)?, None)))
}

impl Host {
    /// Starts a server in a thread of its own, and waits until it is ready.
    fn start(start: Start) -> anyhow::Result<(Self, String, Option<S3Keys>)> {
        let (orders, inbox) = channel();
        let (ready, known) = channel();
        let pid = Arc::new(AtomicU32::new(0));
        let known_pid = Arc::clone(&pid);
        let thread = std::thread::spawn(move || match start() {
            Ok((running, keys)) => {
                known_pid.store(running.pid(), Ordering::SeqCst);
                let _ = ready.send(Ok((running.url.clone(), keys)));
                obey(running, &inbox, &start, &known_pid);
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        });
        let (url, keys) = known.recv()??;
        Ok((Self { orders: Mutex::new(Some(orders)), pid, thread: Some(thread) }, url, keys))
    }

    fn order(&self, order: Order) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = orders.as_ref() {
            let _ = orders.send(order);
        }
    }
}

/// Until the orders end: then the server is ended.
fn obey(running: Running, orders: &Receiver<Order>, start: &Start, pid: &AtomicU32) {
    let mut running = Some(running);
    while let Ok(order) = orders.recv() {
        match order {
            Order::Stop(stop) => {
                pid.store(0, Ordering::SeqCst);
                if let Some(mut server) = running.take() {
                    end(&mut server, stop);
                }
            }
            Order::Start(done) => match start_patiently(start) {
                Ok((server, _)) => {
                    pid.store(server.pid(), Ordering::SeqCst);
                    running = Some(server);
                    done(Ok(()));
                }
                Err(error) => done(Err(error)),
            },
        }
    }
    if let Some(mut server) = running {
        server.stop();
    }
}

/// Several times, as a supervisor does: its disk may be full again at first.
fn start_patiently(start: &Start) -> anyhow::Result<(Running, Option<S3Keys>)> {
    for _ in 1..START_ATTEMPTS {
        if let Ok(started) = start() {
            return Ok(started);
        }
        std::thread::sleep(START_DELAY);
    }
    start()
}

fn end(server: &mut Running, stop: Stop) {
    match stop {
        Stop::Orderly => server.stop(),
        Stop::Immediate => {
            let _ = kill(Pid::from_raw(server.pid().cast_signed()), Signal::SIGQUIT);
            server.stop();
        }
        Stop::Kill => server.kill(),
    }
}
