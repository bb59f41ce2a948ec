//! Logs and traces: set-up, and W3C trace context through HTTP, gRPC, the outbox and NATS.

pub mod context;
pub mod escape;
mod json;
pub mod logs;
pub mod spans;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
pub use context::{current_traceparent, set_parent};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// How long the last spans may take to leave at shutdown.
const FLUSH_TIMEOUT_MS: u64 = 3_000;
/// How long one export may take.
const EXPORT_TIMEOUT_MS: u64 = 5_000;

/// What is logged, in which form, and where traces go.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logs and traces")]
pub struct TelemetryConfig {
    /// Log filter, e.g. `info` or `info,slipway_registry=debug`.
    #[arg(long, env = "SLIPWAY_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// Log format on standard error.
    #[arg(long, env = "SLIPWAY_LOG_FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,
    /// OTLP/gRPC endpoint for traces, e.g. `http://localhost:4317`. [default: traces are not exported]
    #[arg(long, env = "SLIPWAY_OTLP_ENDPOINT", value_name = "URL", value_parser = otlp_endpoint)]
    pub otlp_endpoint: Option<String>,
    /// Starts a trace for 1 in N requests; 0 disables that. Requests of a sampled caller are always traced.
    #[arg(long, env = "SLIPWAY_TRACE_RATE", default_value_t = 1, value_name = "N")]
    pub trace_rate: u32,
}

/// Traces leave over plain gRPC only.
fn otlp_endpoint(text: &str) -> Result<String, String> {
    let uri = text.parse::<http::Uri>().ok().filter(|uri| uri.scheme() == Some(&http::uri::Scheme::HTTP));
    let has_host = uri.is_some_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    let expected =
        "expected http://HOST:PORT, e.g. http://localhost:4317 (--otlp-endpoint or SLIPWAY_OTLP_ENDPOINT)";
    if has_host { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

/// See [`TelemetryConfig::log_format`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Keeps the exporter alive; [`Guard::flush`] sends what is left.
#[derive(Debug)]
pub struct Guard {
    provider: SdkTracerProvider,
}

impl Guard {
    /// Sends the last spans. Called once, before the process ends.
    pub fn flush(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(Duration::from_millis(FLUSH_TIMEOUT_MS)) {
            tracing::debug!(%error, "last spans not exported");
        }
    }
}

/// Whether spans leave the process.
static EXPORTING: AtomicBool = AtomicBool::new(false);

/// Whether spans leave the process: where they do not, one for each of thousands of requests is not worth its
/// price.
pub fn is_exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// Installs the global subscriber. `service` names this process in traces, e.g. `slipway-registry`.
///
/// Trace ids are made and passed on even where nothing is exported, so that logs and events can be joined.
///
/// # Errors
/// A filter that does not parse, an endpoint that is no URL, or a second call in one process.
pub fn init(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<Guard> {
    let filter = logs::parse(&config.log).context("--log or SLIPWAY_LOG cannot be used")?;
    let mut provider =
        SdkTracerProvider::builder().with_resource(Resource::builder().with_service_name(service).build());
    if let Some(endpoint) = &config.otlp_endpoint {
        EXPORTING.store(true, Ordering::Relaxed);
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(Duration::from_millis(EXPORT_TIMEOUT_MS))
            .build()
            .with_context(|| format!("the OTLP endpoint `{endpoint}` cannot be used (--otlp-endpoint)"))?;
        provider = provider.with_batch_exporter(exporter);
    }
    let provider = provider.build();
    if config.otlp_endpoint.is_some() {
        spans::export(provider.tracer("slipway"), config.trace_rate);
    }
    let (filter, reload) = tracing_subscriber::reload::Layer::new(filter);
    logs::replace_by(Box::new(move |filter| Ok(reload.reload(filter)?)));
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("slipway"))
        .with_filter(EnvFilter::new("info,h2=off,hyper=off,tonic=off,tower=off,sqlx=off,aws=off"));
    let logs = match config.log_format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .fmt_fields(logs::fields())
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .event_format(json::JsonLines::new(service))
            .with_writer(logs::EscapedJson::default)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(logs.with_filter(filter))
        .with(spans)
        .try_init()
        .context("logging was set up twice in one process")?;
    Ok(Guard { provider })
}

#[cfg(test)]
mod tests {
    use super::otlp_endpoint;

    #[test]
    fn an_endpoint_that_traces_cannot_go_to_is_refused() {
        assert_eq!(otlp_endpoint("http://localhost:4317").as_deref(), Ok("http://localhost:4317"));
        for text in ["", "localhost:4317", "https://collector:4317", "ftp://x", "http://"] {
            assert!(otlp_endpoint(text).unwrap_err().contains("SLIPWAY_OTLP_ENDPOINT"), "{text}");
        }
    }
}
