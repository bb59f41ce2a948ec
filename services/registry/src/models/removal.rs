//! Deleting versions and models. What a deployment serves is deleted by an administrator who insists, and by
//! no one else.

use serde_json::json;
use slipway_domain::access::{Role, Scope};

use crate::access::caller::Caller;
use crate::change::Change;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::deployed::{self, Use};
use crate::store::{access, model_versions, registered_models};

/// Deployments that a refusal names.
const MAX_NAMED: usize = 10;

/// Deletes a version.
///
/// # Errors
/// It does not exist, a deployment serves it and `force` is not set, the caller may not force, or Postgres is
/// unreachable.
pub(crate) async fn version(
    registry: &Registry,
    caller: &Caller,
    name: &str,
    version: i32,
    force: bool,
) -> Result<(), Error> {
    may_force(caller, name, force)?;
    let mut change = registry.change().await?;
    let now = now_ms();
    let model_key = match registered_models::model_touch(change.db(), name, now).await {
        Err(Error::NotFound(_)) => return Err(model_versions::absent(name, version)),
        found => found?,
    };
    model_versions::version_require(change.db(), model_key, name, version).await?;
    let what = format!("Version {version} of '{name}'");
    let deployments = unused(registry, &mut change, model_key, Some(version), (&what, force)).await?;
    model_versions::version_delete(change.db(), model_key, version, now).await?;
    let mut details = json!({"model": name, "version": version.to_string()});
    note_force(&mut details, &deployments);
    change.tell("model-version", "deleted", format!("{name}/{version}"), details).await?;
    change.commit().await
}

/// Deletes a model with its versions.
///
/// # Errors
/// As for [`version`].
pub(crate) async fn model(
    registry: &Registry,
    caller: &Caller,
    name: &str,
    force: bool,
) -> Result<(), Error> {
    may_force(caller, name, force)?;
    let mut change = registry.change().await?;
    let now = now_ms();
    let model_key = registered_models::model_touch(change.db(), name, now).await?;
    let what = format!("Registered model '{name}'");
    let deployments = unused(registry, &mut change, model_key, None, (&what, force)).await?;
    for version in registered_models::model_delete(change.db(), model_key, now).await? {
        let mut details = json!({"model": name, "version": version.to_string()});
        note_force(&mut details, &deployments);
        change.tell("model-version", "deleted", format!("{name}/{version}"), details).await?;
    }
    access::model_grants_remove(change.db(), name).await?;
    let mut details = json!({});
    note_force(&mut details, &deployments);
    change.tell("model", "deleted", name, details).await?;
    change.commit().await?;
    registry.access.forget();
    Ok(())
}

fn may_force(caller: &Caller, name: &str, force: bool) -> Result<(), Error> {
    if force { caller.require(Role::Admin, &Scope::Model(name.to_owned())) } else { Ok(()) }
}

fn note_force(details: &mut serde_json::Value, deployments: &[String]) {
    if !deployments.is_empty() {
        details["forced"] = true.into();
        details["deployments"] = json!(deployments);
    }
}

/// Refuses where a deployment uses it; with `force`, the deployments that do.
async fn unused(
    registry: &Registry,
    change: &mut Change,
    model_key: i64,
    version: Option<i32>,
    (what, force): (&str, bool),
) -> Result<Vec<String>, Error> {
    if !force {
        registry.following.require_complete()?;
    }
    let seen = (now_ms(), registry.following.is_current());
    let uses = deployed::uses(change.db(), model_key, version, seen).await?;
    if !uses.is_empty() && !force {
        return Err(Error::Conflict(refusal(what, &uses, version.is_none())));
    }
    let mut names: Vec<String> = uses.into_iter().map(|one| one.deployment).collect();
    names.dedup();
    Ok(names)
}

fn refusal(what: &str, uses: &[Use], name_versions: bool) -> String {
    let mut named: Vec<String> =
        uses.iter().take(MAX_NAMED).map(|one| describe(one, name_versions)).collect();
    if uses.len() > MAX_NAMED {
        named.push(format!("{} more", uses.len() - MAX_NAMED));
    }
    format!(
        "{what} is in use by {}. Roll out another version or delete the deployment first. An administrator \
         may delete it with force=true; serving replicas that start later then cannot load it.",
        named.join(", ")
    )
}

fn describe(one: &Use, name_version: bool) -> String {
    let role = match one.role.as_str() {
        "warm" => "kept loaded for a rollout or rollback",
        "held" => "about to be rolled out",
        "bound" => "no version yet",
        role => role,
    };
    if name_version && one.version > 0 {
        format!("deployment '{}' (version {}, {role})", one.deployment, one.version)
    } else {
        format!("deployment '{}' ({role})", one.deployment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_deployments_and_what_to_do() {
        let used = |deployment: &str, role: &str| Use {
            version: 3,
            deployment: deployment.into(),
            role: role.into(),
        };
        let text = refusal("Version 3 of 'churn'", &[used("a", "stable"), used("b", "warm")], false);
        assert!(
            text.starts_with(
                "Version 3 of 'churn' is in use by deployment 'a' (stable), deployment 'b' (kept"
            )
        );
        assert!(text.contains("delete the deployment first") && text.contains("force=true"), "{text}");
        let many: Vec<Use> = (0..12).map(|at| used(&format!("d{at}"), "stable")).collect();
        let text = refusal("Registered model 'churn'", &many, true);
        assert!(text.contains("'d0' (version 3, stable)") && text.contains("2 more"), "{text}");
    }
}
