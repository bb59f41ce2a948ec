//! One trace from a training job to the first prediction of the version that it registered, and the lines
//! of the logs that belong to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, fixture_bytes, strategy};
use crate::collector::{Collector, Span};
use crate::platform::Platform;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const MODEL: &str = "churn";
/// What a training script does at its end, within the trace of its job.
const REGISTERS: &str = r#"
post() {
  curl -fsS -X POST "$REGISTRY/api/2.0/mlflow/$1" -H "traceparent: $TRACEPARENT" \
    -H 'content-type: application/json' -d "$2"
}
post model-versions/create "$VERSION"
post registered-models/alias '{"name": "churn", "alias": "champion", "version": "2"}'
"#;

/// Parts of the trace: a service, and what the name of one of its spans contains.
const PARTS: [(&str, &str); 6] = [
    ("slipway-launcher", "/api/v1/jobs"),
    ("slipway-agent", "attempt"),
    ("slipway-registry", "model-versions/create"),
    ("slipway-registry", "registered-models/alias"),
    ("slipway-rollout-controller", "rollout"),
    ("slipway-serving", "first_prediction"),
];

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_a_training_job_to_the_first_prediction_of_its_version() {
    let (collector, endpoint) = Collector::start().await;
    let _alone = crate::ONE_PLATFORM.lock().await;
    let platform = Platform::start(&["--otlp-endpoint", &endpoint, "--log-format", "json"]);
    let client = Client::new(&platform);
    client.register(MODEL, "right-1.onnx").await;
    client.deploy(MODEL, strategy(0.5)).await;
    let traffic = client.traffic(MODEL);

    let model = client.log_model(&fixture_bytes("right-2.onnx")).await;
    let version = json!({"name": MODEL, "source": format!("models:/{model}"), "model_id": model});
    let job = json!({
        "name": "train", "command": ["sh", "-euc", REGISTERS],
        "env": {"REGISTRY": client.registry, "VERSION": version.to_string()},
    });
    let request = client.http.post(format!("{}/api/v1/jobs", client.launcher)).json(&job);
    let submitted =
        request.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01")).send().await.unwrap();
    assert!(submitted.status().is_success(), "{submitted:?}");
    client.wait_for_rollout(MODEL, "2", "promoted").await;

    let absent = absent_parts(&collector).await;
    assert!(absent.is_empty(), "not in the trace: {absent:?}\n{:#?}", collector.trace(TRACE));
    assert!(traffic.stop().await.is_empty());
    logs_name_the_trace(&platform);
}

/// Parts of the trace that have not come in time.
async fn absent_parts(collector: &Collector) -> Vec<Span> {
    let absent = || -> Vec<Span> {
        let spans = collector.trace(TRACE);
        let has = |service: &str, part: &str| {
            spans.iter().any(|(known, name)| known == service && name.contains(part))
        };
        let absent = PARTS.iter().filter(|(service, part)| !has(service, part));
        absent.map(|(service, part)| ((*service).to_owned(), (*part).to_owned())).collect()
    };
    for _ in 0..300 {
        if absent().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    absent()
}

/// Every line of a service is an object that names the service; lines of the promotion name the trace.
fn logs_name_the_trace(platform: &Platform) {
    let mut in_trace: BTreeMap<&str, usize> = BTreeMap::new();
    for service in ["registry", "launcher", "serving", "rollout-controller", "drift-monitor"] {
        let log = platform.data_dir().join(format!("logs/{service}.log"));
        let text = std::fs::read_to_string(log).unwrap();
        let mut names = BTreeSet::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            names.insert(line["service.name"].as_str().unwrap().to_owned());
            if line["trace_id"] == TRACE {
                assert!(line["span_id"].as_str().is_some_and(|id| id.len() == 16), "{line}");
                *in_trace.entry(service).or_default() += 1;
            }
        }
        assert_eq!(names, BTreeSet::from([format!("slipway-{service}")]));
    }
    assert!(in_trace.contains_key("rollout-controller"), "no line of the promotion: {in_trace:?}");
}
