//! How a service runs in this process.

use std::process::ExitCode;

use clap::{ArgMatches, FromArgMatches};
use slipway_service_kit::main;
use slipway_telemetry::TelemetryConfig;
use tokio_util::sync::CancellationToken;

/// A service that is ready to run until a signal; its exit code.
pub(crate) type Start = Box<dyn FnOnce(&TelemetryConfig) -> ExitCode>;

/// Reads the configuration of a service from its options. `name` is the name of its program.
pub(crate) fn start<C, R>(
    name: &'static str,
    matches: &ArgMatches,
    run: impl FnOnce(C, CancellationToken) -> R + 'static,
) -> Result<Start, clap::Error>
where
    C: FromArgMatches + 'static,
    R: Future<Output = anyhow::Result<()>>,
{
    let config = C::from_arg_matches(matches)?;
    Ok(Box::new(move |telemetry| main(name, telemetry, |shutdown| run(config, shutdown))))
}
