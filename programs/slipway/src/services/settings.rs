//! Environment variables that `slipway up` gives to each service in addition to those that all of them get.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use slipway_access::ApiToken;
use slipway_domain::access::token_digest;
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

/// The tokens of a platform with access control on. Only the registry itself gets the administrator's; of the
/// others it gets digests.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) admin: SecretString,
    /// Issues tokens for training jobs, and nothing else.
    pub(crate) launcher: SecretString,
    /// Of the services that call others, by the service's name.
    pub(crate) services: BTreeMap<&'static str, SecretString>,
}

/// Services that call others. Each gets a token that may do what it needs.
const CALLERS: [&str; 3] = ["serving", "rollout-controller", "drift-monitor"];

impl Tokens {
    /// The administrator's, and new ones for the services, which last as long as this process.
    pub(crate) fn new(admin: SecretString) -> anyhow::Result<Self> {
        let mut services = BTreeMap::new();
        for service in CALLERS {
            services.insert(service, ApiToken::generate()?.reveal());
        }
        Ok(Self { admin, launcher: ApiToken::generate()?.reveal(), services })
    }

    fn digests(&self) -> String {
        let digest = |token: &SecretString| hex::encode(token_digest(token.expose_secret().as_bytes()));
        let listed = self.services.iter().map(|(service, token)| format!("{service}={}", digest(token)));
        listed.collect::<Vec<String>>().join(",")
    }
}

/// The token with which a service calls others.
pub(crate) fn own_token(service: &str, shared: &Shared) -> Settings {
    let token = shared.tokens.as_ref().and_then(|tokens| tokens.services.get(service));
    token.map(|token| ("SLIPWAY_REGISTRY_TOKEN", exposed(token))).into_iter().collect()
}

pub(super) fn registry(shared: &Shared) -> Settings {
    // Everything is on this machine, and so are the receivers of its webhooks.
    let mut settings = vec![("SLIPWAY_WEBHOOK_ALLOW_PRIVATE", "true".to_owned())];
    if let Some(tokens) = &shared.tokens {
        settings.extend([
            ("SLIPWAY_ADMIN_TOKEN", exposed(&tokens.admin)),
            ("SLIPWAY_LAUNCHER_TOKEN", exposed(&tokens.launcher)),
            ("SLIPWAY_SERVICE_TOKEN_DIGESTS", tokens.digests()),
        ]);
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
    vec![
        ("SLIPWAY_CACHE_DIR", text(&shared.data_dir.join("serving"))),
        ("SLIPWAY_ONNXRUNTIME_LIB", text(&shared.onnxruntime)),
    ]
}

/// Of a service without settings of its own.
pub(super) fn none(_shared: &Shared) -> Settings {
    Settings::new()
}

fn exposed(token: &SecretString) -> String {
    token.expose_secret().to_owned()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
