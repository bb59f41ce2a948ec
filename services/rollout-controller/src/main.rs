//! `slipway-rollout-controller`: deployments and their rollouts.

use std::process::ExitCode;

use clap::Parser as _;
use slipway_telemetry::TelemetryConfig;

#[derive(clap::Parser)]
#[command(
    name = "slipway-rollout-controller",
    version,
    about = "Deployments, canary rollouts, analysis, promotion and rollback."
)]
struct Arguments {
    #[command(flatten)]
    telemetry: TelemetryConfig,
    #[command(flatten)]
    config: slipway_rollout_controller::Config,
}

fn main() -> ExitCode {
    if let Some(code) = slipway_service_kit::probe_if_asked() {
        return code;
    }
    let arguments = Arguments::parse();
    let drain_time = arguments.config.listen.drain_seconds;
    slipway_service_kit::main("slipway-rollout-controller", &arguments.telemetry, drain_time, |shutdown| {
        slipway_rollout_controller::run(arguments.config, shutdown)
    })
}
