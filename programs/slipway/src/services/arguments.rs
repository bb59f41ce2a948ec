//! `slipway service <name>`: one service in this process, the same code as in its own program.

use std::fmt;
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use slipway_telemetry::TelemetryConfig;

use super::SERVICES;
use super::start::Start;

/// Arguments of `slipway service`: telemetry, and a subcommand per service.
pub struct ServiceArguments {
    telemetry: TelemetryConfig,
    start: Start,
}

impl ServiceArguments {
    /// Runs the service until a signal.
    pub(crate) fn run(self) -> ExitCode {
        (self.start)(&self.telemetry)
    }
}

impl fmt::Debug for ServiceArguments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServiceArguments").field("telemetry", &self.telemetry).finish_non_exhaustive()
    }
}

impl Args for ServiceArguments {
    fn augment_args(command: Command) -> Command {
        let command = TelemetryConfig::augment_args(command);
        let services = SERVICES.iter().map(|service| {
            let own = (service.options)(Command::new(service.name));
            // The options bring a description of their own.
            own.about(service.about).long_about(None)
        });
        command.subcommand_required(true).arg_required_else_help(true).subcommands(services)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServiceArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let telemetry = TelemetryConfig::from_arg_matches(matches)?;
        let missing = || clap::Error::raw(clap::error::ErrorKind::MissingSubcommand, "expected a service");
        let (name, options) = matches.subcommand().ok_or_else(missing)?;
        let service = SERVICES.iter().find(|service| service.name == name).ok_or_else(missing)?;
        Ok(Self { telemetry, start: (service.prepare)(options)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
