//! `slipway models`.

mod reports;
mod signing;
mod trust;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::commands::context::{Context, Paging, read_json};
use crate::output::{self, outln};

/// See `slipway models --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists registered models.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows a model.
    Show {
        /// Registered model.
        model: String,
    },
    /// Lists the versions of a model.
    Versions {
        /// Registered model.
        model: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows a version: its digest, signature, files and run.
    Version {
        /// Registered model.
        model: String,
        /// Version number.
        version: String,
    },
    /// Prints the model card of a version as Markdown: signature, metrics, run, data sets and known problems.
    Card {
        /// Registered model.
        model: String,
        /// Version number.
        version: String,
    },
    /// Shows the lineage of a version: its run, job and data sets, its reports, and its deployments.
    Lineage {
        /// Registered model.
        model: String,
        /// Version number.
        version: String,
    },
    /// Points an alias at a version. Deployments that watch the alias roll the version out.
    SetAlias {
        /// Registered model.
        model: String,
        /// Alias, e.g. champion.
        alias: String,
        /// Version number.
        version: String,
    },
    /// Gives a model another name. Its versions and aliases stay, and deployments, alias watches and monitors follow.
    Rename {
        /// Registered model.
        model: String,
        /// The name from now on.
        new_name: String,
    },
    /// Deletes a version, or a model with all its versions. Refused while a deployment serves it.
    Delete {
        /// Registered model.
        model: String,
        /// Version number; if unset, the model and all its versions are deleted.
        version: Option<String>,
        /// Deletes it although deployments serve it; needs the role admin on the model. Replicas that have it go on; replicas
        /// that start later cannot load it.
        #[arg(long)]
        force: bool,
    },
    /// Guards an alias with a policy: the registry refuses versions that do not pass its rules.
    Guard {
        /// Registered model.
        model: String,
        /// Alias, e.g. champion.
        alias: String,
        /// JSON file with the policy, e.g. {"rules": [{"rule": "metric-at-least", "metric": "accuracy", "value": 0.9}]}, or `-`
        /// for standard input.
        file: String,
    },
    /// Removes the policy of an alias.
    Unguard {
        /// Registered model.
        model: String,
        /// Alias.
        alias: String,
    },
    /// Shows which rules of an alias's policy a version passes, without setting the alias.
    Check {
        /// Registered model.
        model: String,
        /// Version number.
        version: String,
        /// Alias, e.g. champion.
        alias: String,
    },
    /// Manages signatures, reports and approvals.
    #[command(flatten)]
    Trust(trust::Command),
}

/// Columns of the list of models.
const MODEL_COLUMNS: [(&str, &str); 7] = [
    ("MODEL", "name"),
    ("LATEST", "latest_version"),
    ("SERVABLE", "latest_servable"),
    ("SCAN", "latest_scan_verdict"),
    ("CODE", "latest_loader_code"),
    ("ALIASES", "aliases"),
    ("DESCRIPTION", "description"),
];

/// Columns of the list of versions.
const VERSION_COLUMNS: [(&str, &str); 10] = [
    ("VERSION", "version"),
    ("STATUS", "status"),
    ("SERVABLE", "servable"),
    ("SCAN", "scan_verdict"),
    ("CODE", "loader_code"),
    ("JOINED", "joining.row_wise"),
    ("ALIASES", "aliases"),
    ("RUN", "run_id"),
    ("DIGEST", "digest"),
    ("WHY NOT SERVABLE", "unservable_reason"),
];

