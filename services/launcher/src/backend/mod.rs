//! Where the attempts of a training job run. The reconciler decides that an attempt is to run; a backend
//! makes it so.
//!
//! A backend starts `slipway-agent` for one attempt, reports what became of that agent, and ends what an
//! attempt left behind. What it reports holds within its *node*: launchers whose backends have the same name
//! and node may speak for each other's attempts, others may not. All else (heartbeats, logs, checkpoints,
//! the exit status) goes between the agent
//! and the launcher, the same way wherever the agent runs. What an agent is given is
//! [`slipway_domain::training::attempt`].

pub(crate) mod kubernetes;
pub(crate) mod local;

use std::collections::BTreeMap;

use secrecy::SecretString;
use slipway_domain::Invalid;
use slipway_domain::training::attempt::{
    ATTEMPT_VARIABLE, CORES_VARIABLE, GPUS_VARIABLE, INHERITED_VARIABLE, JOB_ID_VARIABLE, TOKEN_VARIABLE,
};
use slipway_domain::training::{BackendKind, JobSpec, Loss, Outcome, Report};
use tokio_util::sync::CancellationToken;

/// One attempt to be started, wherever that is. Folders on the machine that runs it are the backend's
/// business.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) job_id: String,
    /// Attempt number, from 1.
    pub(crate) attempt: u32,
    /// What the job asks for. Its files come to the agent with its lease, and are not here.
    pub(crate) spec: JobSpec,
    /// Nodes of a cluster on which it must not run.
    pub(crate) excluded_nodes: Vec<String>,
    /// CPU cores that its command is bound to, by number; none for all of the machine.
    pub(crate) cores: Vec<u32>,
    /// GPUs that its command sees, by number.
    pub(crate) gpus: Vec<u32>,
    /// Authenticates the agent's calls.
    pub(crate) token: SecretString,
    /// Further variables that the attempt inherits, see [`slipway_domain::training::attempt::is_inherited`].
    pub(crate) inherited: Vec<String>,
    /// Settings of the agent, by variable.
    pub(crate) environment: BTreeMap<String, String>,
    /// Settings that are never shown, by variable.
    pub(crate) secrets: BTreeMap<String, SecretString>,
}

impl Launch {
    /// The agent's environment, without its secrets and what it inherits.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        let mut variables = self.environment.clone();
        let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
        set(JOB_ID_VARIABLE, self.job_id.clone());
        set(ATTEMPT_VARIABLE, self.attempt.to_string());
        set(INHERITED_VARIABLE, self.inherited.join(","));
        for (name, numbers) in [(CORES_VARIABLE, &self.cores), (GPUS_VARIABLE, &self.gpus)] {
            if !numbers.is_empty() {
                let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
                set(name, numbers.join(","));
            }
        }
        variables
    }

    /// The secrets of the agent's environment.
    pub(crate) fn secret_variables(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        let secrets = self.secrets.iter().map(|(name, value)| (name.as_str(), value));
        secrets.chain([(TOKEN_VARIABLE, &self.token)])
    }
}

/// Why a backend failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The agent did not start.
    #[error("the agent `{program}` does not start: {reason}")]
    Start {
        /// Program that was tried.
        program: String,
        /// Why.
        reason: String,
    },
    /// The file for what the agent itself logs cannot be opened.
    #[error("cannot open the agent's log: {0}")]
    Log(#[source] std::io::Error),
    /// Processes cannot be found or do not end.
    #[error(transparent)]
    Processes(#[from] slipway_job_processes::Error),
    /// The cluster will never accept the attempt.
    #[error("the cluster refused it: {0}")]
    Refused(String),
    /// The API server does not answer as it should.
    #[error("the API server: {0}")]
    Cluster(String),
    /// Something is being deleted, and has not ended.
    #[error("{0} has not ended yet")]
    Ending(String),
}

/// What is left of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    /// Of which job.
    pub(crate) job_id: String,
    /// Its number.
    pub(crate) attempt: u32,
    /// Whether its agent runs, and may be about to end.
    pub(crate) runs: bool,
}

