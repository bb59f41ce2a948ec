//! The commands, except for the process that owns a cluster.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slipway_kubernetes_testkit::{
    Cluster, Error, Level, Packages, Programs, end_orphan, missing, remove_orphans,
};

use super::keeper;
use crate::progress::{seconds, step};

/// A busy machine may take a while to end containers.
const DOWN_LIMIT: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn up(folder: &Path, level: Level, audit: bool, name: &str) -> anyhow::Result<()> {
    if let Some(reason) = missing(level) {
        return Err(Error::Missing { level, reason }.into());
    }
    step(&format!("Kubernetes at level {level}"), || keeper::start(level, audit, name))?;
    status(folder)
}

pub(super) fn down(folder: &Path) -> anyhow::Result<()> {
    let begin = Instant::now();
    remove_orphans()?;
    if !folder.exists() {
        println!("no cluster in {}", folder.display());
        return Ok(());
    }
    if let Some(pid) = keeper::pid(folder) {
        kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("cannot end process {pid}"))?;
    }
    // The owner is gone in a moment, and its cluster ends; or it was gone, and we end the cluster here.
    while !end_orphan(folder)? {
        if begin.elapsed() > DOWN_LIMIT {
            bail!("the cluster in {} is still in use after {}", folder.display(), seconds(begin.elapsed()));
        }
        std::thread::sleep(PAUSE);
    }
    println!("ended after {}", seconds(begin.elapsed()));
    Ok(())
}

pub(super) fn status(folder: &Path) -> anyhow::Result<()> {
    let cluster = Cluster::attach(folder)?;
    println!("level       {}", cluster.level());
    println!("API server  {}", cluster.credentials().server);
    println!("kubeconfig  {}", cluster.kubeconfig().display());
    println!("logs        {}", folder.join("logs").display());
    for process in cluster.processes() {
        println!("process     {} {}", process.pid, process.program);
    }
    if cluster.level() > Level::Api {
        println!("\n{}", cluster.kubectl(&["get", "nodes"])?);
    }
    Ok(())
}

pub(super) fn run(folder: &Path, command: &[String]) -> anyhow::Result<()> {
    let cluster = Cluster::attach(folder)?;
    let [program, arguments @ ..] = command else { bail!("no command") };
    let status = cluster.command(program).args(arguments).status();
    let status = status.with_context(|| format!("cannot run `{program}`"))?;
    std::process::exit(status.code().unwrap_or(1))
}

pub(super) fn build() -> anyhow::Result<()> {
    step("programs of Kubernetes", || {
        if let Some(reason) = missing(Level::Api) {
            return Err(Error::Missing { level: Level::Api, reason }.into());
        }
        let programs = Programs::ensure(&mut |message| eprintln!("    {message}"))?;
        println!("{}", programs.folder().display());
        Ok(())
    })?;
    step("packages of the node", || {
        if let Some(reason) = missing(Level::Node) {
            println!("left out: level node: {reason}");
            return Ok(());
        }
        Packages::ensure(&mut |message| eprintln!("    {message}"))?;
        Ok(())
    })
}
