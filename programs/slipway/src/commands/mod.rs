//! Commands over the public APIs.

mod audit;
pub(crate) mod backup;
mod context;
mod deployments;
pub(crate) mod doctor;
mod events;
mod follow;
mod grants;
mod jobs;
pub(crate) mod lint;
pub(crate) mod migrate;
mod models;
mod monitors;
mod predict;
pub(crate) mod registry;
mod retention;
mod rollouts;
mod runs;
pub(crate) mod serving_tokens;
mod tokens;
mod webhooks;

use std::process::ExitCode;

use clap::Subcommand;

use crate::connection::Connection;
use context::Context;

/// Commands that ask a running platform.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Manages registered models, their versions, aliases, signatures and reports.
    #[command(subcommand)]
    Models(models::Command),
    /// Shows training runs.
    #[command(subcommand)]
    Runs(runs::Command),
    /// Submits, cancels and shows training jobs.
    #[command(subcommand)]
    Jobs(jobs::Command),
    /// Manages deployments: named inference endpoints, each serving a model.
    #[command(subcommand)]
    Deployments(deployments::Command),
    /// Manages rollouts from one version of a deployment to another.
    #[command(subcommand)]
    Rollouts(rollouts::Command),
    /// Manages drift monitors.
    #[command(subcommand)]
    Monitors(monitors::Command),
    /// Manages tokens that authenticate callers of the registry.
    #[command(subcommand)]
    Tokens(tokens::Command),
    /// Manages roles of principals and groups in the registry.
    #[command(subcommand)]
    Grants(grants::Command),
    /// Shows the principal of the current token and its roles in the registry.
    Whoami,
    /// Shows and verifies the audit trail of the registry: every write, chained by hashes.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Sends rows to a deployment and prints the predictions, one line per row.
    Predict(predict::Options),
    /// Shows the events of all services.
    #[command(subcommand)]
    Events(events::Command),
    /// Manages webhooks: HTTP calls to a receiver when events occur.
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Manages retention rules, which archive or delete old runs and versions.
    #[command(subcommand)]
    Retention(retention::Command),
}

pub(crate) fn run(connection: &Connection, command: ClientCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = Context::open(connection).await?;
        match command {
            ClientCommand::Models(command) => models::run(&context, command).await,
            ClientCommand::Runs(command) => runs::run(&context, command).await,
            ClientCommand::Jobs(command) => jobs::run(&context, command).await,
            ClientCommand::Deployments(command) => return deployments::run(&context, command).await,
            ClientCommand::Rollouts(command) => return rollouts::run(&context, command).await,
            ClientCommand::Monitors(command) => monitors::run(&context, command).await,
            ClientCommand::Tokens(command) => tokens::run(&context, command).await,
            ClientCommand::Grants(command) => grants::run(&context, command).await,
            ClientCommand::Whoami => grants::whoami(&context).await,
            ClientCommand::Audit(command) => audit::run(&context, command).await,
            ClientCommand::Predict(options) => predict::run(&context, &options).await,
            ClientCommand::Webhooks(command) => webhooks::run(&context, command).await,
            ClientCommand::Retention(command) => retention::run(&context, command).await,
            ClientCommand::Events(command) => events::run(&context, command).await,
        }?;
        Ok(ExitCode::SUCCESS)
    })
}
