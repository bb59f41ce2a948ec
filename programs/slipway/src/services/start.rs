//! How a service runs in this process.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, FromArgMatches};
use slipway_service_kit::main;
use slipway_telemetry::TelemetryConfig;
use tokio_util::sync::CancellationToken;

/// A service that is ready to run until a signal; its exit code.
pub(crate) type Start = Box<dyn FnOnce(&TelemetryConfig) -> ExitCode>;

/// Reads the configuration of a service from its options. `name` is the name of its program, `drain_time` the
/// time for which the service continues to answer after a signal.
pub(crate) fn start<C, R>(
    name: &'static str,
    matches: &ArgMatches,
    drain_time: fn(&C) -> Duration,
    run: impl FnOnce(C, CancellationToken) -> R + 'static,
) -> Result<Start, clap::Error>
where
    C: FromArgMatches + 'static,
    R: Future<Output = anyhow::Result<()>>,
{
    let config = C::from_arg_matches(matches)?;
    let drain_time = drain_time(&config);
    Ok(Box::new(move |telemetry| main(name, telemetry, drain_time, |shutdown| run(config, shutdown))))
}
