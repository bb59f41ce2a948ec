//! InferenceServices of KServe: each is run as a ModelDeployment, which goes with it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use serde_json::Value;
use slipway_api::rest::rollouts::Rollout;
use slipway_domain::Invalid;
use slipway_domain::rollout::Command;
use slipway_kubernetes_client::{Connection, api, apply, reflect};
use slipway_kubernetes_resources::Kind as _;
use slipway_kubernetes_resources::inference_service::{
    InferenceService, InferenceServiceKind, Translated, canary_percent, status, translate,
};
use slipway_kubernetes_resources::model_deployment::ModelDeployment;
use slipway_runtime::clock;
use tokio::sync::Notify;

use super::deployed;
use super::follower::Error;
use crate::change;
use crate::state::State;

/// Field manager of server-side apply.
const MANAGED_BY: &str = "slipway-kserve";
/// Annotation of a ModelDeployment with what it was made from.
const MADE_FROM: &str = "slipway.dev/translated-spec";
/// Objects are looked at this often, and when one changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// After something failed, this long.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Follows the InferenceServices. Does not return.
pub(super) async fn follow(state: &State, cluster: &Connection, deployments: &[Store<ModelDeployment>]) {
    let news = Notify::new();
    let prune = |object: &mut InferenceService| object.metadata.managed_fields = None;
    let (services, watches) = reflect(cluster, &watcher::Config::default(), prune, &news);
    let following = async {
        for store in deployments {
            let _ = store.wait_until_ready().await;
        }
        for store in &services {
            let _ = store.wait_until_ready().await;
        }
        let mut failing = false;
        loop {
            let mut failed = None;
            for service in services.iter().flat_map(Store::state) {
                if let Err(error) = follow_one(state, cluster, &service, deployments).await {
                    failed = Some(error);
                }
            }
            if let Some(error) = &failed
                && !failing
            {
                tracing::warn!(%error, "an InferenceService cannot be followed now; retrying");
            }
            failing = failed.is_some();
            let pause = if failing { RETRY_INTERVAL } else { INTERVAL };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = news.notified(), if !failing => {}
            }
        }
    };
    tokio::join!(watches, following);
}

async fn follow_one(
    state: &State,
    cluster: &Connection,
    service: &InferenceService,
    deployments: &[Store<ModelDeployment>],
) -> Result<(), Error> {
    if service.is_deleted() {
        return Ok(());
    }
    let reference = ObjectRef::new(service.name()).within(service.namespace());
    let found: Option<Arc<ModelDeployment>> = deployments.iter().find_map(|store| store.get(&reference));
    let translated = translate(service).and_then(|translated| match &found {
        Some(found) if !is_own(found, service) => Err(Invalid::new(
            "metadata.name",
            format!(
                "the ModelDeployment {} exists already and does not belong to this service",
                found.name()
            ),
        )),
        _ => Ok(translated),
    });
    if let Ok(translated) = &translated {
        make(state, cluster, service, translated, found.as_deref()).await?;
    }
    let own = found.as_deref().filter(|found| is_own(found, service));
    let now = DateTime::<Utc>::from(clock::now());
    let status = status(service, translated.as_ref(), own, now);
    if status == service.status {
        return Ok(());
    }
    let written = InferenceService { status, ..service.clone() };
    let services = api::<InferenceService>(&cluster.client, service.namespace());
    match services.replace_status(service.name(), &PostParams::default(), &written).await {
        // It was changed or deleted in the meantime; the watch tells.
        Err(kube::Error::Api(refused)) if matches!(refused.code, 404 | 409) => Ok(()),
        written => written.map(drop).map_err(Error::from),
    }
}

fn is_own(found: &ModelDeployment, service: &InferenceService) -> bool {
    found.metadata.owner_references.iter().flatten().any(|owner| owner.uid == service.uid())
}

