//! `slipway service <name>`: one service in this process, the same code as in its own program.

use std::fmt;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use slipway_telemetry::TelemetryConfig;

use super::SERVICES;
use super::start::Start;
use crate::connection::PLATFORM_DATA_DIR;

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

/// Keeps the data directory of the platform from a service that has an option `--data-dir` of its own: clap
/// passes global options on to subcommands, unless they have one with the same id.
fn without_platform_folder(service: Command) -> Command {
    let long = |argument: &Arg| argument.get_long().map(str::to_owned);
    if service.get_arguments().any(|argument| long(argument).as_deref() == Some("data-dir")) {
        service.arg(Arg::new(PLATFORM_DATA_DIR).long("platform-data-dir").hide(true))
    } else {
        service
    }
}

impl Args for ServiceArguments {
    fn augment_args(command: Command) -> Command {
        let command = TelemetryConfig::augment_args(command);
        let services = SERVICES.iter().map(|service| {
            let own = (service.options)(Command::new(service.name));
            // The options bring a description of their own.
            without_platform_folder(own.about(service.about).long_about(None))
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::cli::Arguments;

    fn folder_of_the_launcher(arguments: &[&str]) -> String {
        let matches = Arguments::command().get_matches_from(arguments);
        let (_, service) = matches.subcommand().unwrap();
        let (_, launcher) = service.subcommand().unwrap();
        launcher.get_one::<std::path::PathBuf>("data_dir").unwrap().display().to_string()
    }

    #[test]
    fn the_folder_of_the_launcher_is_not_that_of_the_platform() {
        let platform = ["slipway", "--data-dir", "/platform", "service", "launcher"];
        let default = folder_of_the_launcher(&["slipway", "service", "launcher"]);
        assert_eq!(folder_of_the_launcher(&platform), default);
        let both = [&platform[..], &["--data-dir", "/own"]].concat();
        assert_eq!(folder_of_the_launcher(&both), "/own");
    }
}
