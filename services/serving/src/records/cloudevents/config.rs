//! Settings of CloudEvents.

use std::path::PathBuf;

/// Where requests and answers go as CloudEvents.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "CloudEvents")]
pub struct CloudEventsConfig {
    /// HTTP URL that receives each request and each answer as a CloudEvent, in the form of KServe's
    /// logger. If neither this nor the NATS subject is set, no CloudEvents are sent.
    #[arg(
        long,
        env = "SLIPWAY_SERVING_CLOUDEVENTS_URL",
        value_name = "URL",
        conflicts_with = "cloudevents_subject"
    )]
    pub cloudevents_url: Option<String>,
    /// NATS subject that receives the CloudEvents instead, each as one JSON object.
    #[arg(long, env = "SLIPWAY_SERVING_CLOUDEVENTS_SUBJECT", value_name = "SUBJECT")]
    pub cloudevents_subject: Option<String>,
    /// File of HTTP headers sent with each CloudEvent, such as `Authorization: Bearer …`, one per line.
    /// The file is read again when it changes.
    #[arg(
        long,
        env = "SLIPWAY_SERVING_CLOUDEVENTS_HEADER_FILE",
        value_name = "FILE",
        requires = "cloudevents_url"
    )]
    pub cloudevents_header_file: Option<PathBuf>,
    /// PEM file with the certificate authorities that are trusted for an https:// URL; read again when it
    /// changes. [default: the system's]
    #[arg(long, env = "SLIPWAY_SERVING_CLOUDEVENTS_CA", value_name = "FILE", requires = "cloudevents_url")]
    pub cloudevents_ca: Option<PathBuf>,
    /// Which CloudEvents are sent.
    #[arg(long, env = "SLIPWAY_SERVING_CLOUDEVENTS_MODE", default_value = "all", value_enum)]
    pub cloudevents_mode: EventsMode,
    /// Namespace that the CloudEvents carry.
    #[arg(
        long,
        env = "SLIPWAY_SERVING_CLOUDEVENTS_NAMESPACE",
        default_value = "default",
        value_name = "NAME"
    )]
    pub cloudevents_namespace: String,
}

/// See [`CloudEventsConfig::cloudevents_mode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum EventsMode {
    /// Requests and answers.
    #[default]
    All,
    /// Requests only.
    Request,
    /// Answers only.
    Response,
}
