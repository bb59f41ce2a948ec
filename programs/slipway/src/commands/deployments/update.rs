//! `slipway deployments update`.

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value, json};
use slipway_api::rest::rollouts::Deployment;
use slipway_client::RolloutController;

use crate::commands::context::read_json;

/// See `slipway deployments update --help`.
#[derive(Debug, Args)]
pub struct Update {
    /// Deployment name.
    name: String,
    /// JSON or YAML file that is merged into the strategy of later rollouts, or `-` for standard input: only
    /// the fields in it change.
    #[arg(long, value_name = "FILE")]
    strategy: Option<String>,
    /// Resets the strategy of later rollouts to the default.
    #[arg(long, conflicts_with = "strategy")]
    default_strategy: bool,
    /// Header whose value keeps a client on one version during a rollout.
    #[arg(long, value_name = "HEADER")]
    sticky_header: Option<String>,
    /// Removes the sticky key: each request is drawn independently.
    #[arg(long, conflicts_with = "sticky_header")]
    no_sticky_header: bool,
    /// Alias to watch: each version that it is set to later is rolled out.
    #[arg(long, value_name = "ALIAS")]
    watch_alias: Option<String>,
    /// Stops watching an alias.
    #[arg(long, conflicts_with = "watch_alias")]
    no_watch_alias: bool,
}

/// Changes a deployment; answers with it.
pub(super) async fn run(controller: &RolloutController, update: Update) -> anyhow::Result<Deployment> {
    let mut patch = Map::new();
    let mut set = |field: &str, value: Option<Value>, reset: bool| {
        if let Some(value) = value.or(reset.then_some(Value::Null)) {
            patch.insert(field.to_owned(), value);
        }
    };
    let strategy = update.strategy.as_deref().map(read_json).transpose()?;
    set("default_strategy", strategy, update.default_strategy);
    let sticky = update.sticky_header.map(|header| json!({"header": header}));
    set("sticky_key", sticky, update.no_sticky_header);
    set("watch_alias", update.watch_alias.map(Value::from), update.no_watch_alias);
    if patch.is_empty() {
        bail!("nothing to change: expected --strategy, --sticky-header, --watch-alias or their opposites");
    }
    Ok(controller.update_deployment(&update.name, &patch).await?)
}