/// Makes the ModelDeployment of a service what the service says now.
async fn make(
    state: &State,
    cluster: &Connection,
    service: &InferenceService,
    translated: &Translated,
    found: Option<&ModelDeployment>,
) -> Result<(), Error> {
    let from = translated.spec.to_string();
    let is_from = |found: &ModelDeployment| {
        let annotations = found.metadata.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(MADE_FROM)) == Some(&from)
    };
    if found.is_some_and(|found| is_from(found) && has_all(&found.spec, &translated.spec)) {
        return Ok(());
    }
    if let Some(found) = found.filter(|found| found.spec["model"] == translated.spec["model"]) {
        move_canary(state, found, canary_percent(service)).await?;
    }
    let metadata = |name: String| ObjectMeta {
        name: Some(name),
        namespace: Some(service.namespace().to_owned()),
        owner_references: Some(vec![owner(service)]),
        ..ObjectMeta::default()
    };
    let mut deployment = ModelDeployment {
        metadata: metadata(service.name().to_owned()),
        spec: translated.spec.clone(),
        ..ModelDeployment::default()
    };
    deployment.metadata.annotations = Some([(MADE_FROM.to_owned(), from)].into());
    apply(&cluster.client, MANAGED_BY, service.namespace(), &deployment).await?;
    // The name by which clients of KServe call a predictor.
    let alias = Service {
        metadata: metadata(format!("{}-predictor", service.name())),
        spec: Some(ServiceSpec {
            type_: Some("ExternalName".to_owned()),
            external_name: Some(format!("{}.{}.svc.cluster.local", service.name(), service.namespace())),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    apply(&cluster.client, MANAGED_BY, service.namespace(), &alias).await?;
    Ok(())
}

fn owner(service: &InferenceService) -> OwnerReference {
    OwnerReference {
        api_version: InferenceServiceKind::API_VERSION.to_owned(),
        kind: InferenceServiceKind::KIND.to_owned(),
        name: service.name().to_owned(),
        uid: service.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether `found` has everything of `wanted`: the API server adds defaults.
fn has_all(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| found.get(name).is_some_and(|found| has_all(found, value)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| has_all(found, wanted))
        }
        (found, wanted) => found == wanted,
    }
}

/// Ends a canary that keeps another share than it is to keep now: it gets all of the traffic, or is begun
/// again with its new share.
async fn move_canary(state: &State, found: &ModelDeployment, wanted: Option<u64>) -> Result<(), Error> {
    let uid = found.uid().to_owned();
    let deployed = deployed::of(state, std::slice::from_ref(&uid)).await?.remove(&uid);
    let rollout = deployed.and_then(|deployed| deployed.rollout).filter(|rollout| !rollout.phase.is_final());
    let Some((rollout, kept)) =
        rollout.and_then(|rollout| kept_percent(&rollout).map(|kept| (rollout, kept)))
    else {
        return Ok(());
    };
    let command = match wanted {
        Some(wanted) if wanted == kept => return Ok(()),
        Some(wanted) => Command::Abort { reason: format!("canaryTrafficPercent is {wanted} now") },
        None => Command::Promote,
    };
    change::drive(state, rollout.id, Some(command.into())).await?;
    Ok(())
}

/// The share that a canary keeps, of a rollout that an InferenceService asked for.
fn kept_percent(rollout: &Rollout) -> Option<u64> {
    match &rollout.strategy.steps[..] {
        [step] => Some(step.weight_percent.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_of_the_api_server_make_no_difference() {
        let wanted = json!({"model": {"storageUri": "s3://m/f"}, "tolerations": [{"key": "gpu"}]});
        let found = json!({"model": {"storageUri": "s3://m/f"}, "scaling": {"metric": "cpu"},
            "tolerations": [{"key": "gpu", "effect": "x"}]});
        assert!(has_all(&found, &wanted));
        assert!(!has_all(&json!({"model": {"storageUri": "s3://m/other"}}), &wanted));
    }
}
