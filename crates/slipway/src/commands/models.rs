//! `slipway models`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Context, Paging, models_trust, read_json};
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
    /// The model card of a version, as Markdown: what it is, where it came from, how it scored, what is known against it.
    Card {
        /// Registered model.
        model: String,
        /// Version number.
        version: String,
    },
    /// Where a version came from, what is known of it, and where it is deployed.
    Lineage {
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
    /// Guards an alias: it only ever points at versions that pass the rules.
    Guard {
        /// Registered model.
        model: String,
        /// The alias, e.g. champion.
        alias: String,
        /// The policy as JSON, {"rules": [{"rule": "metric-at-least", "metric": "accuracy", "value": 0.9}]}; - for standard
        /// input.
        file: String,
    },
    /// Takes the guard of an alias away.
    Unguard {
        /// Registered model.
        model: String,
        /// The alias.
        alias: String,
    },
    /// Says which rules of an alias's guard a version passes, without setting the alias.
    Check {
        /// Registered model.
        model: String,
        /// Version number.
        version: String,
        /// The alias, e.g. champion.
        alias: String,
    },
    /// Signatures, reports and approvals.
    #[command(flatten)]
    Trust(models_trust::Command),
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
        Command::Card { model, version } => {
            let path = ["api", "v1", "models", &model, "versions", &version, "card"];
            if context.json {
                output::json(&registry.get(&path, &[]).await?);
            } else {
                registry.stream(&path, &[("format", "markdown".to_owned())]).await?;
            }
        }
        Command::Lineage { model, version } => {
            let path = ["api", "v1", "models", &model, "versions", &version, "lineage"];
            output::object(context.json, &registry.get(&path, &[]).await?);
        }
        Command::SetAlias { model, alias, version } => {
            let body = json!({"name": model, "alias": alias, "version": version});
            let path = ["api", "2.0", "mlflow", "registered-models", "alias"];
            registry.send(Method::POST, &path, Some(&body)).await?;
            println!("{model}@{alias} → version {version}");
        }
        Command::Guard { model, alias, file } => {
            let path = ["api", "v1", "models", &model, "policies", &alias];
            let answer = registry.send(Method::PUT, &path, Some(&read_json(&file)?)).await?;
            if context.json {
                output::json(&answer);
            } else {
                let rules = answer["rules"].as_array().map_or(0, Vec::len);
                println!("{model}@{alias} is guarded by {rules} rules");
            }
        }
        Command::Unguard { model, alias } => {
            let path = ["api", "v1", "models", &model, "policies", &alias];
            registry.send(Method::DELETE, &path, None).await?;
            println!("{model}@{alias} is not guarded any more");
        }
        Command::Check { model, version, alias } => {
            let path = ["api", "v1", "models", &model, "versions", &version, "promotion"];
            show_check(context.json, &registry.get(&path, &[("alias", alias)]).await?);
        }
        Command::Trust(command) => models_trust::run(context, command).await?,
    }
    Ok(())
}

fn show_check(as_json: bool, answer: &Value) {
    if as_json {
        return output::json(answer);
    }
    if answer["guarded"] != true {
        println!("nothing guards this alias: any version may have it");
        return;
    }
    output::list(false, answer, "rules", &[("RULE", "rule.rule"), ("PASSED", "passed"), ("FOUND", "detail")]);
    println!(
        "{}",
        if answer["allowed"] == true { "it may have the alias" } else { "it may not have the alias" }
    );
}
