//! The `slipway-serving` binary.

use std::process::ExitCode;

use clap::Parser as _;
use slipway_telemetry::TelemetryConfig;

/// Serves model versions over the Open Inference Protocol, split by the traffic table.
#[derive(clap::Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    telemetry: TelemetryConfig,
    #[command(flatten)]
    config: slipway_serving::Config,
}

fn main() -> ExitCode {
    if let Some(code) = slipway_service_kit::probe_if_asked() {
        return code;
    }
    if let Some(code) = slipway_serving::load_model_if_asked() {
        return code;
    }
    let mut arguments = Arguments::parse();
    arguments.config.telemetry = Some(arguments.telemetry.clone());
    let drain_time = arguments.config.drain_delay();
    slipway_service_kit::main("slipway-serving", &arguments.telemetry, drain_time, |shutdown| {
        slipway_serving::run(arguments.config, shutdown)
    })
}
