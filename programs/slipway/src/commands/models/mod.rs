//! `slipway models`.

mod imports;
mod reports;
mod signing;
mod trust;

use clap::Subcommand;
use slipway_api::rest::registry::{AliasTarget, Force, ModelsQuery, Promotion, PromotionQuery, Rename};
use slipway_client::Registry;

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
    /// Manages imports.
    #[command(flatten)]
    Imports(imports::Command),
    /// Gives a model another name. Its versions and aliases stay, and deployments, alias watches and monitors
    /// follow.
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
        /// Deletes it although deployments serve it; needs the role admin on the model. Replicas that have it
        /// go on; replicas that start later cannot load it.
        #[arg(long)]
        force: bool,
    },
    /// Guards an alias with a policy: the registry refuses versions that do not pass its rules.
    Guard {
        /// Registered model.
        model: String,
        /// Alias, e.g. champion.
        alias: String,
        /// JSON or YAML file with the policy, e.g. {"rules": [{"rule": "metric-at-least", "metric":
        /// "accuracy", "value": 0.9}]}, or `-` for standard input.
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
            let page = paging.page();
            let query =
                ModelsQuery { limit: page.limit, page_token: page.page_token, ..ModelsQuery::default() };
            output::list(context.json, &registry.models(&query).await?, "models", &MODEL_COLUMNS);
        }
        Command::Show { model } => {
            let first = ["name", "latest_version", "aliases", "description"];
            output::object_in_order(context.json, &registry.model(&model).await?, &first);
        }
        Command::Versions { model, paging } => {
            let versions = registry.versions(&model, &paging.page()).await?;
            output::list(context.json, &versions, "versions", &VERSION_COLUMNS);
        }
        Command::Version { model, version } => {
            let details = registry.version(&model, &version).await?;
            output::object_in_order(context.json, &details, &VERSION_FIELDS);
        }
        Command::Card { model, version } if context.json => {
            output::json(&registry.card(&model, &version).await?);
        }
        Command::Card { model, version } => {
            output::block(&registry.card_markdown(&model, &version).await?);
        }
        Command::Lineage { model, version } => {
            output::object(context.json, &registry.lineage(&model, &version).await?);
        }
        Command::SetAlias { model, alias, version } => {
            let target = AliasTarget { version };
            registry.set_alias(&model, &alias, &target).await?;
            outln!("{model}@{alias} → version {}", target.version);
        }
        Command::Imports(command) => imports::run(context.json, &registry, command).await?,
        Command::Rename { model, new_name } => {
            let renamed = registry.rename_model(&model, &Rename { new_name }).await?;
            outln!("{model} is called {} now", renamed.name);
        }
        Command::Delete { model, version, force } => {
            delete(&registry, &model, version.as_deref(), Force { force }).await?;
        }
        Command::Guard { model, alias, file } => {
            guard(context.json, &registry, &model, &alias, &read_json(&file)?).await?;
        }
        Command::Unguard { model, alias } => {
            registry.delete_policy(&model, &alias).await?;
            outln!("{model}@{alias} has no policy any more");
        }
        Command::Check { model, version, alias } => {
            let promotion = registry.promotion(&model, &version, &PromotionQuery { alias }).await?;
            show_check(context.json, &promotion);
        }
        Command::Trust(command) => trust::run(context, command).await?,
    }
    Ok(())
}

/// Sets the policy of an alias.
async fn guard(
    as_json: bool,
    registry: &Registry,
    model: &str,
    alias: &str,
    policy: &serde_json::Value,
) -> anyhow::Result<()> {
    let policy = registry.put_policy(model, alias, policy).await?;
    if as_json {
        output::json(&policy);
    } else {
        outln!("{model}@{alias} is guarded by {} rules", policy.rules.len());
    }
    Ok(())
}

/// Deletes a version, or the model with all its versions.
async fn delete(registry: &Registry, model: &str, version: Option<&str>, force: Force) -> anyhow::Result<()> {
    if let Some(version) = version {
        registry.delete_version(model, version, force).await?;
        outln!("version {version} of {model} was deleted");
    } else {
        registry.delete_model(model, force).await?;
        outln!("model {model} with its versions was deleted");
    }
    Ok(())
}

fn show_check(as_json: bool, answer: &Promotion) {
    if as_json {
        return output::json(answer);
    }
    if !answer.guarded {
        outln!("this alias has no policy: it accepts every version");
        return;
    }
    output::list(false, answer, "rules", &[("RULE", "rule.rule"), ("PASSED", "passed"), ("FOUND", "detail")]);
    outln!(
        "{}",
        if answer.allowed {
            "allowed: the alias can be set to this version"
        } else {
            "refused: the alias cannot be set to this version"
        }
    );
}
