//! What a job gets of the environment of the platform that runs it: an allow-list, since any other variable may be a
//! secret.

/// Variables that agents and commands inherit. Secrets of the platform, and of the person who started it, have other names.
const INHERITED: [&str; 33] = [
    // The system and its libraries.
    "PATH",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    // The person; another account gets its own, see `Account` of the agent.
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
const OF_AGENTS: [&str; 3] = ["SLIPWAY_LOG", "SLIPWAY_LOG_FORMAT", "SLIPWAY_OTLP_ENDPOINT"];
/// How the platform's own variables begin.
const OWN_PREFIX: &str = "SLIPWAY_";

/// Whether a command inherits the variable `name`; `more` are further names, and prefixes that end in `*`, which an operator allowed.
/// The platform's own variables are never inherited.
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

/// Whether an agent inherits it: what its command inherits, and a few of its own.
pub(crate) fn is_inherited_by_agents(name: &str, more: &[String]) -> bool {
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
