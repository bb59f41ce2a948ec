//! `slipway up`: the servers and all services on this machine, as one tree of processes.

pub(crate) mod credentials;
pub(crate) mod down;
mod job_user;
mod lock;
mod nats;
mod options;
mod parts;
mod ports;
mod servers;
pub(crate) mod setup;
pub(crate) mod status;
mod supervise;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use slipway_registry::Switch;
use slipway_toolbox::{Toolbox, listeners, private, process};
use supervise::{Note, Supervised, supervise};

use crate::commands::backup;
use crate::endpoints::{Endpoints, without_password};
use crate::installation::Servers;
use crate::output::{self, errln, outln};
use crate::services::{SERVICES, Shared, Tokens};
use crate::token;
use credentials::Credentials;
pub(crate) use options::UpOptions;
use parts::Part;
use ports::Ports;
use status::PartStatus;

/// Everything has to be ready within this time.
const READY_TIMEOUT_S: u64 = 120;
const POLL_MS: u64 = 30;
/// A service drains its requests and flushes within this time; then it is ended by force.
const STOP_LIMIT: Duration = Duration::from_secs(18);

pub(crate) fn run(data_dir: &Path, options: &UpOptions) -> anyhow::Result<ExitCode> {
    private::only_for_owner();
    match private::folder(data_dir) {
        // Another account's, such as a volume that is shared by a group. What is made in it is closed all the
        // same.
        Err(error) if data_dir.is_dir() => errln!("warning: {error}"),
        made => made.with_context(|| format!("cannot create the data directory {}", data_dir.display()))?,
    }
    let data_dir = std::fs::canonicalize(data_dir)?;
    close_to_others(&data_dir)?;
    private::folder(&data_dir.join("logs"))?;
    // The platform does not depend on a reader of its status lines.
    output::outlive_reader();
    if options.detach {
        return detach(&data_dir);
    }
    let lock = lock::take(&data_dir)?;
    let stop = stop_on_signals()?;
    let started = Instant::now();
    // What an earlier platform wrote is not true any more.
    let _ = std::fs::remove_file(Endpoints::path(&data_dir));
    let platform = Platform::start(&data_dir, options, &stop);
    let outcome = platform.and_then(|mut platform| {
        let outcome = platform.wait_until_ready(&stop).map(|()| {
            platform.announce(started.elapsed());
            platform.watch(&stop);
        });
        platform.stop();
        outcome
    });
    drop(lock);
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Closes what an earlier release left open to other users of the machine. The folder itself is closed, so
/// that a file which cannot be is no reason not to start.
fn close_to_others(data_dir: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(data_dir)?.flatten() {
        if let Err(error) = private::close_tree(&entry.path()) {
            errln!("warning: {error}");
        }
    }
    Ok(())
}

/// Runs ourselves without `--detach` in a session of its own, and waits until it is ready.
fn detach(data_dir: &Path) -> anyhow::Result<ExitCode> {
    if let Some(pid) = lock::holder(data_dir)? {
        bail!("a platform is already running on {} (process {pid})", data_dir.display());
    }
    let log_path = data_dir.join("logs/up.log");
    let log =
        std::fs::File::create(&log_path).with_context(|| format!("cannot make {}", log_path.display()))?;
    let _ = std::fs::remove_file(Endpoints::path(data_dir));
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1).filter(|argument| argument != "--detach"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    process::own_session(&mut command);
    let mut child = command.spawn().context("cannot start in the background")?;
    let mut shown = 0;
    loop {
        let text = std::fs::read_to_string(&log_path).unwrap_or_default();
        output::block(text.get(shown..).unwrap_or_default());
        shown = text.len();
        if Endpoints::path(data_dir).exists() && lock::holder(data_dir)?.is_some() {
            outln!("running in the background; `slipway --data-dir {} down` stops it", data_dir.display());
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the platform ended while it started ({status}); its log is {}", log_path.display());
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}

/// A flag that SIGINT and SIGTERM set.
fn stop_on_signals() -> anyhow::Result<Receiver<()>> {
    let (sender, receiver) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            let _ = sender.send(());
            std::future::pending::<()>().await;
        });
    })?;
    Ok(receiver)
}

