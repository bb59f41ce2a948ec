//! The services as child processes: how each is started, and where it says that it is ready.

use std::path::{Path, PathBuf};

use slipway_telemetry::LogFormat;

use super::credentials::Credentials;
use super::ports::Ports;

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
}

/// All services, in the order in which they are shown.
pub(crate) fn all(ports: &Ports, credentials: &Credentials, shared: &Shared) -> Vec<Part> {
    let part = |name: &'static str, port: u16, own: Vec<(&'static str, String)>| {
        let mut environment = common(ports, credentials, shared);
        environment.push(("SLIPWAY_LISTEN", address(port)));
        environment.extend(own);
        Part { name, environment }
    };
    let folder = |name: &str| text(&shared.data_dir.join(name));
    vec![
        // Everything is on this machine, and so are the receivers of its webhooks.
        part("registry", ports.registry, vec![("SLIPWAY_WEBHOOK_ALLOW_PRIVATE", "true".to_owned())]),
        part("launcher", ports.launcher, vec![("SLIPWAY_DATA_DIR", folder("launcher"))]),
        part(
            "serving",
            ports.serving_http,
            vec![
                ("SLIPWAY_LISTEN_GRPC", address(ports.serving_grpc)),
                ("SLIPWAY_LISTEN_METRICS", address(ports.serving_metrics)),
                ("SLIPWAY_CACHE_DIR", folder("serving")),
                ("SLIPWAY_ONNXRUNTIME_LIB", text(&shared.onnxruntime)),
            ],
        ),
        part("rollout-controller", ports.rollout_controller, Vec::new()),
        part("drift-monitor", ports.drift_monitor, Vec::new()),
    ]
}

fn common(ports: &Ports, credentials: &Credentials, shared: &Shared) -> Vec<(&'static str, String)> {
    let mut environment = vec![
        ("SLIPWAY_POSTGRES_URL", credentials.postgres_url.clone()),
        ("SLIPWAY_NATS_URL", credentials.nats_url.clone()),
        ("SLIPWAY_S3_ENDPOINT", credentials.s3_endpoint.clone()),
        ("SLIPWAY_S3_BUCKET", credentials.s3_bucket.clone()),
        ("SLIPWAY_S3_ACCESS_KEY", credentials.s3_access_key.clone()),
        ("SLIPWAY_S3_SECRET_KEY", credentials.s3_secret_key.clone()),
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

pub(crate) fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
