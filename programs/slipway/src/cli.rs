//! The arguments of `slipway`.

use clap::{Parser, Subcommand};

use crate::commands::{ClientCommand, backup, doctor, lint, migrate, registry, serving_tokens};
use crate::connection::Connection;
use crate::services::ServiceArguments;
use crate::up::UpOptions;
use crate::up::setup::SetupOptions;

/// A self-hosted MLOps platform: trains, registers, validates, rolls out, serves and monitors models.
#[derive(Debug, Parser)]
#[command(
    name = "slipway",
    version,
    after_help = "Environment: SLIPWAY_TOKEN is the token for the registry and SLIPWAY_SERVING_TOKEN that \
        for serving, where access \
        control is on; the owner of the data directory needs no registry token. TZ sets the time zone of \
        tables.\n\n\
        Exit codes: 0 success, 1 error, 2 invalid arguments, 64 invalid configuration, 141 the reader of the \
        output is gone. \
        Some commands have more: see their --help."
)]
pub struct Arguments {
    /// Location of the platform.
    #[command(flatten)]
    pub connection: Connection,
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// What `slipway` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts Postgres, NATS, S3 and all services on this machine, and restarts each one that ends.
    Up(UpOptions),
    /// Shows which parts of the platform are ready. Exit code 0 if all are, 1 otherwise.
    Status,
    /// Stops the platform and keeps its data.
    Down,
    /// Creates the streams and buckets of a NATS server for services that may not, and exits.
    Setup(SetupOptions),
    /// Runs one service in the foreground.
    Service(ServiceArguments),
    /// Checks this machine, the servers or a Kubernetes cluster, and shows what to do about each finding.
    Doctor(doctor::Options),
    /// Makes, verifies and shows backups of an installation.
    #[command(subcommand)]
    Backup(backup::Command),
    /// Restores a backup into an installation whose services are stopped.
    ///
    /// The installation has to be new, or --replace is required. `slipway up --restore PLACE` restores into a
    /// new platform on this machine. A restore that was interrupted is run again.
    Restore(backup::RestoreArguments),
    /// Imports from MLflow, purges deleted runs, frees storage.
    #[command(subcommand)]
    Registry(registry::Command),
    /// Creates tokens for callers of serving.
    #[command(subcommand)]
    ServingTokens(serving_tokens::Command),
    /// Checks manifests against the schemas of this release, without a cluster.
    Lint(lint::Options),
    /// Prints manifests of other systems as those of Slipway.
    #[command(subcommand)]
    Migrate(migrate::Command),
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
