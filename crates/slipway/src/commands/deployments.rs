//! `slipway deployments`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Context, Paging, read_json};
use crate::output;

/// See `slipway deployments --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All deployments.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// One deployment.
    Show {
        /// Deployment name.
        name: String,
    },
    /// Makes a deployment and serves its first version.
    Create {
        /// Name that clients call.
        name: String,
        /// Registered model.
        #[arg(long)]
        model: String,
        /// Version to serve first.
        #[arg(long, conflicts_with = "alias", required_unless_present = "alias")]
        version: Option<String>,
        /// Serve first what this alias points at.
        #[arg(long)]
        alias: Option<String>,
        /// Roll out whatever this alias is pointed at later.
        #[arg(long, value_name = "ALIAS")]
        watch_alias: Option<String>,
        /// Header whose value keeps a client on one version, e.g. x-user-id.
        #[arg(long, value_name = "HEADER")]
        sticky_header: Option<String>,
        /// Strategy of its rollouts: a JSON file, or `-`.
        #[arg(long, value_name = "FILE")]
        strategy: Option<String>,
    },
    /// Sends all traffic back to the version before, or to a named one.
    Rollback {
        /// Deployment name.
        name: String,
        /// Version to go back to.
        #[arg(long)]
        to_version: Option<String>,
    },
    /// Sends requests by their headers, whatever the weights: `[{"name", "when": [{"header", "one_of", "prefix"}], "to": "stable" or
    /// "candidate"}]`. The first rule that holds decides; an empty list takes all of them away.
    Rules {
        /// Deployment name.
        name: String,
        /// The rules: a JSON file, or `-`.
        #[arg(value_name = "FILE")]
        rules: String,
    },
    /// Stops what is on trial, or every answer, at once; a rollout is paused.
    Kill {
        /// Deployment name.
        name: String,
        /// Refuses every request in place of answering with the stable version.
        #[arg(long)]
        refuse: bool,
        /// Why; clients that are refused are told.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Takes a `kill` back. A rollout that it paused goes on when it is resumed.
    Revive {
        /// Deployment name.
        name: String,
    },
    /// Removes a deployment: clients get 404 from then on.
    Delete {
        /// Deployment name.
        name: String,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let controller = context.rollout_controller()?;
    let deployments = ["api", "v1", "deployments"];
    match command {
        Command::List { paging } => {
            let columns = [
                ("DEPLOYMENT", "name"),
                ("MODEL", "model"),
                ("STABLE", "stable_version"),
                ("ROLLOUT", "active_rollout_id"),
                ("WATCHES", "watch_alias"),
            ];
            output::list(
                context.json,
                &controller.get(&deployments, &paging.query()).await?,
                "deployments",
                &columns,
            );
        }
        Command::Show { name } => {
            output::object(context.json, &controller.get(&["api", "v1", "deployments", &name], &[]).await?);
        }
        Command::Create { name, model, version, alias, watch_alias, sticky_header, strategy } => {
            let mut body = json!({"name": name, "model": model});
            let mut set = |field: &str, value: Option<Value>| {
                if let Some(value) = value {
                    body[field] = value;
                }
            };
            set("version", version.map(Value::from));
            set("alias", alias.map(Value::from));
            set("watch_alias", watch_alias.map(Value::from));
            set("sticky_key", sticky_header.map(|header| json!({"header": header})));
            set("default_strategy", strategy.map(|file| read_json(&file)).transpose()?);
            output::object(context.json, &controller.send(Method::POST, &deployments, Some(&body)).await?);
        }
        Command::Rollback { name, to_version } => {
            let body = to_version.map_or_else(|| json!({}), |version| json!({"to_version": version}));
            let path = ["api", "v1", "deployments", &name, "rollback"];
            output::object(context.json, &controller.send(Method::POST, &path, Some(&body)).await?);
        }
        Command::Rules { name, rules } => {
            let body = json!({"rules": read_json(&rules)?});
            let path = ["api", "v1", "deployments", &name, "rules"];
            output::object(context.json, &controller.send(Method::PUT, &path, Some(&body)).await?);
        }
        Command::Kill { name, refuse, reason } => {
            let body = json!({"mode": if refuse { "refuse" } else { "stable-only" }, "reason": reason});
            let path = ["api", "v1", "deployments", &name, "kill-switch"];
            output::object(context.json, &controller.send(Method::PUT, &path, Some(&body)).await?);
        }
        Command::Revive { name } => {
            let path = ["api", "v1", "deployments", &name, "kill-switch"];
            output::object(context.json, &controller.send(Method::DELETE, &path, None).await?);
        }
        Command::Delete { name } => {
            controller.send(Method::DELETE, &["api", "v1", "deployments", &name], None).await?;
            println!("deployment {name} is gone");
        }
    }
    Ok(())
}