/// The tree of processes.
struct Platform {
    data_dir: PathBuf,
    endpoints: Endpoints,
    servers: Vec<Supervised>,
    services: Vec<Supervised>,
    notes: Receiver<Note>,
    /// Whether callers need a token.
    guarded: bool,
}

impl Platform {
    fn start(data_dir: &Path, options: &UpOptions, stop: &Receiver<()>) -> anyhow::Result<Self> {
        let toolbox = Toolbox::from_env()?;
        let mut progress = |message: &str| outln!("{message}");
        let onnxruntime = toolbox.onnxruntime_library(&mut progress)?;
        let ports = Ports::choose(options.ports, data_dir)?;
        let (sender, notes) = channel();
        let begun = servers::start(&toolbox, data_dir, &ports, options, &sender)?;
        let mut platform = Self {
            data_dir: data_dir.to_path_buf(),
            endpoints: endpoints(&ports, &begun.credentials),
            servers: begun.supervised,
            services: Vec::new(),
            notes,
            guarded: false,
        };
        if stop.try_recv().is_ok() {
            platform.stop();
            bail!("stopped while starting");
        }
        let shared = Shared {
            data_dir: data_dir.to_path_buf(),
            onnxruntime,
            otlp_endpoint: options.otlp_endpoint.clone(),
            log: options.log.clone(),
            log_format: options.log_format,
            job_user: job_user::find(&options.run_as)?,
            tokens: match options.auth {
                Switch::On => Some(Tokens::new(token::administrators(data_dir)?)?),
                Switch::Off => None,
            },
        };
        platform.guarded = shared.tokens.is_some();
        begun.credentials.write(data_dir)?;
        if let Some(place) = &options.restore
            && let Err(error) = restore(&begun.credentials, place, data_dir)
        {
            platform.stop();
            return Err(error);
        }
        for part in parts::all(&ports, &begun.credentials, &shared) {
            match start_service(part, data_dir, sender.clone()) {
                Ok(service) => platform.services.push(service),
                Err(error) => {
                    platform.stop();
                    return Err(error);
                }
            }
        }
        Ok(platform)
    }

