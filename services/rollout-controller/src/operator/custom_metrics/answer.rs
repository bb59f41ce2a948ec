//! Requests and answers of the API.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use slipway_kubernetes_serving::{OWNER_LABEL, PodMetric};

use crate::replicas::load::Load;

/// Group and version of the API.
pub(super) const GROUP_VERSION: &str = "custom.metrics.k8s.io/v1beta2";
/// Time that a value is the mean of.
const WINDOW_S: u32 = 10;

/// A metric of pods.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'request> {
    pub(super) namespace: &'request str,
    /// `*`: those that the selector selects.
    pub(super) pod: &'request str,
    pub(super) metric: &'request str,
    /// Labels, as `kubectl get --selector` takes them.
    pub(super) selector: &'request str,
}

/// The metrics that there are.
pub(super) fn resources() -> Value {
    let resources: Vec<Value> = PodMetric::ALL
        .iter()
        .map(|metric| {
            json!({"name": format!("pods/{}", metric.name()), "singularName": "", "namespaced": true,
                "kind": "MetricValueList", "verbs": ["get"]})
        })
        .collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION,
        "resources": resources})
}

/// A metric of the pods that are asked for; `None` where there is no such metric. Pods are called as the
/// replicas that run in them.
pub(super) fn values(
    asked: &Asked<'_>,
    loads: &BTreeMap<String, Vec<Load>>,
    now_unix_ms: u64,
) -> Option<Value> {
    let metric = *PodMetric::ALL.iter().find(|metric| metric.name() == asked.metric)?;
    let at = DateTime::from_timestamp_millis(i64::try_from(now_unix_ms).unwrap_or_default());
    let timestamp = at.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true);
    let own = loads.iter().filter(|(deployment, _)| is_selected(asked, deployment));
    // An autoscaler counts every pod that it is told of.
    let own = own.flat_map(|(_, loads)| loads).filter(|load| !load.is_pool && is_of_part(asked, load));
    let items: Vec<Value> = own
        .filter(|load| asked.pod == "*" || asked.pod == load.replica_id)
        .map(|load| {
            json!({
                "describedObject": {"kind": "Pod", "namespace": asked.namespace, "name": load.replica_id,
                    "apiVersion": "v1"},
                "metric": {"name": metric.name(), "selector": null},
                "timestamp": timestamp,
                "windowSeconds": WINDOW_S,
                "value": quantity(value(metric, load)),
            })
        })
        .collect();
    Some(json!({"kind": "MetricValueList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": items}))
}

/// Whether the deployment is that of a ModelDeployment of the namespace, and of the one that the selector
/// names.
fn is_selected(asked: &Asked<'_>, deployment: &str) -> bool {
    let Some((namespace, name)) = deployment.split_once('_') else { return false };
    let is_meant = match named(asked) {
        // Of a version that has pods of its own, the name has the version behind it.
        Some(named) => named.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("-v")),
        // Some other selector: a HorizontalPodAutoscaler then leaves out pods that are not its own.
        None => true,
    };
    namespace == asked.namespace && is_meant
}

/// What the selector names.
fn named<'request>(asked: &Asked<'request>) -> Option<&'request str> {
    asked.selector.split(',').find_map(|term| {
        let (label, value) = term.split_once('=')?;
        (label == OWNER_LABEL).then(|| value.trim_start_matches('='))
    })
}

/// Whether a pod is one of those that the selector names: pods are called as what they are made for.
fn is_of_part(asked: &Asked<'_>, load: &Load) -> bool {
    named(asked)
        .is_none_or(|named| load.replica_id.strip_prefix(named).is_some_and(|rest| rest.starts_with('-')))
}

const fn value(metric: PodMetric, load: &Load) -> f64 {
    match metric {
        PodMetric::InFlight => load.in_flight,
        PodMetric::Requests => load.requests,
        PodMetric::Latency => load.latency_ms,
        PodMetric::Queue => load.queue_ms,
        PodMetric::Gpu => load.gpu_percent,
    }
}

/// A quantity in thousandths.
#[expect(clippy::cast_possible_truncation, reason = "a rate or a time, which is far smaller")]
fn quantity(value: f64) -> String {
    format!("{}m", (value * 1_000.0).round() as i64)
}

/// Kubernetes' answer to what there is not.
pub(super) fn not_found(message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": "NotFound", "code": 404})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads() -> BTreeMap<String, Vec<Load>> {
        let load = |replica_id: &str, in_flight| Load {
            replica_id: replica_id.to_owned(),
            is_pool: replica_id.starts_with("pool"),
            in_flight,
            requests: 20.0,
            errors: 0.0,
            latency_ms: 1.5,
            queue_ms: 0.25,
            cpu_cores: 0.0,
            gpu_percent: 30.0,
        };
        [
            ("ml_fraud".to_owned(), vec![load("fraud-a", 2.5), load("fraud-b", 4.0), load("pool-a", 7.0)]),
            ("ml_churn".to_owned(), vec![load("churn-a", 1.0)]),
            ("other_fraud".to_owned(), vec![load("fraud-c", 9.0)]),
        ]
        .into()
    }

    fn asked(pod: &str, metric: &str, selector: &str) -> Option<Vec<(String, String)>> {
        let values = values(&Asked { namespace: "ml", pod, metric, selector }, &loads(), 0)?;
        let pair = |item: &Value| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&item["describedObject"]["name"]), text(&item["value"]))
        };
        Some(values["items"].as_array().unwrap().iter().map(pair).collect())
    }

    #[test]
    fn the_pods_of_a_model_deployment_have_their_own_values() {
        let pair = |pod: &str, value: &str| (pod.to_owned(), value.to_owned());
        let selector = "slipway.dev/model-deployment=fraud";
        let found = asked("*", "slipway_in_flight_requests", selector).unwrap();
        assert_eq!(found, [pair("fraud-a", "2500m"), pair("fraud-b", "4000m")]);
        let found = asked("fraud-b", "slipway_latency_milliseconds", "").unwrap();
        assert_eq!(found, [pair("fraud-b", "1500m")]);
        assert_eq!(asked("*", "slipway_requests_per_second", "").unwrap().len(), 3);
        assert_eq!(asked("*", "slipway_queue_milliseconds", "slipway.dev/model-deployment=x"), Some(vec![]));
        assert_eq!(asked("*", "cpu", selector), None);
    }

    #[test]
    fn the_metrics_are_listed() {
        let listed = resources()["resources"].to_string();
        assert!(PodMetric::ALL.iter().all(|metric| listed.contains(metric.name())), "{listed}");
    }
}