/// What a backend knows about an attempt's agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It lives.
    Alive,
    /// It waits for its node, image or queue.
    Pending {
        /// For which, for people.
        reason: String,
        /// Whether some of its processes hold nodes while others find none.
        is_partial: bool,
    },
    /// It is gone without a report, and nothing can bring it back.
    Lost {
        /// What is known about it, for people.
        reason: String,
        /// Whose fault it was not.
        cause: Loss,
    },
    /// It is gone, and why is known.
    Ended {
        /// Why.
        outcome: Outcome,
    },
    /// The backend cannot tell.
    Unknown,
}

impl Seen {
    /// It waits for this.
    pub(crate) const fn pending(reason: String) -> Self {
        Self::Pending { reason, is_partial: false }
    }

    /// It is gone for this reason, which lies in the platform.
    pub(crate) fn lost(reason: &str) -> Self {
        Self::Lost { reason: reason.to_owned(), cause: Loss::System }
    }

    /// What it comes to for the decision about the attempt.
    pub(crate) const fn report(&self) -> Report {
        match self {
            Self::Alive => Report::Alive,
            Self::Pending { .. } => Report::Pending,
            Self::Lost { .. } | Self::Ended { .. } => Report::Gone,
            Self::Unknown => Report::Unknown,
        }
    }
}

/// A place that runs attempts.
#[tonic::async_trait]
pub(crate) trait Backend: std::fmt::Debug + Send + Sync {
    /// Which one it is. Attempts keep its name.
    fn kind(&self) -> BackendKind;

    /// Within which its reports hold: one process namespace of one machine, one cluster.
    fn node(&self) -> &str;

    /// Whether such a job can run here.
    ///
    /// # Errors
    /// A field asks for what the backend does not have; names the field, as seen from the backend's section.
    fn check(&self, spec: &JobSpec) -> Result<(), Invalid>;

    /// Does what is to be done beside the calls, until `shutdown`.
    async fn run(&self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
    }

    /// Starts the attempt's agent, now or as soon as possible. The earlier attempts of the job are over.
    ///
    /// # Errors
    /// The agent does not start; then nothing of it is left.
    async fn start(&self, launch: &Launch) -> Result<(), Error>;

    /// What became of the agent of an attempt of this node, whichever launcher started it.
    ///
    /// # Errors
    /// The backend cannot tell.
    async fn report(&self, job_id: &str, attempt: u32) -> Result<Seen, Error>;

    /// Kills whatever is left on this node of a job's attempts up to `last`: stale agents, commands that
    /// outlived their agent, and what these started. Returns how many there were.
    ///
    /// # Errors
    /// Something does not end: two attempts would run simultaneously.
    async fn end_leftovers(&self, job_id: &str, last: u32) -> Result<usize, Error>;

    /// Attempts of which something is left on this node that outlives its agent. What is left of an attempt
    /// that is over is to be ended.
    fn left(&self) -> Vec<Left> {
        Vec::new()
    }

    /// Returns when an agent has ended since the last call, which is worth a look before its lease runs out.
    async fn agent_ended(&self);
}

#[cfg(test)]
mod tests {
    use slipway_domain::training::attempt::JOB_TOKEN_VARIABLE;

    use super::*;

    #[test]
    fn an_agent_is_given_its_attempt_and_secrets_are_kept_apart() {
        let launch = Launch {
            job_id: "7".to_owned(),
            attempt: 2,
            spec: JobSpec::default(),
            excluded_nodes: Vec::new(),
            cores: vec![0, 3],
            gpus: Vec::new(),
            token: "t".into(),
            inherited: vec!["HF_HOME".to_owned(), "NCCL_*".to_owned()],
            environment: BTreeMap::from([("SLIPWAY_LAUNCHER_URL".to_owned(), "http://l".to_owned())]),
            secrets: BTreeMap::from([(JOB_TOKEN_VARIABLE.to_owned(), "s".into())]),
        };
        let expected = [
            ("SLIPWAY_ATTEMPT", "2"),
            ("SLIPWAY_CORES", "0,3"),
            ("SLIPWAY_JOB_ENVIRONMENT", "HF_HOME,NCCL_*"),
            ("SLIPWAY_JOB_ID", "7"),
            ("SLIPWAY_LAUNCHER_URL", "http://l"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(launch.variables(), BTreeMap::from(expected));
        let secrets: Vec<&str> = launch.secret_variables().map(|(name, _)| name).collect();
        assert_eq!(secrets, ["SLIPWAY_JOB_TOKEN", "SLIPWAY_ATTEMPT_TOKEN"]);
    }
}
