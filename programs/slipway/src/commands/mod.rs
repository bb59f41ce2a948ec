//! Commands over the public APIs.

mod audit;
mod deployments;
mod deployments_update;
mod events;
mod follow;
mod grants;
mod jobs;
mod models;
mod models_reports;
mod models_signing;
mod models_trust;
mod monitors;
mod predict;
mod retention;
mod rollouts;
mod runs;
mod tokens;
mod webhooks;

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use secrecy::SecretString;
use serde_json::Value;

use crate::cli::Connection;
use crate::client::Client;
use crate::{Endpoints, token};

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

/// Paging of a list.
#[derive(Debug, Clone, Args)]
pub struct Paging {
    /// Maximum number of items.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Continues after the page that printed this token.
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
}

impl Paging {
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(self.page_token.clone().map(|token| ("page_token", token)));
        query
    }
}

/// What a command works with.
pub(crate) struct Context {
    pub(crate) endpoints: Endpoints,
    pub(crate) json: bool,
    /// For the registry.
    token: Option<SecretString>,
}

impl Context {
    pub(crate) fn registry(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.endpoints.registry)?.with_token(self.token.clone()))
    }
    pub(crate) fn launcher(&self) -> anyhow::Result<Client> {
        Client::new(&self.endpoints.launcher)
    }
    pub(crate) fn serving(&self) -> anyhow::Result<Client> {
        let token = std::env::var("SLIPWAY_SERVING_TOKEN").ok().map(SecretString::from);
        Ok(Client::new(&self.endpoints.serving_http)?.with_token(token))
    }
    pub(crate) fn rollout_controller(&self) -> anyhow::Result<Client> {
        let actor = ["USER", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
        Ok(Client::new(&self.endpoints.rollout_controller)?.acting_as(actor))
    }
    pub(crate) fn drift_monitor(&self) -> anyhow::Result<Client> {
        Client::new(&self.endpoints.drift_monitor)
    }
}

pub(crate) fn run(connection: &Connection, command: ClientCommand) -> anyhow::Result<ExitCode> {
    let endpoints = Endpoints::read(&connection.data_dir)?;
    let context =
        Context { endpoints, json: connection.json, token: token::for_platform(&connection.data_dir) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
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
            ClientCommand::Events(command) => events::run(&connection.data_dir, &context, command).await,
        }?;
        Ok(ExitCode::SUCCESS)
    })
}

/// JSON from a file, or from standard input for `-`.
pub(crate) fn read_json(path: &str) -> anyhow::Result<Value> {
    let mut text = String::new();
    if path == "-" {
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    }
    serde_json::from_str(&text).with_context(|| format!("{path} is not valid JSON"))
}
