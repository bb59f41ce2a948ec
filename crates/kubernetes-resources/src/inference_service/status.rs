//! What KServe would say about an InferenceService.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slipway_domain::Invalid;
use utoipa::ToSchema;

use super::{InferenceService, Translated};
use crate::condition::{Condition, dated};
use crate::model_deployment::{self, ModelDeployment};

/// The `status` of an InferenceService, as far as clients read it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// Generation that the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Address of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Address of the service within the cluster: `url`.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Object>)]
    pub address: Value,
    /// Conditions: `Ready`, `PredictorReady`, `IngressReady`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The predictor: its revisions, and which share of the traffic each receives.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Object>)]
    pub components: Value,
    /// Whether the model is loaded.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Object>)]
    pub model_status: Value,
}

/// The status of an InferenceService whose ModelDeployment is this one.
pub fn status(
    service: &InferenceService,
    translated: Result<&Translated, &Invalid>,
    deployment: Option<&ModelDeployment>,
    now: DateTime<Utc>,
) -> Status {
    let (name, namespace) = (service.name(), service.namespace());
    let none = model_deployment::Status::default();
    let found = deployment.map_or(&none, |deployment| &deployment.status);
    let (is_ready, reason, message) = readiness(translated, deployment);
    let has_address = deployment.is_some() && translated.is_ok();
    let url = has_address.then(|| format!("http://{name}.{namespace}"));
    let condition = |kind: &str, is_so: bool| Condition::new(kind, is_so, reason, message.clone());
    let conditions = [
        condition("IngressReady", has_address),
        condition("PredictorReady", is_ready),
        condition("Ready", is_ready),
    ];
    let before = &service.status.conditions;
    Status {
        observed_generation: service.metadata.generation,
        address: if has_address {
            json!({"url": format!("http://{name}.{namespace}.svc.cluster.local")})
        } else {
            Value::Null
        },
        conditions: dated(conditions.into_iter(), before, service.metadata.generation, now),
        components: components(service, found, url.as_deref()),
        model_status: model_status(found, is_ready),
        url,
    }
}

/// Whether it is ready, a word for why or why not, and a text.
fn readiness(
    translated: Result<&Translated, &Invalid>,
    deployment: Option<&ModelDeployment>,
) -> (bool, &'static str, String) {
    let translated = match translated {
        Ok(translated) => translated,
        Err(invalid) => return (false, "Refused", invalid.to_string()),
    };
    let Some(deployment) = deployment else {
        return (false, "NotApplied", "its ModelDeployment has not been created yet".to_owned());
    };
    let ready = deployment.status.conditions.iter().find(|condition| condition.kind == "Ready");
    let is_current = deployment.status.observed_generation == deployment.metadata.generation;
    match ready {
        Some(condition) if condition.status == "True" && is_current => {
            let ignored = translated.ignored.join(", ");
            let note =
                if ignored.is_empty() { String::new() } else { format!("; without effect: {ignored}") };
            (true, "Serving", format!("{}{note}", condition.message))
        }
        Some(condition) => (false, "ModelDeploymentNotReady", condition.message.clone()),
        None => (false, "NotApplied", "its ModelDeployment has not been applied yet".to_owned()),
    }
}

/// Name of a version, as KServe names revisions.
fn revision(service: &InferenceService, version: &str) -> String {
    format!("{}-predictor-{version:0>5}", service.name())
}

fn components(service: &InferenceService, found: &model_deployment::Status, url: Option<&str>) -> Value {
    let Some(stable) = &found.stable_version else { return Value::Null };
    let latest = found.candidate_version.as_ref().unwrap_or(stable);
    let weight = found.candidate_weight_percent.filter(|_| found.candidate_version.is_some());
    let share = |version: &str, percent: u8| {
        let name = revision(service, version);
        json!({"revisionName": name, "percent": percent, "latestRevision": version == latest})
    };
    let ready = if weight.is_some_and(|weight| weight > 0) { latest } else { stable };
    let traffic = match weight {
        Some(weight) => json!([share(latest, weight), share(stable, 100 - weight.min(100))]),
        None => json!([share(stable, 100)]),
    };
    let mut predictor = json!({
        "latestCreatedRevision": revision(service, latest),
        "latestReadyRevision": revision(service, ready),
        "latestRolledoutRevision": revision(service, stable),
        "traffic": traffic,
    });
    if let Some(url) = url {
        predictor["url"] = json!(url.replacen(service.name(), &format!("{}-predictor", service.name()), 1));
    }
    json!({"predictor": predictor})
}

