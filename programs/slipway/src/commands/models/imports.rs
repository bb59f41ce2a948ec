//! The commands of `slipway models` for models from buckets, web servers and OCI registries.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use slipway_api::rest::registry::{Import, NewImport};
use slipway_client::Registry;

use crate::commands::context::Paging;
use crate::output::{self, errln, outln};

/// How often it is asked what became of an import.
const POLL: Duration = Duration::from_millis(500);
/// Columns of the list.
const COLUMNS: [(&str, &str); 6] = [
    ("ID", "id"),
    ("URI", "uri"),
    ("VERSION", "version"),
    ("ALIAS", "alias"),
    ("WATCH", "watch"),
    ("PROBLEM", "problem"),
];

/// See `slipway models --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Imports a model from a bucket, a web server or an OCI registry as a version, and waits for it.
    Import(Options),
    /// Lists the imports of a model.
    Imports {
        /// Registered model.
        model: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Ends an import. Its versions stay.
    DeleteImport {
        /// Registered model.
        model: String,
        /// ID of the import.
        id: String,
    },
}

/// What to import.
#[derive(Debug, Args)]
pub struct Options {
    /// Registered model; it is created if it does not exist.
    model: String,
    /// Address: `s3://BUCKET/PREFIX` of a bucket that the artifact store has, `https://HOST/FILE`, or
    /// `oci://REGISTRY/REPOSITORY:TAG` (or `@sha256:…`). It must begin with one of the registry's
    /// SLIPWAY_IMPORT_SOURCES.
    uri: String,
    /// Alias that is set to each version that is made [default: none].
    #[arg(long)]
    alias: Option<String>,
    /// Imports new content as a new version, until the import is deleted.
    #[arg(long)]
    watch: bool,
    /// Returns without waiting for the version.
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn run(as_json: bool, registry: &Registry, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Import(options) => import(as_json, registry, options).await?,
        Command::Imports { model, paging } => {
            let found = registry.imports(&model, &paging.page()).await?;
            output::list(as_json, &found, "imports", &COLUMNS);
        }
        Command::DeleteImport { model, id } => {
            registry.delete_import(&model, &id).await?;
            outln!("import {id} was deleted");
        }
    }
    Ok(())
}

/// Starts an import and waits for its version. Prints problems; the registry retries.
async fn import(as_json: bool, registry: &Registry, options: Options) -> anyhow::Result<()> {
    let Options { model, uri, alias, watch, no_wait } = options;
    let mut import = registry.import(&model, &NewImport { uri, alias, watch }).await?;
    let mut told = None;
    while !no_wait && import.version.is_none() {
        if import.problem.is_some() && import.problem != told {
            if let Some(problem) = &import.problem {
                errln!("{problem}; trying again");
            }
            told.clone_from(&import.problem);
        }
        tokio::time::sleep(POLL).await;
        import = again(registry, &model, &import.id).await?;
    }
    if as_json {
        output::json(&import);
    } else {
        match &import.version {
            Some(version) => outln!("{} is version {version} of {model}", import.uri),
            None => outln!("{} is being imported as {model} (import {})", import.uri, import.id),
        }
    }
    Ok(())
}

async fn again(registry: &Registry, model: &str, id: &str) -> anyhow::Result<Import> {
    let listed = registry.imports(model, &slipway_api::rest::PageQuery::default()).await?;
    match listed.imports.into_iter().find(|import| import.id == id) {
        Some(import) => Ok(import),
        None => bail!("the import was deleted"),
    }
}
