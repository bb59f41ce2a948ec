//! What images are made of: version, commit and time.

use std::process::Command;

use anyhow::{Context as _, bail};
use chrono::{DateTime, SecondsFormat};

use crate::build::root;

/// Time of creation in seconds since 1970, for reproducible builds:
/// <https://reproducible-builds.org/specs/source-date-epoch/>.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What images are made of.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Version of the workspace.
    pub(crate) version: String,
    /// Commit; with `-dirty` if files differ from it.
    pub(crate) revision: String,
    /// Time of the commit, as RFC 3339.
    pub(crate) created: String,
}

impl Source {
    /// That of this checkout. The time is SOURCE_DATE_EPOCH if that is set.
    pub(crate) fn of_checkout() -> anyhow::Result<Self> {
        let commit = git(&["rev-parse", "HEAD"])?;
        let is_dirty = !git(&["status", "--porcelain"])?.is_empty();
        let seconds = match std::env::var(EPOCH) {
            Ok(seconds) => seconds,
            Err(_) => git(&["log", "-1", "--format=%ct"])?,
        };
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: if is_dirty { format!("{commit}-dirty") } else { commit },
            created: time(&seconds)?,
        })
    }
}

fn time(seconds: &str) -> anyhow::Result<String> {
    let parsed = seconds.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let time =
        parsed.with_context(|| format!("{EPOCH}: `{seconds}` is not a number of seconds since 1970"))?;
    Ok(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

fn git(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").args(arguments).current_dir(root()).output();
    let output = output.context("cannot start git, which names the commit of the images")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_utc_and_a_wrong_one_is_named() {
        assert_eq!(time("1700000000").unwrap(), "2023-11-14T22:13:20Z");
        let error = time("yesterday").unwrap_err().to_string();
        assert!(error.contains("SOURCE_DATE_EPOCH: `yesterday`"), "{error}");
    }
}
