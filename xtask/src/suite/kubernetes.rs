//! The Kubernetes of the tests: built while cargo compiles, and left out where it cannot run.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::bail;
use slipway_kubernetes_testkit::{Level, OFF, Packages, Programs, REQUIRED_LEVEL, missing};

use crate::progress::seconds;

/// Kubernetes, being built by a thread.
pub(super) struct Preparation(JoinHandle<Outcome>);

/// What this machine can run, or why not.
#[derive(Debug)]
struct Outcome {
    /// For all levels.
    programs: Result<(), String>,
    /// For level `node`, in addition.
    packages: Result<(), String>,
    took: Duration,
}

impl Preparation {
    /// Begins, so that a build of some minutes happens while cargo compiles.
    pub(super) fn begin() -> Self {
        Self(std::thread::spawn(prepare))
    }

    /// The highest level that can run. Prints those that are left out.
    ///
    /// # Errors
    /// The environment requires a level that is left out.
    pub(super) fn finish(self) -> anyhow::Result<Option<Level>> {
        eprintln!("==> Kubernetes for the tests");
        let Ok(outcome) = self.0.join() else { bail!("the build of Kubernetes panicked") };
        let highest = outcome.highest();
        if let Some(line) = outcome.left_out() {
            println!("{line}");
        }
        if let Some(required) = required().filter(|level| level != OFF) {
            let level: Level =
                required.parse().map_err(|error| anyhow::anyhow!("{REQUIRED_LEVEL}: {error}"))?;
            if highest < Some(level) {
                bail!("{REQUIRED_LEVEL} requires level {level} of the Kubernetes tests, which is left out");
            }
        }
        eprintln!("    prepared in {}", seconds(outcome.took));
        Ok(highest)
    }
}

impl Outcome {
    fn highest(&self) -> Option<Level> {
        match (&self.programs, &self.packages) {
            (Err(_), _) => None,
            (Ok(()), Err(_)) => Some(Level::Control),
            (Ok(()), Ok(())) => Some(Level::Node),
        }
    }

    fn left_out(&self) -> Option<String> {
        let (levels, reason) = match (&self.programs, &self.packages) {
            (Err(reason), _) => ("levels api, control and node", reason),
            (Ok(()), Err(reason)) => ("level node", reason),
            (Ok(()), Ok(())) => return None,
        };
        // One line, also for the output of a command that failed.
        let reason = reason.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        Some(format!("left out: {levels} of the Kubernetes tests: {reason}"))
    }
}

fn required() -> Option<String> {
    std::env::var(REQUIRED_LEVEL).ok().filter(|text| !text.is_empty())
}

fn prepare() -> Outcome {
    let begin = Instant::now();
    if required().is_some_and(|level| level == OFF) {
        let reason = || Err(format!("{REQUIRED_LEVEL} is `{OFF}`"));
        return Outcome { programs: reason(), packages: reason(), took: Duration::ZERO };
    }
    let programs = match missing(Level::Api) {
        Some(reason) => Err(reason),
        None => Programs::ensure(&mut |_| {}).map(drop).map_err(|error| error.to_string()),
    };
    let packages = match missing(Level::Node) {
        Some(reason) => Err(reason),
        None => Packages::ensure(&mut |_| {}).map(drop).map_err(|error| error.to_string()),
    };
    Outcome { programs, packages, took: begin.elapsed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(programs: Result<(), &str>, packages: Result<(), &str>) -> Outcome {
        let owned = |result: Result<(), &str>| result.map_err(str::to_owned);
        Outcome { programs: owned(programs), packages: owned(packages), took: Duration::ZERO }
    }

    #[test]
    fn levels_that_are_left_out_are_named_in_one_line_with_the_reason() {
        let complete = outcome(Ok(()), Ok(()));
        assert_eq!((complete.highest(), complete.left_out()), (Some(Level::Node), None));
        let user = outcome(Ok(()), Err("it requires root"));
        assert_eq!(user.highest(), Some(Level::Control));
        assert_eq!(
            user.left_out().unwrap(),
            "left out: level node of the Kubernetes tests: it requires root"
        );
        let offline = outcome(Err("`go build` failed:\n  proxy unreachable"), Ok(()));
        assert_eq!(offline.highest(), None);
        assert_eq!(
            offline.left_out().unwrap(),
            "left out: levels api, control and node of the Kubernetes tests: `go build` failed:; \
             proxy unreachable"
        );
    }
}
