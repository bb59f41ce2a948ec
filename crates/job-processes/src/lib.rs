//! The processes of training jobs on this machine, found by the marks in their environment: whether an
//! attempt's agent is alive, how much memory its command uses, whether it writes files, and how to end what
//! is left of it.
//!
//! Both sides need them: the launcher's local backend looks for agents and ends leftovers; the agent watches
//! its command. What is found is true within one process namespace, which [`namespace`] names.

mod marked;
mod namespace;

pub use namespace::{is_same_machine, namespace};

use std::path::Path;
use std::time::Duration;

use crate::marked::Marked;

/// Left-over processes must be gone by then.
const LEFTOVERS_TIMEOUT_MS: u64 = 5_000;
const LEFTOVERS_POLL_MS: u64 = 20;
/// A process shows no environment for the moment in which it becomes another program, so one look proves
/// nothing.
const EMPTY_SCANS: u32 = 2;

/// Why processes cannot be found or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process table cannot be read.
    #[error("cannot read the process table: {0}")]
    ProcessTable(#[source] std::io::Error),
    /// `/proc` shows the processes of another namespace.
    #[error(
        "/proc belongs to another process namespace (this process is {shown} there); mount it for this one, \
         e.g. with `unshare --pid --fork --mount-proc`"
    )]
    ForeignTable {
        /// This process's id there.
        shown: String,
    },
    /// Processes of an earlier attempt do not end, so that a new one must not begin.
    #[error("{processes} processes of an earlier attempt of job {job_id} do not end")]
    Leftovers {
        /// Job id.
        job_id: String,
        /// How many are left.
        processes: usize,
    },
}

/// Whether the attempt's agent is alive, whichever process started it.
///
/// # Errors
/// The process table cannot be read.
pub async fn agent_is_alive(job_id: &str, attempt: u32) -> Result<bool, Error> {
    for scan in 1..=EMPTY_SCANS {
        let found = processes(job_id).await?;
        if found.iter().any(|process| process.is_agent && process.attempt == attempt) {
            return Ok(true);
        }
        if scan < EMPTY_SCANS {
            tokio::time::sleep(Duration::from_millis(LEFTOVERS_POLL_MS)).await;
        }
    }
    Ok(false)
}

/// Kills all processes of a job's attempts up to `last`: agents, commands that outlived their agent, and what
/// these started. Returns how many there were.
///
/// # Errors
/// Something does not end, or the process table cannot be read.
pub async fn end_job(job_id: &str, last: u32) -> Result<usize, Error> {
    end_all(job_id, |process| process.attempt <= last).await
}

/// Kills what the command of an attempt has left running, in whichever session. The attempt's agent, which
/// calls this, stays. Returns how many processes there were.
///
/// # Errors
/// Something does not end, or the process table cannot be read.
pub async fn end_strays(job_id: &str, attempt: u32) -> Result<usize, Error> {
    end_all(job_id, |process| process.attempt == attempt && !process.is_agent).await
}

/// For a process without a runtime: kills the processes of an attempt, its agent too where `with_agent` says
/// so, again and again until none is left. Returns how many there were at most at once.
///
/// # Errors
/// The process table cannot be read.
pub fn end_attempt_blocking(job_id: &str, attempt: u32, with_agent: bool) -> Result<usize, Error> {
    let (mut ended, mut empty_scans) = (0, 0);
    loop {
        let mut found = marked::of_job(job_id).map_err(Error::ProcessTable)?;
        found.retain(|process| process.attempt == attempt && (with_agent || !process.is_agent));
        empty_scans = if found.is_empty() { empty_scans + 1 } else { 0 };
        if empty_scans == EMPTY_SCANS {
            return Ok(ended);
        }
        ended = ended.max(found.len());
        found.into_iter().for_each(Marked::kill);
        std::thread::sleep(Duration::from_millis(LEFTOVERS_POLL_MS));
    }
}

/// Whether a process of an attempt, its agent aside, has a file below `folder` open for writing.
///
/// # Errors
/// The process table cannot be read.
pub async fn has_writers(job_id: &str, attempt: u32, folder: &Path) -> Result<bool, Error> {
    let folder = folder.to_owned();
    let mut found = processes(job_id).await?;
    found.retain(|process| process.attempt == attempt && !process.is_agent);
    let looked =
        tokio::task::spawn_blocking(move || found.iter().any(|process| process.writes_below(&folder)));
    looked.await.map_err(|error| Error::ProcessTable(std::io::Error::other(error)))
}

