//! Use cases that change a model version: describe it, move it to a stage, tag it.

use serde_json::{Value, json};
use slipway_domain::registry::validate_registry_tag;

use crate::change::Change;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::Pair;
use crate::store::model_versions::{self as table, ModelVersion, VersionName};
use crate::store::registered_models::{model_hold, model_touch};

/// Stages of a version that is in use; only these can archive the versions before.
const ACTIVE_STAGES: [&str; 2] = ["Staging", "Production"];

/// A version whose model is locked until the change ends.
struct Target<'name> {
    model_key: i64,
    name: VersionName<'name>,
    now: i64,
}

/// Whether the model itself counts as changed: it does with the stage of a version, and not with its
/// description or tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touches {
    Model,
    VersionAlone,
}

impl<'name> Target<'name> {
    async fn hold(change: &mut Change, name: VersionName<'name>, touches: Touches) -> Result<Self, Error> {
        let VersionName { model, version } = name;
        let now = now_ms();
        let held = match touches {
            Touches::Model => model_touch(change.db(), model, now).await,
            Touches::VersionAlone => model_hold(change.db(), model).await,
        };
        let model_key = match held {
            Err(Error::NotFound(_)) => return Err(table::absent(model, version)),
            found => found?,
        };
        table::version_require(change.db(), model_key, model, version).await?;
        Ok(Self { model_key, name, now })
    }

    fn id(&self) -> String {
        format!("{}/{}", self.name.model, self.name.version)
    }
}

async fn finish(mut change: Change, target: &Target<'_>, details: Value) -> Result<ModelVersion, Error> {
    change.tell("model-version", "updated", target.id(), details).await?;
    let version = table::version_get(change.db(), target.name.model, target.name.version).await?;
    change.commit().await?;
    Ok(version)
}

/// Sets the description, if one is given.
///
/// # Errors
/// The version does not exist, or Postgres is unreachable.
pub(crate) async fn describe(
    registry: &Registry,
    name: VersionName<'_>,
    description: Option<&str>,
) -> Result<ModelVersion, Error> {
    let mut change = registry.change().await?;
    let target = Target::hold(&mut change, name, Touches::VersionAlone).await?;
    let changed = (description, None);
    table::version_update(change.db(), target.model_key, name.version, changed, target.now).await?;
    finish(change, &target, json!({})).await
}

/// Moves a version to a stage; with `archive`, the other versions of that stage are archived.
///
/// # Errors
/// `archive` is given for a stage that is not in use, the version does not exist, or Postgres is unreachable.
pub(crate) async fn transition(
    registry: &Registry,
    name: VersionName<'_>,
    stage: &'static str,
    archive: bool,
) -> Result<ModelVersion, Error> {
    if archive && !ACTIVE_STAGES.contains(&stage) {
        let message = format!(
            "Model version transition cannot archive existing model versions because '{stage}' is not an \
             Active stage. Valid stages are {}",
            ACTIVE_STAGES.join(", ")
        );
        return Err(Error::invalid("stage", message));
    }
    let mut change = registry.change().await?;
    let target = Target::hold(&mut change, name, Touches::Model).await?;
    if archive {
        table::versions_archive(change.db(), target.model_key, stage, name.version, target.now).await?;
    }
    let changed = (None, Some(stage));
    table::version_update(change.db(), target.model_key, name.version, changed, target.now).await?;
    finish(change, &target, json!({ "stage": stage })).await
}

/// Sets a tag.
///
/// # Errors
/// The tag is invalid, the version does not exist, or Postgres is unreachable.
pub(crate) async fn set_tag(
    registry: &Registry,
    name: VersionName<'_>,
    (key, value): Pair,
) -> Result<(), Error> {
    validate_registry_tag(&key, &value)?;
    let mut change = registry.change().await?;
    let target = Target::hold(&mut change, name, Touches::VersionAlone).await?;
    let details = json!({"tags": [key], "tag_set": {"key": key, "value": value}});
    change.tell("model-version", "updated", target.id(), details).await?;
    table::version_tags_set(change.db(), target.model_key, name.version, &[(key, value)]).await?;
    change.commit().await
}

/// Removes a tag, if there is one.
///
/// # Errors
/// The version does not exist, or Postgres is unreachable.
pub(crate) async fn delete_tag(registry: &Registry, name: VersionName<'_>, key: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let target = Target::hold(&mut change, name, Touches::VersionAlone).await?;
    table::version_tag_delete(change.db(), target.model_key, name.version, key).await?;
    let details = json!({"tags": [key], "tag_deleted": key});
    change.tell("model-version", "updated", target.id(), details).await?;
    change.commit().await
}