fn model_status(found: &model_deployment::Status, is_ready: bool) -> Value {
    let degraded = found.conditions.iter().find(|condition| condition.kind == "Degraded");
    let failed = degraded.filter(|condition| condition.status == "True");
    let active = if is_ready { "Loaded" } else { "" };
    let (target, transition) = match failed {
        Some(_) => ("FailedToLoad", "BlockedByFailedLoad"),
        None if found.candidate_version.is_some() || !is_ready => ("Loading", "InProgress"),
        None => ("Loaded", "UpToDate"),
    };
    let mut status = json!({
        "copies": {"failedCopies": 0, "totalCopies": found.ready_replicas},
        "states": {"activeModelState": active, "targetModelState": target},
        "transitionStatus": transition,
    });
    if let Some(failed) = failed {
        status["lastFailureInfo"] = json!({"message": failed.message, "reason": "ModelLoadFailed"});
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> InferenceService {
        let mut service = InferenceService::default();
        service.metadata.name = Some("fraud".to_owned());
        service.metadata.namespace = Some("ml".to_owned());
        service.metadata.generation = Some(2);
        service
    }

    fn deployment(candidate: Option<(&str, u8)>) -> ModelDeployment {
        let ready = Condition::new("Ready", true, "Serving", "version 1 serves");
        let status = model_deployment::Status {
            stable_version: Some("1".to_owned()),
            candidate_version: candidate.map(|(version, _)| version.to_owned()),
            candidate_weight_percent: candidate.map(|(_, weight)| weight),
            ready_replicas: 1,
            conditions: vec![ready],
            ..model_deployment::Status::default()
        };
        ModelDeployment { status, ..ModelDeployment::default() }
    }

    fn translated() -> Translated {
        Translated { spec: json!({}), ignored: vec!["env A".to_owned()] }
    }

    #[test]
    fn it_is_ready_when_its_model_deployment_is() {
        let now = DateTime::UNIX_EPOCH;
        let seen = status(&service(), Ok(&translated()), Some(&deployment(None)), now);
        let kinds: Vec<(&str, &str)> =
            seen.conditions.iter().map(|found| (found.kind.as_str(), found.status.as_str())).collect();
        assert_eq!(kinds, [("IngressReady", "True"), ("PredictorReady", "True"), ("Ready", "True")]);
        assert_eq!(seen.conditions[2].message, "version 1 serves; without effect: env A");
        assert_eq!(seen.url.as_deref(), Some("http://fraud.ml"));
        assert_eq!(seen.address["url"], "http://fraud.ml.svc.cluster.local");
        let predictor = &seen.components["predictor"];
        assert_eq!(predictor["url"], "http://fraud-predictor.ml");
        assert_eq!(
            predictor["traffic"],
            json!([{"revisionName": "fraud-predictor-00001", "percent": 100, "latestRevision": true}])
        );
        assert_eq!(seen.model_status["transitionStatus"], "UpToDate");
        let waiting = status(&service(), Ok(&translated()), None, now);
        assert_eq!((waiting.url, &*waiting.conditions[2].status), (None, "False"));
    }

    #[test]
    fn a_canary_is_shown_with_its_share_and_a_refusal_with_its_reason() {
        let now = DateTime::UNIX_EPOCH;
        let seen = status(&service(), Ok(&translated()), Some(&deployment(Some(("2", 10)))), now);
        let traffic = &seen.components["predictor"]["traffic"];
        assert_eq!((&traffic[0]["percent"], &traffic[1]["percent"]), (&json!(10), &json!(90)));
        assert_eq!(seen.components["predictor"]["latestReadyRevision"], "fraud-predictor-00002");
        let invalid = Invalid::new("spec.transformer", "no");
        let refused = status(&service(), Err(&invalid), None, now);
        assert_eq!(refused.conditions[2].reason, "Refused");
        assert!(refused.conditions[2].message.contains("spec.transformer"));
    }
}