    /// Asks every part until all are ready. A deployment whose version does not load is to be mended while
    /// the platform runs.
    fn wait_until_ready(&mut self, stop: &Receiver<()>) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let started = Instant::now();
        loop {
            self.take_notes();
            let mut parts = runtime.block_on(status::probe_all(&self.endpoints));
            parts.iter_mut().for_each(|part| self.doubt(part));
            let missing: Vec<String> = parts
                .iter()
                .filter(|part| part.state != "ready" && !part.is_degraded())
                .map(|part| {
                    format!("  {}: {} (log: {})", part.part, part.state, self.log_of(&part.process).display())
                })
                .collect();
            if missing.is_empty() {
                for part in parts.iter().filter(|part| part.is_degraded()) {
                    errln!("warning: {} is {}", part.part, part.state);
                }
                return self.endpoints.write(&self.data_dir);
            }
            if stop.try_recv().is_ok() {
                bail!("stopped while starting");
            }
            if started.elapsed() > Duration::from_secs(READY_TIMEOUT_S) {
                bail!("not everything was ready after {READY_TIMEOUT_S} s:\n{}", missing.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
    }

    /// What answers at the address of a part may be another program that took the port, while ours cannot
    /// listen.
    fn doubt(&self, part: &mut PartStatus) {
        if part.state != "ready" && !part.is_degraded() {
            return;
        }
        let Some(pid) = self.endpoints.pids.get(&part.process) else { return };
        let Some(port) = status::port_of(&part.address) else { return };
        // A process that has just ended cannot be looked at; it is started again and asked again.
        if listeners(*pid).is_ok_and(|found| found.iter().all(|address| address.port() != port)) {
            part.state = format!("does not listen on port {port}: another program may use it");
        }
    }

    fn log_of(&self, process: &str) -> PathBuf {
        self.data_dir.join("logs").join(format!("{}.log", process.replace('_', "-")))
    }

    fn announce(&self, took: Duration) {
        let rows: Vec<Vec<String>> = self
            .endpoints
            .all()
            .iter()
            .map(|endpoint| vec![endpoint.part.to_owned(), without_password(endpoint.url)])
            .collect();
        output::line("");
        output::table(&["PART", "ADDRESS"], &rows);
        output::line("");
        outln!("ready after {:.1} s; data in {}", took.as_secs_f64(), self.data_dir.display());
        outln!("addresses for scripts: {}", Endpoints::path(&self.data_dir).display());
        if self.guarded {
            let path = token::path(&self.data_dir);
            output::line("");
            outln!("access control is on: clients of every service require a token (docs/access.md)");
            outln!("  this command line uses the administrator's token from {}", path.display());
            outln!(
                "  MLflow: export MLFLOW_TRACKING_URI={} MLFLOW_TRACKING_TOKEN=$(cat {})",
                self.endpoints.url("registry").unwrap_or_default(),
                path.display()
            );
            outln!(
                "  other clients: slipway tokens create NAME --principal WHO; slipway grants set WHO editor"
            );
        }
    }

    /// Until the stop: children are kept running by their threads; what happens to them is printed and
    /// recorded.
    fn watch(&mut self, stop: &Receiver<()>) {
        while stop.recv_timeout(Duration::from_millis(200)).is_err() {
            if self.take_notes()
                && let Err(error) = self.endpoints.write(&self.data_dir)
            {
                errln!("slipway: {error:#}");
            }
        }
        outln!("stopping");
    }

    /// Whether anything happened.
    fn take_notes(&mut self) -> bool {
        let mut any = false;
        for note in self.notes.try_iter() {
            any = true;
            match note {
                Note::Started { name, pid } => {
                    self.endpoints.pids.insert(name.replace('-', "_"), pid);
                }
                Note::Ended { name, how } => outln!("{name} ended ({how}); restarting it"),
                Note::StartFailed { name, why } => outln!("{name} does not start: {why}; retrying"),
            }
        }
        any
    }

    /// Services first, all at once; then the servers that they stand on.
    fn stop(&mut self) {
        for group in [&mut self.services, &mut self.servers] {
            group.iter().for_each(Supervised::stop);
            group.drain(..).for_each(Supervised::join);
        }
        let _ = std::fs::remove_file(Endpoints::path(&self.data_dir));
    }
}

/// Restores a backup into the servers, while no service runs.
fn restore(credentials: &Credentials, place: &str, data_dir: &Path) -> anyhow::Result<()> {
    backup::restore_into(Servers::of(credentials), place, data_dir)
        .with_context(|| format!("cannot restore {place}"))
}

/// Standard ports, by what listens on them.
pub(crate) fn standard_ports() -> impl Iterator<Item = (&'static str, u16)> {
    ports::all().map(|port| (port.title, port.number))
}

fn endpoints(ports: &Ports, credentials: &Credentials) -> Endpoints {
    let listeners = SERVICES.iter().flat_map(|service| service.listeners).map(|listener| &listener.port);
    Endpoints {
        services: listeners.map(|port| (port.key.to_owned(), parts::url(ports.of(port)))).collect(),
        nats: credentials.nats_url.clone(),
        s3: credentials.s3_endpoint.clone(),
        postgres: credentials.postgres_url.clone(),
        pids: std::collections::BTreeMap::new(),
    }
}

/// A service as a child process.
struct ServiceChild(std::process::Child);

impl supervise::Child for ServiceChild {
    fn pid(&self) -> u32 {
        self.0.id()
    }
    fn ended(&mut self) -> Option<String> {
        self.0.try_wait().ok().flatten().map(|status| status.to_string())
    }
    fn stop(&mut self) {
        process::stop(&mut self.0, nix::sys::signal::Signal::SIGTERM, STOP_LIMIT);
    }
}

fn start_service(part: Part, data_dir: &Path, notes: Sender<Note>) -> anyhow::Result<Supervised> {
    let log = data_dir.join("logs").join(format!("{}.log", part.name));
    let program = std::env::current_exe().context("cannot find our own program")?;
    let name = part.name;
    let supervised = supervise(name, notes, move || {
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = Command::new(&program);
        for variable in parts::NOT_INHERITED {
            command.env_remove(variable);
        }
        command.args(["service", part.name]).envs(part.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A Ctrl-C at the terminal is for us; services are stopped in order.
        process::own_session(&mut command);
        process::die_with_parent(&mut command);
        Ok(ServiceChild(command.spawn()?))
    });
    supervised.with_context(|| format!("cannot start {name}"))
}
