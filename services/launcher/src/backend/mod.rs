//! Where the attempts of a training job run. The reconciler decides that an attempt is to run; a backend
//! makes it so.
//!
//! A backend starts `slipway-agent` for one attempt, reports what became of that agent, and ends what an
//! attempt left behind. What it reports holds within its *node*: launchers whose backends have the same name
//! and node may speak for each other's attempts, others may not. All else (heartbeats, logs, checkpoints,
//! the exit status) goes between the agent
//! and the launcher, the same way wherever the agent runs. What an agent is given is
//! [`slipway_domain::training::attempt`].

pub(crate) mod local;

use std::collections::BTreeMap;

use secrecy::SecretString;
use slipway_domain::training::Report;
use slipway_domain::training::attempt::{
    ATTEMPT_VARIABLE, CORES_VARIABLE, GPUS_VARIABLE, INHERITED_VARIABLE, JOB_ID_VARIABLE, TOKEN_VARIABLE,
};

/// One attempt to be started, wherever that is. Folders on the machine that runs it are the backend's
/// business.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) job_id: String,
    /// Attempt number, from 1.
    pub(crate) attempt: u32,
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
}

/// A place that runs attempts.
#[tonic::async_trait]
pub(crate) trait Backend: std::fmt::Debug + Send + Sync {
    /// Its name, as attempts keep it.
    fn name(&self) -> &'static str;

    /// Within which its reports hold: one process namespace of one machine, one cluster.
    fn node(&self) -> &str;

    /// Starts the attempt's agent. Nothing of an earlier attempt may be left; see [`Self::end_leftovers`].
    ///
    /// # Errors
    /// The agent does not start; then nothing of it is left.
    async fn start(&self, launch: &Launch) -> Result<(), Error>;

    /// What became of the agent of an attempt of this node, whichever launcher started it.
    ///
    /// # Errors
    /// The backend cannot tell.
    async fn report(&self, job_id: &str, attempt: u32) -> Result<Report, Error>;

    /// Kills whatever is left on this node of a job's attempts up to `last`: stale agents, commands that
    /// outlived their agent, and what these started. Returns how many there were.
    ///
    /// # Errors
    /// Something does not end: two attempts would run simultaneously.
    async fn end_leftovers(&self, job_id: &str, last: u32) -> Result<usize, Error>;

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