/// Fields of a version that are printed before the others.
const VERSION_FIELDS: [&str; 10] = [
    "model",
    "version",
    "status",
    "servable",
    "scan_verdict",
    "scan_reason",
    "loader_code",
    "aliases",
    "run_id",
    "digest",
];

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let registry = context.registry()?;
    match command {
        Command::List { paging } => {
            let answer = registry.get(&["api", "v1", "models"], &paging.query()).await?;
            output::list(context.json, &answer, "models", &MODEL_COLUMNS);
        }
        Command::Show { model } => {
            let answer = registry.get(&["api", "v1", "models", &model], &[]).await?;
            output::object_in_order(
                context.json,
                &answer,
                &["name", "latest_version", "aliases", "description"],
            );
        }
        Command::Versions { model, paging } => {
            let answer = registry.get(&["api", "v1", "models", &model, "versions"], &paging.query()).await?;
            output::list(context.json, &answer, "versions", &VERSION_COLUMNS);
        }
        Command::Version { model, version } => {
            let answer = registry.get(&["api", "v1", "models", &model, "versions", &version], &[]).await?;
            output::object_in_order(context.json, &answer, &VERSION_FIELDS);
        }
        Command::Card { model, version } => card(context, &registry, &model, &version).await?,
        Command::Lineage { model, version } => {
            let path = ["api", "v1", "models", &model, "versions", &version, "lineage"];
            output::object(context.json, &registry.get(&path, &[]).await?);
        }
        Command::SetAlias { model, alias, version } => {
            let body = json!({"name": model, "alias": alias, "version": version});
            let path = ["api", "2.0", "mlflow", "registered-models", "alias"];
            registry.send(Method::POST, &path, Some(&body)).await?;
            outln!("{model}@{alias} → version {version}");
        }
        Command::Rename { model, new_name } => {
            let body = json!({"name": model, "new_name": new_name});
            let path = ["api", "2.0", "mlflow", "registered-models", "rename"];
            registry.send(Method::POST, &path, Some(&body)).await?;
            outln!("{model} is renamed to {new_name}");
        }
        Command::Delete { model, version, force } => {
            delete(&registry, &model, version.as_deref(), force).await?;
        }
        Command::Guard { model, alias, file } => {
            let path = ["api", "v1", "models", &model, "policies", &alias];
            let answer = registry.send(Method::PUT, &path, Some(&read_json(&file)?)).await?;
            if context.json {
                output::json(&answer);
            } else {
                let rules = answer["rules"].as_array().map_or(0, Vec::len);
                outln!("{model}@{alias} is guarded by {rules} rules");
            }
        }
        Command::Unguard { model, alias } => {
            let path = ["api", "v1", "models", &model, "policies", &alias];
            registry.send(Method::DELETE, &path, None).await?;
            outln!("{model}@{alias} has no policy any more");
        }
        Command::Check { model, version, alias } => {
            let path = ["api", "v1", "models", &model, "versions", &version, "promotion"];
            show_check(context.json, &registry.get(&path, &[("alias", alias)]).await?);
        }
        Command::Trust(command) => trust::run(context, command).await?,
    }
    Ok(())
}

/// Prints the model card of a version.
async fn card(context: &Context, registry: &Client, model: &str, version: &str) -> anyhow::Result<()> {
    let path = ["api", "v1", "models", model, "versions", version, "card"];
    if context.json {
        output::json(&registry.get(&path, &[]).await?);
    } else {
        let card = registry.text(&path, &[("format", "markdown".to_owned())]).await?;
        output::block(&card);
    }
    Ok(())
}

/// Deletes a version, or the model with all its versions.
async fn delete(registry: &Client, model: &str, version: Option<&str>, force: bool) -> anyhow::Result<()> {
    let mut body = json!({"name": model, "force": force});
    let (group, what) = match version {
        Some(version) => {
            body["version"] = version.into();
            ("model-versions", format!("version {version} of {model}"))
        }
        None => ("registered-models", format!("model {model} with its versions")),
    };
    registry.send(Method::DELETE, &["api", "2.0", "mlflow", group, "delete"], Some(&body)).await?;
    outln!("{what} was deleted");
    Ok(())
}

fn show_check(as_json: bool, answer: &Value) {
    if as_json {
        return output::json(answer);
    }
    if answer["guarded"] != true {
        outln!("this alias has no policy: it accepts every version");
        return;
    }
    output::list(false, answer, "rules", &[("RULE", "rule.rule"), ("PASSED", "passed"), ("FOUND", "detail")]);
    outln!(
        "{}",
        if answer["allowed"] == true {
            "allowed: the alias can be set to this version"
        } else {
            "refused: the alias cannot be set to this version"
        }
    );
}
