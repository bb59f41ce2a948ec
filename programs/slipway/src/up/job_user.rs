//! The account that training jobs run as where root starts the platform.

use anyhow::{Context as _, ensure};
use nix::unistd::geteuid;
use slipway_toolbox::Account;

const VARIABLE: &str = "SLIPWAY_JOB_USER";
const DEFAULT: &str = "slipway-jobs";

/// The configured account, or if we are root: the system account `slipway-jobs`, which is created if it does
/// not exist. `servers` is the account of the servers, whose files and processes are no business of jobs.
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
    Account::ensure(&name).with_context(|| format!("jobs need an account of their own ({VARIABLE})"))?;
    Ok(Some(name))
}
