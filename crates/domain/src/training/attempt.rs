//! What an attempt of a job is given: the contract between the launcher, its backends and the agent.
//!
//! The agent reads its settings from environment variables. Of the environment in which a backend runs, an
//! attempt inherits an allow-list only, because any other variable may be a secret.

/// Environment variable that names the job, in the agent and in everything that its command starts.
pub const JOB_ID_VARIABLE: &str = "SLIPWAY_JOB_ID";
/// Environment variable that numbers the attempt in the same places as [`JOB_ID_VARIABLE`].
pub const ATTEMPT_VARIABLE: &str = "SLIPWAY_ATTEMPT";
/// Environment variable with the attempt's token. Only the agent has it: its command does not inherit it.
pub const TOKEN_VARIABLE: &str = "SLIPWAY_ATTEMPT_TOKEN";
/// Environment variable with the folder that the attempt runs in.
pub const WORK_DIR_VARIABLE: &str = "SLIPWAY_WORK_DIR";
/// Environment variable that says whether the folder of [`WORK_DIR_VARIABLE`] is kept after a success, `true`
/// or `false`.
pub const KEEP_WORK_DIR_VARIABLE: &str = "SLIPWAY_KEEP_WORK_DIR";
/// Environment variable with the URL at which the agent reaches the launcher.
pub const LAUNCHER_URL_VARIABLE: &str = "SLIPWAY_LAUNCHER_URL";
/// Environment variable with the CPU cores that the command is bound to, e.g. `0,3`; unset for all.
pub const CORES_VARIABLE: &str = "SLIPWAY_CORES";
/// Environment variable with the GPUs that the command sees, e.g. `0,1`; unset for none.
pub const GPUS_VARIABLE: &str = "SLIPWAY_GPUS";
/// Environment variable with the name of the Kubernetes node that the agent runs on.
pub const NODE_VARIABLE: &str = "SLIPWAY_NODE";
/// Environment variable with the number of the agent's process in its group, from 0.
pub const PROCESS_VARIABLE: &str = "SLIPWAY_PROCESS";
/// Environment variable with the host names of a group's processes: [`PROCESS_PLACEHOLDER`] stands for the
/// number of a process.
pub const GROUP_HOST_VARIABLE: &str = "SLIPWAY_GROUP_HOST";
/// See [`GROUP_HOST_VARIABLE`].
pub const PROCESS_PLACEHOLDER: &str = "{process}";
/// Environment variable that says whether the agent runs in a container that was made for its command, `true`
/// or `false`: then the command has the container's environment, and its GPUs.
pub const CONTAINER_VARIABLE: &str = "SLIPWAY_CONTAINER";
/// Environment variable with the seconds between the SIGTERM and the SIGKILL that the agent receives when its
/// pod is stopped; unset outside Kubernetes.
pub const TERMINATION_VARIABLE: &str = "SLIPWAY_TERMINATION_GRACE_PERIOD_S";
/// Environment variable with the account that the agent and its command run as, as `UID:GID`; unset for that
/// of the launcher.
pub const RUN_AS_VARIABLE: &str = "SLIPWAY_RUN_AS";
/// Environment variable with further variables that the command inherits, separated by commas.
pub const INHERITED_VARIABLE: &str = "SLIPWAY_JOB_ENVIRONMENT";
/// Environment variable with the token with which the command authenticates to the registry. The agent passes
/// it on under the name that MLflow's client reads.
pub const JOB_TOKEN_VARIABLE: &str = "SLIPWAY_JOB_TOKEN";

/// Variables that agents and commands inherit. Secrets of the platform, and of the person who started it,
/// have other names.
const INHERITED: [&str; 33] = [
    // The system and its libraries.
    "PATH",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    // The account; the agent sets them for another one.
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    // How to reach the network.
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    // Python's environments.
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    // GPUs. Which of them a job sees is set by its agent.
    "CUDA_HOME",
    "CUDA_PATH",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    // For developers of Slipway: what a panic of the agent shows, and where coverage goes.
    "RUST_BACKTRACE",
    "LLVM_PROFILE_FILE",
];
const INHERITED_PREFIX: &str = "LC_";

/// Variables that only agents inherit: what they log, and where their traces go.
pub const OF_AGENTS: [&str; 3] = ["SLIPWAY_LOG", "SLIPWAY_LOG_FORMAT", "SLIPWAY_OTLP_ENDPOINT"];
/// How the platform's own variables begin.
const OWN_PREFIX: &str = "SLIPWAY_";

/// Whether a command inherits the variable `name`; `more` are further names, and prefixes that end in `*`,
/// which an operator allowed. The platform's own variables are never inherited.
pub fn is_inherited(name: &str, more: &[String]) -> bool {
    if name.starts_with(OWN_PREFIX) {
        return false;
    }
    let allowed = |entry: &String| match entry.strip_suffix('*') {
        Some(prefix) => !prefix.is_empty() && name.starts_with(prefix),
        None => name == entry,
    };
    INHERITED.contains(&name) || name.starts_with(INHERITED_PREFIX) || more.iter().any(allowed)
}

/// Whether a command inherits the variable `name` of a container that was made for it: all but the platform's
/// own.
pub fn is_of_container(name: &str) -> bool {
    !name.starts_with(OWN_PREFIX)
}

/// Whether an agent inherits the variable `name`: what its command inherits, and a few of its own.
pub fn is_inherited_by_agents(name: &str, more: &[String]) -> bool {
    OF_AGENTS.contains(&name) || is_inherited(name, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_not_inherited() {
        for name in ["PATH", "LC_ALL", "https_proxy", "VIRTUAL_ENV"] {
            assert!(is_inherited(name, &[]), "{name}");
        }
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "MLFLOW_TRACKING_TOKEN",
            "MLFLOW_TRACKING_PASSWORD",
            "DATABASE_URL",
            "GITHUB_TOKEN",
            "SLIPWAY_ADMIN_TOKEN",
            "SLIPWAY_S3_SECRET_KEY",
            "SLIPWAY_ANYTHING",
            "LD_PRELOAD",
            "PATHS",
            "",
        ] {
            assert!(!is_inherited(name, &[]), "{name}");
        }
        assert!(!is_inherited("SLIPWAY_LOG", &[]) && is_inherited_by_agents("SLIPWAY_LOG", &[]));
    }

    #[test]
    fn an_operator_can_allow_names_and_prefixes_but_not_the_platforms_own() {
        let more = ["HF_HOME".to_owned(), "NCCL_*".to_owned(), "*".to_owned(), "SLIPWAY_*".to_owned()];
        assert!(is_inherited("HF_HOME", &more) && is_inherited("NCCL_DEBUG", &more));
        for name in ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "SLIPWAY_ADMIN_TOKEN"] {
            assert!(!is_inherited(name, &more), "{name}");
        }
    }
}
