//! The composition: every service, the servers they stand on, and the command line over the public APIs.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
mod commands;
mod connection;
#[cfg(test)]
mod docs;
mod endpoints;
mod installation;
mod kubernetes;
mod location;
mod output;
mod services;
mod token;
mod up;

use std::process::ExitCode;

use cli::{Arguments, Command};
pub use endpoints::Endpoints;

/// Runs what the arguments ask for; the exit code is 0, 1 for a failure, or 64 for a wrong configuration.
pub fn run(arguments: Arguments) -> ExitCode {
    let outcome = match arguments.command {
        Command::Service(service) => return service.run(),
        Command::Up(options) => up::run(&arguments.connection.data_dir, &options),
        Command::Status => up::status::run(&arguments.connection),
        Command::Down => up::down::run(&arguments.connection.data_dir),
        Command::Setup(options) => up::setup::run(&options),
        Command::Backup(command) => {
            commands::backup::run(&arguments.connection, command).map(|()| ExitCode::SUCCESS)
        }
        Command::Restore(options) => {
            commands::backup::restore(&arguments.connection, &options).map(|()| ExitCode::SUCCESS)
        }
        Command::Registry(command) => commands::registry::run(&arguments.connection, command),
        Command::ServingTokens(command) => commands::serving_tokens::run(arguments.connection.json, command),
        Command::Doctor(options) => commands::doctor::run(&arguments.connection, &options),
        Command::Lint(options) => commands::lint::run(&arguments.connection, &options),
        Command::Migrate(command) => commands::migrate::run(command).map(|()| ExitCode::SUCCESS),
        Command::Client(command) => commands::run(&arguments.connection, command),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::failure(&error);
            ExitCode::FAILURE
        }
    }
}
