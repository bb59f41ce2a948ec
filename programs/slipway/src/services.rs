//! `slipway service <name>`: one service in this process, the same code as in its own binary.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use slipway_telemetry::TelemetryConfig;

/// Arguments of `slipway service`.
#[derive(Debug, Args)]
pub struct ServiceArguments {
    #[command(flatten)]
    telemetry: TelemetryConfig,
    #[command(subcommand)]
    service: Service,
}

#[derive(Debug, Subcommand)]
enum Service {
    /// Runs the registry: experiments, runs, models, versions, aliases, artifacts.
    Registry(Box<slipway_registry::Config>),
    /// Runs the launcher: training jobs, attempts, checkpoints.
    Launcher(Box<slipway_launcher::Config>),
    /// Runs serving: inference over REST and gRPC.
    Serving(Box<slipway_serving::Config>),
    /// Runs the rollout controller: deployments and rollouts.
    RolloutController(Box<slipway_rollout_controller::Config>),
    /// Runs the drift monitor: monitors, windows, drift.
    DriftMonitor(Box<slipway_drift_monitor::Config>),
}

pub(crate) fn run(arguments: ServiceArguments) -> ExitCode {
    use slipway_service_kit::main;
    let telemetry = arguments.telemetry;
    match arguments.service {
        Service::Registry(config) => {
            main("slipway-registry", &telemetry, |shutdown| slipway_registry::run(*config, shutdown))
        }
        Service::Launcher(config) => {
            main("slipway-launcher", &telemetry, |shutdown| slipway_launcher::run(*config, shutdown))
        }
        Service::Serving(mut config) => {
            config.telemetry = Some(telemetry.clone());
            main("slipway-serving", &telemetry, |shutdown| slipway_serving::run(*config, shutdown))
        }
        Service::RolloutController(config) => main("slipway-rollout-controller", &telemetry, |shutdown| {
            slipway_rollout_controller::run(*config, shutdown)
        }),
        Service::DriftMonitor(config) => main("slipway-drift-monitor", &telemetry, |shutdown| {
            slipway_drift_monitor::run(*config, shutdown)
        }),
    }
}
