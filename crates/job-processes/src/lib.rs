//! Where the attempts of a training job run. The launcher decides that an attempt is to run; a backend makes it so.
//!
//! A backend starts `slipway-agent` for one attempt, says whether that agent is still there, and ends what an attempt left
//! behind. All else (heartbeats, logs, checkpoints, the exit status) goes between the agent and the launcher, the same way
//! wherever the agent runs.

mod environment;
mod local;
mod process;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use environment::is_inherited;
pub use local::{LocalProcesses, end_strays, has_writers, memory_of};
use secrecy::SecretString;

/// Environment variable that names the job, in the agent and in everything that its command starts.
pub const JOB_ID_VARIABLE: &str = "SLIPWAY_JOB_ID";
/// Environment variable that numbers the attempt, beside [`JOB_ID_VARIABLE`].
pub const ATTEMPT_VARIABLE: &str = "SLIPWAY_ATTEMPT";
/// Environment variable with the attempt's token. The agent has it and keeps it from its command.
pub const TOKEN_VARIABLE: &str = "SLIPWAY_ATTEMPT_TOKEN";
/// Environment variable with the folder that the attempt runs in.
pub const WORK_DIR_VARIABLE: &str = "SLIPWAY_WORK_DIR";

/// Environment variable with the CPU cores that the command is bound to, e.g. `0,3`; unset for all.
pub const CORES_VARIABLE: &str = "SLIPWAY_CORES";
/// Environment variable with the GPUs that the command sees, e.g. `0,1`; unset for none.
pub const GPUS_VARIABLE: &str = "SLIPWAY_GPUS";
/// Environment variable with the account that the agent and its command run as, as `UID:GID`; unset for that of the launcher.
pub const RUN_AS_VARIABLE: &str = "SLIPWAY_RUN_AS";
/// Environment variable with further variables that the command inherits, separated by commas.
pub const INHERITED_VARIABLE: &str = "SLIPWAY_JOB_ENVIRONMENT";
/// Environment variable with the token that the command shows the registry. The agent gives it another name.
pub const JOB_TOKEN_VARIABLE: &str = "SLIPWAY_JOB_TOKEN";

/// One attempt to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Job id.
    pub job_id: String,
    /// Attempt number, from 1.
    pub attempt: u32,
    /// CPU cores that its command is bound to, by number; none for all of the machine.
    pub cores: Vec<u32>,
    /// GPUs that its command sees, by number.
    pub gpus: Vec<u32>,
    /// What the agent shows with each call.
    pub token: SecretString,
    /// Folder for the attempt's files; made by the agent.
    pub work_dir: PathBuf,
    /// File that takes what the agent itself logs.
    pub agent_log: PathBuf,
    /// Further variables that the attempt inherits from the launcher, see [`is_inherited`].
    pub inherited: Vec<String>,
    /// Settings of the agent, by variable.
    pub environment: BTreeMap<String, String>,
    /// Settings that are never shown, by variable.
    pub secrets: BTreeMap<String, SecretString>,
}

/// What a backend could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent did not start.
    #[error("the agent `{program}` does not start: {reason}")]
    Start {
        /// Program that was tried.
        program: String,
        /// Why.
        reason: String,
    },
    /// A folder or the process table cannot be read or written.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
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

/// A place that runs attempts.
#[derive(Debug, Clone)]
pub enum Backend {
    /// Processes on the launcher's own machine.
    Local(LocalProcesses),
}

impl Backend {
    /// Starts the attempt's agent. Nothing of an earlier attempt may be left; see [`Self::end_leftovers`].
    ///
    /// # Errors
    /// The agent does not start; then nothing of it is left.
    pub async fn start(&self, launch: &Launch) -> Result<(), Error> {
        match self {
            Self::Local(local) => local.start(launch).await,
        }
    }

    /// Whether the attempt's agent is there. It answers for agents that an earlier launcher process started, too.
    ///
    /// # Errors
    /// The backend cannot tell.
    pub async fn agent_is_alive(&self, job_id: &str, attempt: u32) -> Result<bool, Error> {
        match self {
            Self::Local(local) => local.agent_is_alive(job_id, attempt).await,
        }
    }

    /// Ends at once whatever is left of a job's attempts: stale agents, commands that outlived their agent, and what these
    /// started. Answers with how many there were.
    ///
    /// # Errors
    /// Something does not end: two attempts would run at once.
    pub async fn end_leftovers(&self, job_id: &str) -> Result<usize, Error> {
        match self {
            Self::Local(local) => local.end_leftovers(job_id).await,
        }
    }

    /// Returns when an agent has ended since the last call, which is worth a look before its lease runs out.
    pub async fn agent_ended(&self) {
        match self {
            Self::Local(local) => local.agent_ended().await,
        }
    }
}
