//! The services as child processes: how each is started, and where it says that it is ready.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use slipway_access::ApiToken;
use slipway_telemetry::LogFormat;

use super::credentials::Credentials;
use super::ports::Ports;

/// Secrets that this process may have in its environment; each part gets its own, and those of the servers that it needs.
pub(crate) const NOT_INHERITED: [&str; 9] = [
    "SLIPWAY_ADMIN_TOKEN",
    "SLIPWAY_TOKEN",
    "SLIPWAY_REGISTRY_TOKEN",
    "SLIPWAY_LAUNCHER_TOKEN",
    "SLIPWAY_SERVICES_TOKEN",
    "SLIPWAY_POSTGRES_URL",
    "SLIPWAY_NATS_URL",
    "SLIPWAY_S3_ACCESS_KEY",
    "SLIPWAY_S3_SECRET_KEY",
];

/// One service as `slipway up` runs it.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Name of the service, also of its log file.
    pub(crate) name: &'static str,
    /// Everything that it needs to know; secrets travel here, never on the command line.
    pub(crate) environment: Vec<(&'static str, String)>,
}

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

/// All services, in the order in which they are shown.
pub(crate) fn all(ports: &Ports, credentials: &Credentials, shared: &Shared) -> Vec<Part> {
    let part = |name: &'static str, port: u16, own: Vec<(&'static str, String)>| {
        let mut environment = common(ports, shared);
        environment.extend(access(name, credentials));
        environment.push(("SLIPWAY_LISTEN", address(port)));
        environment.extend(own);
        Part { name, environment }
    };
    let folder = |name: &str| text(&shared.data_dir.join(name));
    vec![
        // Everything is on this machine, and so are the receivers of its webhooks.
        part(
            "registry",
            ports.registry,
            [vec![("SLIPWAY_WEBHOOK_ALLOW_PRIVATE", "true".to_owned())], registry_access(shared)].concat(),
        ),
        part(
            "launcher",
            ports.launcher,
            [vec![("SLIPWAY_DATA_DIR", folder("launcher"))], job_access(shared)].concat(),
        ),
        part(
            "serving",
            ports.serving_http,
            [
                vec![
                    ("SLIPWAY_LISTEN_GRPC", address(ports.serving_grpc)),
                    ("SLIPWAY_LISTEN_METRICS", address(ports.serving_metrics)),
                    ("SLIPWAY_CACHE_DIR", folder("serving")),
                    ("SLIPWAY_ONNXRUNTIME_LIB", text(&shared.onnxruntime)),
                ],
                reader_access(shared),
            ]
            .concat(),
        ),
        part("rollout-controller", ports.rollout_controller, reader_access(shared)),
        part("drift-monitor", ports.drift_monitor, reader_access(shared)),
    ]
}

/// How a service reaches the servers that it needs, as its own user of each.
fn access(service: &str, credentials: &Credentials) -> Vec<(&'static str, String)> {
    let mut environment = vec![("SLIPWAY_NATS_URL", credentials.nats_of(service))];
    if service != "serving" {
        environment.push(("SLIPWAY_POSTGRES_URL", credentials.postgres_of(service)));
    }
    if matches!(service, "registry" | "launcher" | "serving") {
        environment.extend([
            ("SLIPWAY_S3_ENDPOINT", credentials.s3_endpoint.clone()),
            ("SLIPWAY_S3_BUCKET", credentials.s3_bucket.clone()),
            ("SLIPWAY_S3_ACCESS_KEY", credentials.s3_access_key.clone()),
            ("SLIPWAY_S3_SECRET_KEY", credentials.s3_secret_key.clone()),
        ]);
    }
    environment
}

fn common(ports: &Ports, shared: &Shared) -> Vec<(&'static str, String)> {
    let mut environment = vec![
        ("SLIPWAY_REGISTRY_URL", url(ports.registry)),
        ("SLIPWAY_LAUNCHER_URL", url(ports.launcher)),
        ("SLIPWAY_SERVING_URL", url(ports.serving_http)),
        ("SLIPWAY_ROLLOUT_CONTROLLER_URL", url(ports.rollout_controller)),
        ("SLIPWAY_DRIFT_MONITOR_URL", url(ports.drift_monitor)),
        ("SLIPWAY_LOG", shared.log.clone()),
        ("SLIPWAY_LOG_FORMAT", if shared.log_format == LogFormat::Json { "json" } else { "text" }.to_owned()),
    ];
    environment.extend(shared.otlp_endpoint.clone().map(|endpoint| ("SLIPWAY_OTLP_ENDPOINT", endpoint)));
    environment
}

fn text_of(token: &SecretString) -> String {
    token.expose_secret().to_owned()
}

/// Said either way: what this process was started with is not what the registry is to do.
fn registry_access(shared: &Shared) -> Vec<(&'static str, String)> {
    match &shared.tokens {
        Some(tokens) => vec![
            ("SLIPWAY_AUTH", "on".to_owned()),
            ("SLIPWAY_ADMIN_TOKEN", text_of(&tokens.admin)),
            ("SLIPWAY_LAUNCHER_TOKEN", text_of(&tokens.launcher)),
            ("SLIPWAY_SERVICES_TOKEN", text_of(&tokens.services)),
        ],
        None => vec![("SLIPWAY_AUTH", "off".to_owned())],
    }
}

/// With its own token the launcher gets one for each attempt of a job, unless all jobs are given one.
fn job_access(shared: &Shared) -> Vec<(&'static str, String)> {
    let tokens = shared.tokens.iter().map(|tokens| ("SLIPWAY_LAUNCHER_TOKEN", text_of(&tokens.launcher)));
    tokens.chain(shared.job_user.clone().map(|name| ("SLIPWAY_JOB_USER", name))).collect()
}

fn reader_access(shared: &Shared) -> Vec<(&'static str, String)> {
    shared.tokens.iter().map(|tokens| ("SLIPWAY_REGISTRY_TOKEN", text_of(&tokens.services))).collect()
}

pub(crate) fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::ports::CONVENTION;

    fn shared() -> Shared {
        Shared {
            data_dir: "/data".into(),
            onnxruntime: "/lib/libonnxruntime.so".into(),
            otlp_endpoint: None,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            job_user: None,
            tokens: Some(Tokens {
                admin: "admin".to_owned().into(),
                launcher: "launcher".to_owned().into(),
                services: "services".to_owned().into(),
            }),
        }
    }

    #[test]
    fn a_part_gets_the_tokens_that_it_needs_and_each_variable_once() {
        let parts = all(&CONVENTION, &Credentials::default(), &shared());
        for Part { name, environment } in parts {
            let mut variables: Vec<&str> = environment.iter().map(|(variable, _)| *variable).collect();
            variables.sort_unstable();
            let tokens: Vec<&str> =
                variables.iter().copied().filter(|variable| variable.ends_with("_TOKEN")).collect();
            let expected: &[&str] = match name {
                "registry" => &["SLIPWAY_ADMIN_TOKEN", "SLIPWAY_LAUNCHER_TOKEN", "SLIPWAY_SERVICES_TOKEN"],
                "launcher" => &["SLIPWAY_LAUNCHER_TOKEN"],
                _ => &["SLIPWAY_REGISTRY_TOKEN"],
            };
            assert_eq!(tokens, expected, "{name}");
            variables.dedup();
            assert_eq!(variables.len(), environment.len(), "{name}: {variables:?}");
        }
    }
}
