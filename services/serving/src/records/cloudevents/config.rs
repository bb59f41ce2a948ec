//! Settings of CloudEvents.

use std::path::PathBuf;

/// Where requests and answers go as CloudEvents.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "CloudEvents")]
pub struct CloudEventsConfig {
    /// HTTP address that gets each request and each answer as a CloudEvent, as KServe's logger sends them. Without this and the next:
    /// none are made.
    #[arg(
        long,
        env = "SLIPWAY_SERVING_CLOUDEVENTS_URL",
        value_name = "URL",
        conflicts_with = "cloudevents_subject"
    )]
    pub cloudevents_url: Option<String>,
    /// NATS subject that gets them instead, each as one JSON object.
    #[arg(long, env = "SLIPWAY_SERVING_CLOUDEVENTS_SUBJECT", value_name = "SUBJECT")]
    pub cloudevents_subject: Option<String>,
    /// File of headers that the HTTP address gets with each of them, such as `Authorization: Bearer …`, one a line; it is read again when
    /// it changes.
    #[arg(
        long,
        env = "SLIPWAY_SERVING_CLOUDEVENTS_HEADER_FILE",
        value_name = "FILE",
        requires = "cloudevents_url"
    )]
    pub cloudevents_header_file: Option<PathBuf>,
    /// Certificates, PEM, of which one has to have signed that of an https:// address; read again when it changes. Without it: those that
    /// the system trusts.
    #[arg(long, env = "SLIPWAY_SERVING_CLOUDEVENTS_CA", value_name = "FILE", requires = "cloudevents_url")]
    pub cloudevents_ca: Option<PathBuf>,
    /// Which of them are sent.
    #[arg(long, env = "SLIPWAY_SERVING_CLOUDEVENTS_MODE", default_value = "all", value_enum)]
    pub cloudevents_mode: EventsMode,
    /// What they say as their namespace.
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
