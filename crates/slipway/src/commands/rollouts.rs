//! `slipway rollouts`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::{Context, Paging, read_json};
use crate::output;

/// See `slipway rollouts --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Rollouts, the newest first.
    List {
        /// Only those of this deployment.
        #[arg(long)]
        deployment: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// One rollout with its decisions and why they were taken.
    Show {
        /// Rollout id.
        rollout: String,
    },
    /// Rolls a version out.
    Start {
        /// Deployment name.
        deployment: String,
        /// Version of its model.
        version: String,
        /// Strategy: a JSON file, or `-`; the deployment's own without it.
        #[arg(long, value_name = "FILE")]
        strategy: Option<String>,
    },
    /// Goes to 100 % at once.
    Promote {
        /// Rollout id.
        rollout: String,
    },
    /// Stays at the present weight.
    Pause {
        /// Rollout id.
        rollout: String,
    },
    /// Goes on after a pause.
    Resume {
        /// Rollout id.
        rollout: String,
    },
    /// Ends it: all traffic back to stable.
    Abort {
        /// Rollout id.
        rollout: String,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let controller = context.rollout_controller()?;
    let (rollout, verb) = match command {
        Command::List { deployment, paging } => {
            let mut query = paging.query();
            query.extend(deployment.map(|name| ("deployment", name)));
            let columns = [
                ("ROLLOUT", "id"),
                ("DEPLOYMENT", "deployment"),
                ("FROM", "from_version"),
                ("TO", "to_version"),
                ("PHASE", "phase"),
                ("WEIGHT", "weight_percent"),
                ("REASON", "reason"),
            ];
            let answer = controller.get(&["api", "v1", "rollouts"], &query).await?;
            output::list(context.json, &answer, "rollouts", &columns);
            return Ok(());
        }
        Command::Show { rollout } => {
            let answer = controller.get(&["api", "v1", "rollouts", &rollout], &[]).await?;
            output::object(context.json, &answer);
            return Ok(());
        }
        Command::Start { deployment, version, strategy } => {
            let mut body = json!({"version": version});
            if let Some(file) = strategy {
                body["strategy"] = read_json(&file)?;
            }
            let path = ["api", "v1", "deployments", &deployment, "rollouts"];
            output::object(context.json, &controller.send(Method::POST, &path, Some(&body)).await?);
            return Ok(());
        }
        Command::Promote { rollout } => (rollout, "promote"),
        Command::Pause { rollout } => (rollout, "pause"),
        Command::Resume { rollout } => (rollout, "resume"),
        Command::Abort { rollout } => (rollout, "abort"),
    };
    let path = ["api", "v1", "rollouts", &rollout, verb];
    output::object(context.json, &controller.send(Method::POST, &path, Some(&json!({}))).await?);
    Ok(())
}
