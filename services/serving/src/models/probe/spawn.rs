//! The parent's side: start the child, read its answer, and end it when its time is over.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::job::{ARGUMENT, Answer, Job, Line};
use super::record::Observed;

/// This program, also after its file was replaced.
const PROGRAM: &str = "/proc/self/exe";
/// Longest answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How often a child that has nothing more to say is looked at until it has ended.
const END_INTERVAL: Duration = Duration::from_millis(1);
/// Variables that a child gets: where libraries are, and which GPUs. No other: some hold secrets.
const KEPT_VARIABLES: [&str; 4] = ["LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "TZ"];

/// Runs a child to its end. It blocks, and the thread has to live as long as the child.
///
/// # Errors
/// It does not start.
pub(super) fn observe(job: &Job, timeout: Duration) -> io::Result<Observed> {
    let deadline = Instant::now() + timeout;
    let mut child = start(job)?;
    let mut written = Vec::new();
    let read = child.stdout.take().map_or(Ok(()), |output| read(output, deadline, &mut written));
    let ended = match read {
        Ok(()) => wait(&mut child, deadline)?,
        Err(_) => None,
    };
    let last = last_line(&written);
    let observed = match (ended, read) {
        (Some(status), _) => judge(status, last.as_ref()),
        (None, Err(error)) if error.kind() != io::ErrorKind::TimedOut => Observed::Broken(error.to_string()),
        (None, _) => Observed::Hung(timeout.as_secs()),
    };
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(match (observed, last) {
        (passed @ Observed::Passed(_), _) => passed,
        // The load itself went well.
        (_, Some(Line::Trying(place))) => Observed::EndedByEmpty(place),
        (observed, _) => observed,
    })
}

fn last_line(written: &[u8]) -> Option<Line> {
    serde_json::from_slice(written.trim_ascii().split(|byte| *byte == b'\n').next_back()?).ok()
}

fn start(job: &Job) -> io::Result<Child> {
    let kept = KEPT_VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    Command::new(PROGRAM)
        .arg(ARGUMENT)
        .arg(serde_json::to_string(job)?)
        .env_clear()
        .envs(kept)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Signals of a terminal are for the parent, with which it ends.
        .process_group(0)
        .spawn()
}

/// Everything that the child writes, also where it does not end.
fn read(mut output: ChildStdout, deadline: Instant, answer: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut ready = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, wait) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut chunk = [0; 4096];
        match output.read(&mut chunk)? {
            0 => return Ok(()),
            _ if answer.len() > MAX_ANSWER_BYTES => return Err(io::Error::other("it writes without end")),
            length => answer.extend_from_slice(&chunk[..length]),
        }
    }
}

/// Waits for the end; `None` where the time is over.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(END_INTERVAL);
    }
}

fn judge(status: ExitStatus, last: Option<&Line>) -> Observed {
    if let Some(number) = status.signal() {
        return match Signal::try_from(number) {
            Ok(Signal::SIGKILL) => Observed::Killed,
            Ok(signal) => Observed::Crashed(signal.as_str().to_owned()),
            Err(_unknown) => Observed::Crashed(format!("signal {number}")),
        };
    }
    match last {
        Some(Line::Answer(Answer::Loaded(empty))) if status.success() => Observed::Passed(empty.clone()),
        Some(Line::Answer(Answer::Refused(reason))) if status.success() => Observed::Refused(reason.clone()),
        _ => Observed::Broken(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_means_what_the_system_says_of_it() {
        let judge = |status, written: &[u8]| super::judge(status, last_line(written).as_ref());
        let loaded = br#"{"answer":{"loaded":[[["x",0]]]}}"#;
        let passed = Observed::Passed(vec![[("x".to_owned(), 0)].into()]);
        assert_eq!(judge(ExitStatus::from_raw(0), loaded), passed);
        let noise = [b"noise\n{\"trying\":3}\n", &loaded[..], b"\n"].concat();
        assert_eq!(judge(ExitStatus::from_raw(0), &noise), passed);
        let refused = judge(ExitStatus::from_raw(0), br#"{"answer":{"refused":"why"}}"#);
        assert_eq!(refused, Observed::Refused("why".into()));
        // What a process says before it crashes counts for nothing.
        assert_eq!(judge(ExitStatus::from_raw(11), loaded), Observed::Crashed("SIGSEGV".into()));
        assert_eq!(judge(ExitStatus::from_raw(6), b""), Observed::Crashed("SIGABRT".into()));
        assert_eq!(judge(ExitStatus::from_raw(9), b""), Observed::Killed);
        assert!(matches!(judge(ExitStatus::from_raw(1 << 8), loaded), Observed::Broken(_)));
        assert!(matches!(judge(ExitStatus::from_raw(0), b""), Observed::Broken(_)));
    }
}
