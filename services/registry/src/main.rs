//! `slipway-registry`: experiments, runs, models and their versions.

use std::process::ExitCode;

use clap::Parser as _;
use slipway_telemetry::TelemetryConfig;

#[derive(clap::Parser)]
#[command(
    name = "slipway-registry",
    version,
    about = "Experiments, runs, artifacts, models and their versions."
)]
struct Arguments {
    #[command(flatten)]
    telemetry: TelemetryConfig,
    #[command(flatten)]
    config: slipway_registry::Config,
}

fn main() -> ExitCode {
    if let Some(code) = slipway_service_kit::probe_if_asked() {
        return code;
    }
    let arguments = Arguments::parse();
    let drain_time = arguments.config.listen.drain_seconds;
    slipway_service_kit::main("slipway-registry", &arguments.telemetry, drain_time, |shutdown| {
        slipway_registry::run(arguments.config, shutdown)
    })
}
