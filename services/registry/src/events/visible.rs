//! Who may read an event: whoever may read what it is about.

use serde_json::Value;
use slipway_domain::access::{Role, Scope};
use slipway_event_bus::Received;

use crate::access::caller::Caller;
use crate::access::references::owners;
use crate::error::Error;
use crate::state::Registry;
use crate::store::access as table;

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    /// Readable with this role in this scope.
    Scope(Role, Scope),
    /// A run, by ID.
    Run(String),
    /// A logged model, by ID.
    LoggedModel(String),
    /// A file, by its path in the artifact store.
    Artifact(String),
}

/// What an event is about. Events of tokens, grants, webhooks and retention rules are for administrators, as
/// their routes are; events that belong to no experiment and no model are for readers of everything.
fn about(event: &Received) -> About {
    let data: Value = serde_json::from_slice(&event.data).unwrap_or_default();
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let details = &data["details"];
    let model = |name: String| About::Scope(Role::Viewer, Scope::Model(name));
    let everything = About::Scope(Role::Viewer, Scope::Everything);
    let id = event.entity.clone();
    // Who called what, as the audit trail has it.
    if event.subject.split('.').nth(2) == Some("call") {
        return About::Scope(Role::Admin, Scope::Everything);
    }
    let Some(rest) = event.subject.strip_prefix("slipway.registry.") else {
        return text(&data["model"]).map_or(everything, model);
    };
    let experiment = |id: &str| id.parse().ok().map(|id| About::Scope(Role::Viewer, Scope::Experiment(id)));
    match rest.split('.').next().unwrap_or_default() {
        "experiment" => experiment(&id).unwrap_or(everything),
        "run" => details["experiment_id"].as_str().and_then(experiment).unwrap_or(About::Run(id)),
        "logged-model" => About::LoggedModel(id),
        "artifact" => About::Artifact(id),
        "model" => model(id),
        "model-version" | "report" | "approval" | "alias" => {
            text(&details["model"]).or_else(|| text(&data["model"])).map_or(everything, model)
        }
        "signing-key" => everything,
        _ => About::Scope(Role::Admin, Scope::Everything),
    }
}

/// Whether the caller may read an event.
///
/// # Errors
/// Postgres is unreachable.
pub(super) async fn may_read(registry: &Registry, caller: &Caller, event: &Received) -> Result<bool, Error> {
    let may = |role: Role, scope: &Scope| caller.grants.check(role, scope).is_ok();
    let about = about(event);
    if let About::Scope(role, scope) = &about {
        return Ok(may(*role, scope));
    }
    if may(Role::Viewer, &Scope::Everything) {
        return Ok(true);
    }
    let mut db = registry.pool.acquire().await?;
    let scopes = match about {
        About::Scope(_, scope) => vec![scope],
        About::Run(id) => {
            let found = table::run_experiments(&mut db, &[id]).await?;
            found.into_values().map(Scope::Experiment).collect()
        }
        About::LoggedModel(id) => table::logged_model_experiments(&mut db, &[id]).await?,
        About::Artifact(path) => owners(&mut db, &path).await?,
    };
    // What was purged is shown to readers of everything only.
    Ok(!scopes.is_empty() && scopes.iter().all(|scope| may(Role::Viewer, scope)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(subject: &str, entity: &str, data: Value) -> Received {
        Received {
            id: String::new(),
            subject: subject.to_owned(),
            entity: entity.to_owned(),
            traceparent: None,
            time: String::new(),
            data: data.to_string().into(),
        }
    }

    #[test]
    fn an_event_belongs_to_what_it_is_about() {
        let viewer = |scope: &str| About::Scope(Role::Viewer, scope.parse().unwrap());
        for (subject, entity, data, expected) in [
            ("slipway.registry.experiment.created", "3", json!({}), viewer("experiment:3")),
            (
                "slipway.registry.run.created",
                "r",
                json!({"details": {"experiment_id": "3"}}),
                viewer("experiment:3"),
            ),
            ("slipway.registry.run.logged", "r", json!({"details": {}}), About::Run("r".into())),
            ("slipway.registry.logged-model.created", "m-1", json!({}), About::LoggedModel("m-1".into())),
            ("slipway.registry.artifact.uploaded", "0/a", json!({}), About::Artifact("0/a".into())),
            ("slipway.registry.model.renamed", "churn", json!({"from": "a"}), viewer("model:churn")),
            (
                "slipway.registry.model-version.created",
                "churn/3",
                json!({"details": {"model": "churn"}}),
                viewer("model:churn"),
            ),
            ("slipway.registry.alias.set", "churn@a", json!({"model": "churn"}), viewer("model:churn")),
            ("slipway.registry.token.created", "t", json!({}), About::Scope(Role::Admin, Scope::Everything)),
            (
                "slipway.launcher.call.refused",
                "launcher POST /api/v1/jobs",
                json!({"principal": "ann"}),
                About::Scope(Role::Admin, Scope::Everything),
            ),
            (
                "slipway.registry.unheard-of.created",
                "t",
                json!({}),
                About::Scope(Role::Admin, Scope::Everything),
            ),
            (
                "slipway.rollout-controller.rollout.promoted",
                "d",
                json!({"model": "churn"}),
                viewer("model:churn"),
            ),
            ("slipway.launcher.job.started", "j", json!({"name": "train"}), viewer("*")),
        ] {
            assert_eq!(about(&event(subject, entity, data)), expected, "{subject}");
        }
    }
}
