//! A server under load: Slipway's with a NATS for its records, or Triton.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use slipway_toolbox::servers::{self, NatsOptions, NatsUser, Running, free_port};
use slipway_toolbox::{Account, DEFAULT_ACCOUNT, Toolbox};

use crate::bench::cpu;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A server that answers; dropped, it ends.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) rest: u16,
    pub(super) grpc: u16,
    /// From the start of the process to the first prediction.
    pub(super) cold_start_ms: f64,
    /// What callers show it.
    pub(super) token: Option<&'static str>,
    child: Child,
    /// Takes the records.
    _nats: Option<Running>,
}

/// Triton, where it is installed.
pub(super) struct Peer {
    pub(super) server: Server,
}

/// How a server differs from one on the cache alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Setup {
    /// A folder of models, in place of the cache's tables.
    pub(super) models: Option<PathBuf>,
    /// Further settings.
    pub(super) environment: Vec<(&'static str, String)>,
    /// What callers have to show.
    pub(super) token: Option<&'static str>,
}

/// What a server listens on.
#[derive(Debug, Clone, Copy)]
struct Ports {
    rest: u16,
    grpc: u16,
}

impl Server {
    /// Starts `slipway-serving` on the cache of `folder`, with records of every request going to NATS.
    pub(super) fn start(program: &Path, folder: &Path, setup: &Setup) -> anyhow::Result<Self> {
        let toolbox = Toolbox::from_env()?;
        let nats = servers::start_nats(&NatsOptions {
            program: toolbox.nats_server(&mut |_: &str| {})?,
            dir: folder.join("nats"),
            log_dir: folder.to_owned(),
            port: free_port()?,
            account: Account::for_servers(DEFAULT_ACCOUNT)?,
            users: vec![NatsUser::unlimited("bench")],
        })?
        .0;
        let (rest, grpc) = (free_port()?, free_port()?);
        let mut command = Command::new(program);
        command
            .env("SLIPWAY_LOG", "warn")
            .env("SLIPWAY_LISTEN", format!("127.0.0.1:{rest}"))
            .env("SLIPWAY_LISTEN_GRPC", format!("127.0.0.1:{grpc}"))
            .env("SLIPWAY_LISTEN_METRICS", format!("127.0.0.1:{}", free_port()?))
            .env("SLIPWAY_CACHE_DIR", folder.join("cache"))
            .env("SLIPWAY_ONNXRUNTIME_LIB", toolbox.onnxruntime_library(&mut |_: &str| {})?)
            .env("SLIPWAY_NATS_URL", &nats.url)
            .env("SLIPWAY_S3_ENDPOINT", "http://127.0.0.1:1")
            .env("SLIPWAY_S3_BUCKET", "none")
            .env("SLIPWAY_S3_ACCESS_KEY", "none")
            .env("SLIPWAY_S3_SECRET_KEY", "none");
        if let Some(models) = &setup.models {
            command.env("SLIPWAY_SERVING_MODEL_DIR", models);
        }
        command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
        Self::spawn("Slipway", &mut command, folder, Ports { rest, grpc }, setup.token, Some(nats))
    }

    fn spawn(
        name: &'static str,
        command: &mut Command,
        folder: &Path,
        ports: Ports,
        token: Option<&'static str>,
        nats: Option<Running>,
    ) -> anyhow::Result<Self> {
        let Ports { rest, grpc } = ports;
        let body = std::fs::read(folder.join("bodies/perceptron.json"))?;
        let log = File::create(folder.join("server.log"))?;
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot start {name}"))?;
        let mut server = Self { name, rest, grpc, cold_start_ms: 0.0, token, child, _nats: nats };
        while !answers(rest, token, &body) {
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended with {status}; see {}", folder.join("server.log").display());
            }
            if started.elapsed() > START_TIMEOUT {
                bail!("{name} did not answer in time; see {}", folder.join("server.log").display());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        server.cold_start_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(server)
    }

    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        Ok(cpu::usage(&[self.child.id()])?.cpu_seconds)
    }

    /// Proportional set size.
    pub(super) fn memory_bytes(&self) -> anyhow::Result<f64> {
        Ok(cpu::usage(&[self.child.id()])?.memory_bytes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Starts Triton with the same models and dynamic batching; `None` where there is no `tritonserver` on
    /// PATH.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Option<Self>> {
        if Command::new("tritonserver").arg("--help").output().is_err() {
            eprintln!("==> no `tritonserver` on PATH: no peer is measured");
            return Ok(None);
        }
        let repository = folder.join("repository");
        for model in ["perceptron", "trees", "encoder", "linear"] {
            std::fs::create_dir_all(repository.join(model).join("1"))?;
            let from = folder.join("models").join(format!("{model}.onnx"));
            std::fs::copy(from, repository.join(model).join("1/model.onnx"))?;
            let config = "backend: \"onnxruntime\"\nmax_batch_size: 32\ndynamic_batching {}\n";
            std::fs::write(repository.join(model).join("config.pbtxt"), config)?;
        }
        let (rest, grpc) = (free_port()?, free_port()?);
        let mut command = Command::new("tritonserver");
        command.arg("--model-repository").arg(&repository).args([
            format!("--http-port={rest}"),
            format!("--grpc-port={grpc}"),
            "--allow-metrics=false".to_owned(),
        ]);
        let server = Server::spawn("Triton", &mut command, folder, Ports { rest, grpc }, None, None)?;
        Ok(Some(Self { server }))
    }
}

/// Whether the server answers a prediction with 200.
fn answers(port: u16, token: Option<&str>, body: &[u8]) -> bool {
    let asked = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(
            stream,
            "POST /v2/models/perceptron/infer HTTP/1.1\r\nhost: localhost\r\nconnection: \
             close\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            token.unwrap_or("none"),
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    asked().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}
