//! Further replicas of services that a platform runs, each with the settings of the first and addresses of
//! its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use slipway_toolbox::servers::free_port;

const READY_LIMIT: Duration = Duration::from_secs(60);

/// A replica; ended when dropped.
#[derive(Debug)]
pub(super) struct Replica {
    child: Child,
    /// URL of its REST API.
    pub(super) url: String,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Replica {
    /// Starts another replica of the service that process `first` is.
    pub(super) async fn like(first: u32, scratch: &Path, number: usize) -> anyhow::Result<Self> {
        let read = |file: &str| std::fs::read(format!("/proc/{first}/{file}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let arguments: Vec<String> =
            read("cmdline")?.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(text).collect();
        let mut environment: BTreeMap<String, String> = read("environ")?
            .split(|byte| *byte == 0)
            .filter_map(|pair| text(pair).split_once('=').map(|(name, value)| (name.into(), value.into())))
            .collect();
        let own = || free_port().map(|port| format!("127.0.0.1:{port}"));
        let listen = own()?;
        environment.insert("SLIPWAY_LISTEN".to_owned(), listen.clone());
        for variable in ["SLIPWAY_LISTEN_GRPC", "SLIPWAY_LISTEN_METRICS"] {
            if environment.contains_key(variable) {
                environment.insert(variable.to_owned(), own()?);
            }
        }
        let folder = scratch.join(format!("replica-{first}-{number}"));
        std::fs::create_dir_all(&folder)?;
        if environment.contains_key("SLIPWAY_CACHE_DIR") {
            let cache = folder.join("cache").display().to_string();
            environment.insert("SLIPWAY_CACHE_DIR".to_owned(), cache);
        }
        environment.remove("SLIPWAY_REPLICA_ID");
        let log = std::fs::File::create(folder.join("log"))?;
        let program = std::fs::read_link(format!("/proc/{first}/exe"))?;
        let child = Command::new(program)
            .args(arguments.iter().skip(1))
            .env_clear()
            .envs(&environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start a further replica")?;
        let replica = Self { child, url: format!("http://{listen}") };
        replica.ready().await?;
        Ok(replica)
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let (started, client) = (Instant::now(), reqwest::Client::new());
        while started.elapsed() < READY_LIMIT {
            let answer = client.get(format!("{}/readyz", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("a further replica is not ready within {} s", READY_LIMIT.as_secs())
    }
}
