//! `slipway registry`: import, purge and garbage collection.

mod gc;
mod import;
mod purge;

use std::process::ExitCode;

use clap::Subcommand;

use crate::commands::context::Context;
use crate::connection::Connection;

/// See `slipway registry --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copies experiments, runs, artifacts and models of a running MLflow server into the registry.
    ///
    /// Run IDs, logged-model IDs and version numbers stay the same. The command can be interrupted and run
    /// again: what is complete is not copied again. Credentials for the MLflow server come from the
    /// environment, as for MLflow's own client: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
    /// MLFLOW_TRACKING_TOKEN.
    Import(import::Options),
    /// Shows which deleted runs and experiments are old enough to purge; with --yes, purges them permanently.
    ///
    /// Purges runs with their metrics and files, then logged models, then empty experiments. Runs that have a
    /// registered model version are kept, and so are files that a version pins. The command can be
    /// interrupted and run again.
    Purge(purge::Options),
    /// Shows which objects in the bucket are unreferenced; with --yes, deletes them.
    ///
    /// Unreferenced objects are those that were replaced, deleted or purged, remainders of interrupted
    /// uploads, and orphaned objects without a database row, for instance after a restore from a backup. The
    /// command can run during uploads, be interrupted, and run again.
    Gc(gc::Options),
}

pub(crate) fn run(connection: &Connection, command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            // May write to a registry that is not the platform's, and then needs no platform.
            Command::Import(options) => return import::run(connection, options).await,
            Command::Purge(options) => purge::run(&Context::open(connection).await?, &options).await,
            Command::Gc(options) => gc::run(&Context::open(connection).await?, &options).await,
        }?;
        Ok(ExitCode::SUCCESS)
    })
}
