//! The account that training jobs run as where root starts the platform.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use nix::unistd::{User, geteuid};

const VARIABLE: &str = "SLIPWAY_JOB_USER";
const DEFAULT: &str = "slipway-jobs";

/// The configured account, or if we are root: the system account `slipway-jobs`, which is created if it does not exist. `servers` is the
/// account of the servers, whose files and processes are no business of jobs.
///
/// # Errors
/// It is that of the servers, or it does not exist and cannot be created.
pub(crate) fn find(servers: &str) -> anyhow::Result<Option<String>> {
    let chosen = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    if !geteuid().is_root() {
        return Ok(chosen);
    }
    let name = chosen.unwrap_or_else(|| DEFAULT.to_owned());
    ensure!(name != servers, "jobs cannot run as `{name}`, the account of the servers ({VARIABLE})");
    if User::from_name(&name)?.is_none() {
        create(&name).with_context(|| format!("the account of jobs `{name}` ({VARIABLE}) does not exist"))?;
    }
    Ok(Some(name))
}

/// With `useradd` of the shadow tools, or `adduser` of BusyBox.
fn create(name: &str) -> anyhow::Result<()> {
    let useradd = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"];
    let adduser = ["adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin"];
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut failures = Vec::new();
    for command in [&useradd[..], &adduser[..]] {
        let ended = Command::new(command[0])
            .args(&command[1..])
            .arg(name)
            .env("PATH", &path)
            .stdin(Stdio::null())
            .output();
        match ended {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => failures.push(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => failures.push(format!("{}: {error}", command[0])),
        }
    }
    // Two platforms may create it at the same time.
    ensure!(User::from_name(name)?.is_some(), "it cannot be created ({})", failures.join("; "));
    Ok(())
}
