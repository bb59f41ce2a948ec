//! The guard of an attempt: this program again, as a process of its own that ends what belongs to the attempt
//! when its agent cannot: when the agent has died, and when it has not renewed its lease in time, e.g. since
//! it was stopped or hangs. After that another attempt may start anywhere.
//!
//! The agent tells it on its input, one line each: `lease MS`, the moment at which everything is to be ended
//! by the monotonic clock, which both processes share; and `group ID`, the process group of the command, or
//! 0. The end of the input is the end of the agent.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use slipway_job_processes::end_attempt_blocking;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use crate::Config;

/// First argument of this mode, followed by the agent's process id, the job and the attempt.
pub(crate) const ARGUMENT: &str = "guard";
/// This very program, also where its file has been replaced since.
const OWN_PROGRAM: &str = "/proc/self/exe";
const RESTART_DELAY_MS: u64 = 50;
const LINE_BYTES: usize = 256;
/// What stops the services on a terminal or a machine leaves the agent time to save a checkpoint.
const IGNORED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// The monotonic clock of the machine, milliseconds; all of its processes have the same.
pub(crate) fn monotonic_ms() -> u64 {
    // The clock is always there.
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return u64::MAX };
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec()) * 1_000 + part(now.tv_nsec()) / 1_000_000
}

/// What the guard is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// When everything is to be ended, by [`monotonic_ms`].
    pub(crate) end_at_ms: u64,
    /// Process group of the command; 0 where it does not run.
    pub(crate) group: i32,
}

impl Orders {
    fn lines(self) -> String {
        format!("lease {}\ngroup {}\n", self.end_at_ms, self.group)
    }

    /// These orders after a line; one that cannot be read changes nothing.
    fn after(mut self, line: &str) -> Self {
        match line.split_once(' ') {
            Some(("lease", value)) => self.end_at_ms = value.parse().unwrap_or(self.end_at_ms),
            Some(("group", value)) => self.group = value.parse().unwrap_or(self.group),
            _ => {}
        }
        self
    }
}

/// A guard that has its first orders.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    input: ChildStdin,
}

impl Guard {
    /// Starts a guard. Its environment is empty: it carries no mark of the job, which would end it with the
    /// command.
    ///
    /// # Errors
    /// The system has no process or pipe left.
    pub(crate) async fn start(config: &Config, orders: Orders) -> anyhow::Result<Self> {
        let own = Pid::this().to_string();
        let mut child = Command::new(OWN_PROGRAM)
            .args(&config.own_arguments)
            .args([ARGUMENT, &own, &config.job_id, &config.attempt.to_string()])
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the attempt's guard")?;
        let mut input = child.stdin.take().context("the attempt's guard has no input")?;
        input.write_all(orders.lines().as_bytes()).await.context("the attempt's guard does not listen")?;
        Ok(Self { child, input })
    }

    /// Tells the guard what is ordered, for as long as this is polled; one that ends is replaced.
    pub(crate) async fn keep(self, config: Config, mut orders: watch::Receiver<Orders>) {
        let Self { mut child, mut input } = self;
        loop {
            let told = async {
                loop {
                    let now = *orders.borrow_and_update();
                    let written = input.write_all(now.lines().as_bytes()).await;
                    if written.is_err() || orders.changed().await.is_err() {
                        return std::future::pending::<()>().await;
                    }
                }
            };
            tokio::select! {
                status = child.wait() => {
                    tracing::warn!(?status, "the attempt's guard ended; another one starts");
                }
                () = told => {}
            }
            let started = loop {
                tokio::time::sleep(Duration::from_millis(RESTART_DELAY_MS)).await;
                let now = *orders.borrow_and_update();
                match Self::start(&config, now).await {
                    Ok(started) => break started,
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "no guard starts; retrying"),
                }
            };
            (child, input) = (started.child, started.input);
        }
    }
}

/// The guard itself. Returns when the attempt's processes have ended.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().and_then(|text| text.into_string().ok());
    let agent = next().and_then(|text| text.parse().ok()).map(Pid::from_raw);
    let job_id = next();
    let attempt = next().and_then(|text| text.parse().ok());
    let (Some(agent), Some(job_id), Some(attempt)) = (agent, job_id, attempt) else {
        eprintln!("slipway-agent {ARGUMENT}: expected an agent's process id, a job and an attempt");
        return ExitCode::from(crate::USAGE_EXIT_CODE);
    };
    let mut ignored = SigSet::empty();
    IGNORED.into_iter().for_each(|signal| ignored.add(signal));
    if let Err(error) = ignored.thread_block() {
        eprintln!("slipway-agent {ARGUMENT}: signals cannot be ignored: {error}");
    }
    let (orders, is_late) = watch_over();
    if is_late {
        eprintln!("slipway-agent {ARGUMENT}: the lease of attempt {attempt} was not renewed: SIGKILL");
        if Pid::parent() == agent {
            // One that has ended in the meantime is no error.
            let _ = kill(agent, Signal::SIGKILL);
        }
    }
    if orders.group > 0 {
        let _ = killpg(Pid::from_raw(orders.group), Signal::SIGKILL);
    }
    // An agent that has closed its input ends by itself.
    match end_attempt_blocking(&job_id, attempt, is_late) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slipway-agent {ARGUMENT}: processes of the attempt may be left: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads orders until the input ends or they are due; whether they are due.
fn watch_over() -> (Orders, bool) {
    let input = std::io::stdin();
    let mut orders = Orders { end_at_ms: u64::MAX, group: 0 };
    let mut text = String::new();
    loop {
        let left_ms = orders.end_at_ms.saturating_sub(monotonic_ms());
        if left_ms == 0 {
            return (orders, true);
        }
        let timeout = PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, timeout) {
            Ok(0) => continue,
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return (orders, false),
        }
        let mut buffer = [0; LINE_BYTES];
        match input.lock().read(&mut buffer) {
            Ok(0) => return (orders, false),
            Ok(length) => text.push_str(&String::from_utf8_lossy(&buffer[..length])),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return (orders, false),
        }
        while let Some((line, rest)) = text.split_once('\n') {
            orders = orders.after(line);
            text = rest.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        let orders = Orders { end_at_ms: 123, group: 7 };
        let read = orders.lines().lines().fold(Orders::default(), Orders::after);
        assert_eq!(read, orders);
        assert_eq!(orders.after("lease soon").after("").after("rubbish 7"), orders);
    }

    #[test]
    fn the_clock_goes_on() {
        let before = monotonic_ms();
        std::thread::sleep(Duration::from_millis(5));
        assert!(monotonic_ms() > before);
    }
}
