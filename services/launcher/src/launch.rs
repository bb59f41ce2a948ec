//! Starting attempts: the backend, and the settings that every agent gets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use slipway_domain::training::attempt::{
    JOB_TOKEN_VARIABLE, KEEP_WORK_DIR_VARIABLE, LAUNCHER_URL_VARIABLE, OF_AGENTS, RUN_AS_VARIABLE,
};
use slipway_domain::training::{JobSpec, Owner};
use slipway_kubernetes_client::Connection;
use uuid::Uuid;

use crate::Config;
use crate::backend::kubernetes::Kubernetes;
use crate::backend::local::{AttemptFolders, LocalProcesses};
use crate::backend::{self, Backend, Launch};
use crate::folders::{Folders, JobAccount};
use crate::store::attempts::Assigned;

const AGENT_PROGRAM: &str = "slipway-agent";
/// The command line, which has the agent in it.
const COMMAND_LINE_PROGRAM: &str = "slipway";
const COMMAND_LINE_AGENT_ARGUMENT: &str = "agent";

/// An attempt that is to start.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) job_id: Uuid,
    pub(crate) attempt: u32,
    /// The job, with the resources of this attempt.
    pub(crate) spec: JobSpec,
    pub(crate) excluded_nodes: Vec<String>,
    pub(crate) token: SecretString,
    /// Authenticates its command to the registry.
    pub(crate) job_token: Option<SecretString>,
    pub(crate) assigned: Assigned,
}

/// Starts agents. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    pub(crate) backend: Arc<dyn Backend>,
    /// Holds a folder for each job, with one for each of its attempts.
    pub(crate) work_dir: PathBuf,
    /// Where agents reach this launcher.
    pub(crate) urls: Vec<String>,
    /// An attempt that finds nodes for some of its processes only makes room for others after this time.
    pub(crate) gang_timeout: Duration,
    inherited: Vec<String>,
    environment: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretString>,
}

/// What agents log and where their traces go, as it is set for the launcher.
fn of_agents(variables: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let readable =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    variables.filter_map(readable).filter(|(name, _)| OF_AGENTS.contains(&name.as_str())).collect()
}

impl Launcher {
    /// `installation` is the id that the database has. Jobs run in `cluster`, or on this machine.
    ///
    /// # Errors
    /// This program's own path cannot be resolved, the process table is not the own one, or a setting is
    /// wrong.
    pub(crate) fn new(
        config: &Config,
        address: SocketAddr,
        folders: Folders,
        account: Option<JobAccount>,
        installation: Uuid,
        cluster: Option<&Connection>,
    ) -> anyhow::Result<Self> {
        let mut urls: Vec<String> =
            config.jobs.launcher_url.iter().filter(|url| !url.is_empty()).cloned().collect();
        if urls.is_empty() && cluster.is_some() {
            anyhow::bail!(
                "--launcher-url: required with --backend kubernetes, and not set: pods need an address of \
                 the launchers, such as that of their Service"
            );
        }
        if urls.is_empty() {
            urls.push(reachable(address));
        }
        let keep_work_dirs = config.jobs.keep_work_dirs.to_string();
        let mut environment = BTreeMap::from([(KEEP_WORK_DIR_VARIABLE.to_owned(), keep_work_dirs)]);
        environment.extend(
            account.map(|account| (RUN_AS_VARIABLE.to_owned(), format!("{}:{}", account.uid, account.gid))),
        );
        if cluster.is_some() {
            // Agents of this machine inherit them.
            environment.extend(of_agents(std::env::vars_os()));
        }
        let job_token = config.jobs.job_token.clone();
        let secrets = job_token.map(|token| (JOB_TOKEN_VARIABLE.to_owned(), token)).into_iter().collect();
        let backend: Arc<dyn Backend> = if let Some(cluster) = cluster {
            Arc::new(Kubernetes::new(&config.kubernetes, cluster, installation)?)
        } else {
            let attempts = AttemptFolders { work: folders.work.clone(), logs: folders.logs };
            Arc::new(LocalProcesses::new(agent_command(config)?, attempts)?)
        };
        Ok(Self {
            backend,
            work_dir: folders.work,
            urls,
            gang_timeout: Duration::from_secs(config.kubernetes.kubernetes_gang_timeout_s.into()),
            inherited: config.jobs.job_environment.iter().filter(|name| !name.is_empty()).cloned().collect(),
            environment,
            secrets,
        })
    }

