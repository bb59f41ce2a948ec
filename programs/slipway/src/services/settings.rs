//! Environment variables that `slipway up` gives to each service in addition to those that all of them get.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use slipway_access::ApiToken;
use slipway_telemetry::LogFormat;

/// Environment variables with their values.
pub(crate) type Settings = Vec<(&'static str, String)>;

/// What all services share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) data_dir: PathBuf,
    pub(crate) onnxruntime: PathBuf,
    pub(crate) otlp_endpoint: Option<String>,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    /// Account that jobs run as, where it is not our own.
    pub(crate) job_user: Option<String>,
    /// Where access is on.
    pub(crate) tokens: Option<Tokens>,
}

/// What each part shows the registry. Only the registry itself gets the administrator's.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) admin: SecretString,
    /// Issues tokens for training jobs, and nothing else.
    pub(crate) launcher: SecretString,
    /// Reads.
    pub(crate) services: SecretString,
}

impl Tokens {
    /// The administrator's, and new ones for the parts, which last as long as this process.
    pub(crate) fn new(admin: SecretString) -> anyhow::Result<Self> {
        Ok(Self { admin, launcher: ApiToken::generate()?.reveal(), services: ApiToken::generate()?.reveal() })
    }
}

pub(super) fn registry(shared: &Shared) -> Settings {
    // Everything is on this machine, and so are the receivers of its webhooks.
    let mut settings = vec![("SLIPWAY_WEBHOOK_ALLOW_PRIVATE", "true".to_owned())];
    // Stated either way: the registry must not inherit the setting of this process.
    match &shared.tokens {
        Some(tokens) => settings.extend([
            ("SLIPWAY_AUTH", "on".to_owned()),
            ("SLIPWAY_ADMIN_TOKEN", exposed(&tokens.admin)),
            ("SLIPWAY_LAUNCHER_TOKEN", exposed(&tokens.launcher)),
            ("SLIPWAY_SERVICES_TOKEN", exposed(&tokens.services)),
        ]),
        None => settings.push(("SLIPWAY_AUTH", "off".to_owned())),
    }
    settings
}

pub(super) fn launcher(shared: &Shared) -> Settings {
    let mut settings = vec![("SLIPWAY_DATA_DIR", text(&shared.data_dir.join("launcher")))];
    // With its own token the launcher gets one for each attempt of a job, unless all jobs are given one.
    settings.extend(shared.tokens.iter().map(|tokens| ("SLIPWAY_LAUNCHER_TOKEN", exposed(&tokens.launcher))));
    settings.extend(shared.job_user.clone().map(|name| ("SLIPWAY_JOB_USER", name)));
    settings
}

pub(super) fn serving(shared: &Shared) -> Settings {
    let mut settings = vec![
        ("SLIPWAY_CACHE_DIR", text(&shared.data_dir.join("serving"))),
        ("SLIPWAY_ONNXRUNTIME_LIB", text(&shared.onnxruntime)),
    ];
    settings.extend(reader(shared));
    settings
}

/// Of a service that reads from the registry.
pub(super) fn reader(shared: &Shared) -> Settings {
    shared.tokens.iter().map(|tokens| ("SLIPWAY_REGISTRY_TOKEN", exposed(&tokens.services))).collect()
}

fn exposed(token: &SecretString) -> String {
    token.expose_secret().to_owned()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