/// Memory that the processes of an attempt use together, without its agent, bytes. Pages that processes share
/// count once where the kernel tells, which is asked only where the sum without that exceeds `limit_bytes`.
///
/// # Errors
/// The process table cannot be read.
pub async fn memory_of(job_id: &str, attempt: u32, limit_bytes: u64) -> Result<u64, Error> {
    let job_id = job_id.to_owned();
    let summed = tokio::task::spawn_blocking(move || {
        let mut found = marked::of_job(&job_id)?;
        found.retain(|process| process.attempt == attempt && !process.is_agent);
        let quick: u64 = found.iter().map(Marked::resident_bytes).sum();
        if quick <= limit_bytes {
            return Ok(quick);
        }
        Ok(found.iter().map(Marked::own_bytes).sum())
    });
    summed.await.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(Error::ProcessTable)
}

async fn end_all(job_id: &str, wanted: impl Fn(&Marked) -> bool) -> Result<usize, Error> {
    let started = tokio::time::Instant::now();
    let (mut ended, mut empty_scans) = (0, 0);
    loop {
        let mut found = processes(job_id).await?;
        found.retain(&wanted);
        empty_scans = if found.is_empty() { empty_scans + 1 } else { 0 };
        if empty_scans == EMPTY_SCANS {
            return Ok(ended);
        }
        if started.elapsed() > Duration::from_millis(LEFTOVERS_TIMEOUT_MS) {
            return Err(Error::Leftovers { job_id: job_id.to_owned(), processes: found.len() });
        }
        ended = ended.max(found.len());
        found.into_iter().for_each(Marked::kill);
        tokio::time::sleep(Duration::from_millis(LEFTOVERS_POLL_MS)).await;
    }
}

async fn processes(job_id: &str) -> Result<Vec<Marked>, Error> {
    let job_id = job_id.to_owned();
    tokio::task::spawn_blocking(move || marked::of_job(&job_id))
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(Error::ProcessTable)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use slipway_domain::training::attempt::{ATTEMPT_VARIABLE, JOB_ID_VARIABLE, TOKEN_VARIABLE};

    use super::*;

    /// A shell with the marks of an agent, which runs `script`.
    fn agent(job_id: &str, script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env(JOB_ID_VARIABLE, job_id).env(ATTEMPT_VARIABLE, "1");
        command.env(TOKEN_VARIABLE, "t").spawn().unwrap()
    }

    #[tokio::test]
    async fn the_memory_of_a_command_is_summed_over_its_processes_without_the_agent() {
        let job_id = format!("memory-{}", std::process::id());
        let hungry = "import time; block = bytearray(64 << 20); block[::4096] = b'x' * len(block[::4096]); \
            time.sleep(300)";
        let script = format!(
            "for n in 1 2; do env -u SLIPWAY_ATTEMPT_TOKEN python3 -c \"{hungry}\" & done; sleep 300"
        );
        let mut agent = agent(&job_id, &script);
        let wanted = 128 << 20;
        let mut used = 0;
        for _ in 0..600 {
            used = memory_of(&job_id, 1, 0).await.unwrap();
            if used >= wanted {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!((wanted..wanted * 2).contains(&used), "{used}");
        assert_eq!(memory_of(&job_id, 2, 0).await.unwrap(), 0);
        end_job(&job_id, 1).await.unwrap();
        agent.wait().unwrap();
    }

    #[tokio::test]
    async fn a_process_that_writes_into_a_folder_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let job_id = format!("writers-{}", std::process::id());
        let (written, other) = (folder.path().join("written"), folder.path().join("other"));
        std::fs::create_dir_all(&written).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("read"), "").unwrap();
        let script = format!(
            "env -u SLIPWAY_ATTEMPT_TOKEN sh -c 'exec 3>{}/a 4<{}/read; sleep 300' & sleep 300",
            written.display(),
            other.display()
        );
        let mut agent = agent(&job_id, &script);
        let mut seen = false;
        for _ in 0..600 {
            seen = has_writers(&job_id, 1, &written).await.unwrap();
            if seen {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(seen);
        assert!(!has_writers(&job_id, 1, &other).await.unwrap(), "reading is no writing");
        end_job(&job_id, 1).await.unwrap();
        agent.wait().unwrap();
    }
}
