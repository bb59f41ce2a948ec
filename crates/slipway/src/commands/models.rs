//! `slipway models`.

use clap::Subcommand;
use serde_json::json;

use super::{Context, Paging};
use crate::output;

/// See `slipway models --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All registered models.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// One model.
    Show {
        /// Registered model.
        model: String,
    },
    /// The versions of a model.
    Versions {
        /// Registered model.
        model: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// One version: digest, signature, files, lineage.
    Version {
        /// Registered model.
        model: String,
        /// Version number.
        version: String,
    },
    /// Points an alias at a version; a deployment that watches the alias rolls it out.
    SetAlias {
        /// Registered model.
        model: String,
        /// The alias, e.g. champion.
        alias: String,
        /// Version number.
        version: String,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let registry = context.registry()?;
    match command {
        Command::List { paging } => {
            let answer = registry.get(&["api", "v1", "models"], &paging.query()).await?;
            let columns = [
                ("MODEL", "name"),
                ("LATEST", "latest_version"),
                ("ALIASES", "aliases"),
                ("DESCRIPTION", "description"),
            ];
            output::list(context.json, &answer, "models", &columns);
        }
        Command::Show { model } => {
            output::object(context.json, &registry.get(&["api", "v1", "models", &model], &[]).await?);
        }
        Command::Versions { model, paging } => {
            let answer = registry.get(&["api", "v1", "models", &model, "versions"], &paging.query()).await?;
            let columns = [
                ("VERSION", "version"),
                ("STATUS", "status"),
                ("SERVABLE", "servable"),
                ("ALIASES", "aliases"),
                ("RUN", "run_id"),
                ("DIGEST", "digest"),
            ];
            output::list(context.json, &answer, "versions", &columns);
        }
        Command::Version { model, version } => {
            let answer = registry.get(&["api", "v1", "models", &model, "versions", &version], &[]).await?;
            output::object(context.json, &answer);
        }
        Command::SetAlias { model, alias, version } => {
            let body = json!({"name": model, "alias": alias, "version": version});
            let path = ["api", "2.0", "mlflow", "registered-models", "alias"];
            registry.send(reqwest::Method::POST, &path, Some(&body)).await?;
            println!("{model}@{alias} → version {version}");
        }
    }
    Ok(())
}