    /// The launcher of this id as the owner of attempts.
    pub(crate) fn owner(&self, id: Uuid) -> Owner {
        Owner {
            backend: self.backend.kind().as_str().to_owned(),
            node: self.backend.node().to_owned(),
            launcher: id.to_string(),
        }
    }

    /// Starts an attempt of a job. `urls` are those of launchers.
    ///
    /// # Errors
    /// The agent does not start.
    pub(crate) async fn start(&self, start: Start, urls: &[String]) -> Result<(), backend::Error> {
        let Start { job_id, attempt, spec, excluded_nodes, token, job_token, assigned } = start;
        let mut secrets = self.secrets.clone();
        secrets.extend(job_token.map(|token| (JOB_TOKEN_VARIABLE.to_owned(), token)));
        let mut environment = self.environment.clone();
        environment.insert(LAUNCHER_URL_VARIABLE.to_owned(), urls.join(","));
        let launch = Launch {
            job_id: job_id.to_string(),
            attempt,
            spec: JobSpec { files: BTreeMap::new(), ..spec },
            excluded_nodes,
            cores: assigned.cores,
            gpus: assigned.gpus,
            token,
            inherited: self.inherited.clone(),
            environment,
            secrets,
        };
        self.backend.start(&launch).await
    }
}

fn agent_command(config: &Config) -> anyhow::Result<Vec<String>> {
    let mut command = match &config.jobs.agent {
        Some(program) => vec![text(program)?],
        None => agent_next_to(
            &std::env::current_exe().context("this program's own path is unknown; set SLIPWAY_AGENT")?,
        )?,
    };
    command.extend(config.jobs.agent_arguments.iter().filter(|argument| !argument.is_empty()).cloned());
    Ok(command)
}

/// The agent that belongs to the program `own`.
fn agent_next_to(own: &Path) -> anyhow::Result<Vec<String>> {
    if own.file_name().is_some_and(|name| name == COMMAND_LINE_PROGRAM) {
        return Ok(vec![text(own)?, COMMAND_LINE_AGENT_ARGUMENT.to_owned()]);
    }
    let sibling = own.with_file_name(AGENT_PROGRAM);
    // Otherwise it is searched for on PATH, and missed by name when the first job starts.
    Ok(vec![if sibling.is_file() { text(&sibling)? } else { AGENT_PROGRAM.to_owned() }])
}

fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("the path {} is no UTF-8", path.display()))
}

/// The address under which this machine reaches what listens on `address`.
fn reachable(address: SocketAddr) -> String {
    let host = match address.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(host, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_its_own_agent_and_a_launcher_has_one_next_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let own = path("slipway");
        assert_eq!(agent_next_to(&own).unwrap(), [own.to_str().unwrap(), "agent"]);
        assert_eq!(agent_next_to(&path("slipway-launcher")).unwrap(), ["slipway-agent"]);
        std::fs::write(path("slipway-agent"), "").unwrap();
        let sibling = path("slipway-agent");
        assert_eq!(agent_next_to(&path("slipway-launcher")).unwrap(), [sibling.to_str().unwrap()]);
    }

    #[test]
    fn agents_in_pods_log_and_trace_as_the_launcher_does() {
        let set = [
            ("SLIPWAY_LOG_FORMAT", "json"),
            ("SLIPWAY_OTLP_ENDPOINT", "http://c:4317"),
            ("SLIPWAY_S3_SECRET_KEY", "s"),
        ];
        let found = of_agents(set.map(|(name, value)| (name.into(), value.into())).into_iter());
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["SLIPWAY_LOG_FORMAT", "SLIPWAY_OTLP_ENDPOINT"]);
    }

    #[test]
    fn agents_reach_a_launcher_that_listens_everywhere() {
        assert_eq!(reachable("0.0.0.0:5010".parse().unwrap()), "http://127.0.0.1:5010");
        assert_eq!(reachable("127.0.0.1:5010".parse().unwrap()), "http://127.0.0.1:5010");
    }
}
