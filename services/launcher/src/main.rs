//! `slipway-launcher`: runs training jobs.

use std::process::ExitCode;

use clap::Parser as _;
use slipway_telemetry::TelemetryConfig;

#[derive(clap::Parser)]
#[command(
    name = "slipway-launcher",
    version,
    about = "Runs training jobs: attempts, logs, retries, checkpoints."
)]
struct Arguments {
    #[command(flatten)]
    telemetry: TelemetryConfig,
    #[command(flatten)]
    config: slipway_launcher::Config,
}

fn main() -> ExitCode {
    if let Some(code) = slipway_service_kit::probe_if_asked() {
        return code;
    }
    let arguments = Arguments::parse();
    let drain_time = arguments.config.listen.drain_seconds;
    slipway_service_kit::main("slipway-launcher", &arguments.telemetry, drain_time, |shutdown| {
        slipway_launcher::run(arguments.config, shutdown)
    })
}
