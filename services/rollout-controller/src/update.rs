//! Changes of a deployment's settings: JSON Merge Patch.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use slipway_api::events::DeploymentChange;
use slipway_api::traffic::StickyKey;
use slipway_domain::rollout::Strategy;
use slipway_http_server::Problem;
use slipway_http_server::extract::parse_json;
use slipway_http_server::merge_patch;

use crate::change::Changed;
use crate::manage::{absent, check_settings, tell};
use crate::overrides::set_table;
use crate::state::State;
use crate::store::deployments;

/// What can be changed.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    default_strategy: Strategy,
    #[serde(default)]
    sticky_key: Option<StickyKey>,
    #[serde(default)]
    watch_alias: Option<String>,
}

const CHANGEABLE: [&str; 3] = ["default_strategy", "sticky_key", "watch_alias"];

/// Applies a JSON Merge Patch (RFC 7396, <https://www.rfc-editor.org/rfc/rfc7396>) to a deployment's
/// settings: objects are merged, arrays are replaced, `null` resets a field to its default.
///
/// A rollout in progress keeps the strategy that it was started with. A new sticky key applies to all traffic
/// immediately. A new watched alias is followed from its next move on; a pending move of the previous alias
/// is dropped.
///
/// # Errors
/// There is no such deployment, a field cannot be changed, or its new value is not valid.
pub(crate) async fn apply(state: &State, name: &str, patch: Map<String, Value>) -> Result<(), Problem> {
    if let Some(field) = patch.keys().find(|field| !CHANGEABLE.contains(&field.as_str())) {
        let expected = format!("cannot be changed; expected some of {}", CHANGEABLE.join(", "));
        return Err(Problem::invalid(field.clone(), expected));
    }
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    let before = Settings {
        default_strategy: deployment.default_strategy.0.clone(),
        sticky_key: deployment.traffic.sticky_key.clone(),
        watch_alias: deployment.watch_alias.clone(),
    };
    let mut patched = json!(before);
    merge_patch(&mut patched, Value::Object(patch));
    let after: Settings = parse_json(patched.to_string().as_bytes())?;
    check_settings(after.watch_alias.as_deref(), &after.default_strategy)?;
    let changed = changed(&before, &after);
    if changed.is_empty() {
        return Ok(());
    }
    set_table(&mut transaction, &deployment, |table| table.sticky_key = after.sticky_key.clone()).await?;
    let key = deployment.deployment_key;
    let watch_alias = after.watch_alias.as_deref();
    deployments::set_settings(&mut transaction, key, watch_alias, &after.default_strategy).await?;
    if before.watch_alias != after.watch_alias {
        deployments::set_alias_move(&mut transaction, key, None).await?;
    }
    let details = DeploymentChange { changed, ..DeploymentChange::default() };
    tell(state, &mut transaction, &deployment, "updated", details).await?;
    transaction.commit().await?;
    Changed::default().committed(state, name).await;
    Ok(())
}

fn changed(before: &Settings, after: &Settings) -> Vec<String> {
    let differs = [
        before.default_strategy != after.default_strategy,
        before.sticky_key != after.sticky_key,
        before.watch_alias != after.watch_alias,
    ];
    CHANGEABLE
        .iter()
        .zip(differs)
        .filter(|(_, differs)| *differs)
        .map(|(field, _)| (*field).to_owned())
        .collect()
}
