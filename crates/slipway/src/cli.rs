//! The arguments of `slipway`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::ClientCommand;
use crate::services::ServiceArguments;
use crate::up::UpOptions;

/// One self-hosted MLOps platform: train, register, validate, roll out, serve, watch, roll back, retrain.
#[derive(Debug, Parser)]
#[command(
    name = "slipway",
    version,
    after_help = "SLIPWAY_TOKEN holds the token for a registry whose access is on; a platform's owner needs none on its machine."
)]
pub struct Arguments {
    /// Where the platform is, for commands that ask it something.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where a running platform is.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Data directory of the platform on this machine; its `endpoints.json` says where everything is.
    #[arg(long, global = true, env = "SLIPWAY_HOME", default_value = ".slipway", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// JSON for scripts instead of tables for people.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What `slipway` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts the servers and all services on this machine, and keeps them running.
    Up(UpOptions),
    /// Says which parts of the platform are ready. Exit code 0: all of them.
    Status,
    /// Stops the platform; its data stays.
    Down,
    /// Runs one service in this process.
    Service(ServiceArguments),
    /// The registry as a whole.
    #[command(subcommand)]
    Registry(crate::registry::Command),
    /// Tokens that serving asks callers for.
    #[command(subcommand)]
    ServingTokens(crate::serving_tokens::Command),
    /// Commands over the public APIs.
    #[command(flatten)]
    Client(ClientCommand),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_of_every_command_fit_together() {
        Arguments::command().debug_assert();
    }
}
