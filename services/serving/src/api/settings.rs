//! What clients may look at and change while the process runs.

use slipway_telemetry::TelemetryConfig;

use crate::api::log_settings::LogSettings;
use crate::api::trace_settings::TraceSettings;

/// What this process logs and traces.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What it logs.
    pub(crate) log: LogSettings,
    /// What it traces.
    pub(crate) trace: TraceSettings,
}

impl Settings {
    /// The settings of a process that was started with `telemetry`.
    pub(crate) fn new(telemetry: &TelemetryConfig) -> Self {
        Self { log: LogSettings::new(telemetry), trace: TraceSettings::new(telemetry) }
    }
}
