//! `slipway-drift-monitor`: the service as a program of its own.

use std::process::ExitCode;

use clap::Parser;
use slipway_telemetry::TelemetryConfig;

#[derive(Debug, Parser)]
#[command(
    name = "slipway-drift-monitor",
    version,
    about = "Compares live predictions with the training data."
)]
struct Arguments {
    #[command(flatten)]
    telemetry: TelemetryConfig,
    #[command(flatten)]
    config: slipway_drift_monitor::Config,
}

fn main() -> ExitCode {
    if let Some(code) = slipway_service_kit::probe_if_asked() {
        return code;
    }
    let arguments = Arguments::parse();
    let drain_time = arguments.config.listen.drain_seconds;
    slipway_service_kit::main("slipway-drift-monitor", &arguments.telemetry, drain_time, |shutdown| {
        slipway_drift_monitor::run(arguments.config, shutdown)
    })
}
