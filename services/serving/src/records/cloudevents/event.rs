//! One request or answer as a CloudEvent, with the attributes that KServe's logger gives them.
//!
//! Sources: <https://github.com/kserve/kserve/blob/master/pkg/logger/worker.go> (types and extensions),
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md> (headers),
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value, json};
use slipway_api::predictions::Variant;
use slipway_inference::Tensor;

use super::super::Observation;
use super::super::encode::redacted;
use crate::metrics::variant_name;

const REQUEST: &str = "org.kubeflow.serving.inference.request";
const RESPONSE: &str = "org.kubeflow.serving.inference.response";
const SPEC_VERSION: &str = "1.0";
/// Content type of an event in NATS, where all of it is the message.
pub(super) const STRUCTURED: &str = "application/cloudevents+json";
/// Begins the headers of attributes.
pub(super) const PREFIX: &str = "ce-";

/// What the events of a process have in common.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// Who sends them, a URI reference.
    pub(super) source: String,
    /// Where KServe says the namespace of the service.
    pub(super) namespace: String,
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    /// Attributes in their order, `specversion` first.
    attributes: Vec<(&'static str, String)>,
    /// A request or an answer of the inference protocol.
    data: Value,
}

impl Event {
    /// The request of an observation.
    pub(super) fn request(origin: &Origin, observation: &Observation) -> Self {
        let took_ms = u64::try_from(observation.latency.as_millis()).unwrap_or(u64::MAX);
        let began = observation.at_unix_ms.saturating_sub(took_ms);
        let data = json!({
            "id": observation.request_id,
            "inputs": tensors(observation, &observation.inputs),
        });
        Self::new(origin, observation, REQUEST, began, data)
    }

    /// Its answer; `None` where there was none.
    pub(super) fn response(origin: &Origin, observation: &Observation) -> Option<Self> {
        let outputs = observation.outcome.as_ref().ok()?;
        let data = json!({
            "id": observation.request_id,
            "model_name": observation.source.deployment,
            "model_version": observation.source.version,
            "outputs": tensors(observation, outputs),
        });
        Some(Self::new(origin, observation, RESPONSE, observation.at_unix_ms, data))
    }

    fn new(origin: &Origin, observation: &Observation, kind: &str, at_unix_ms: u64, data: Value) -> Self {
        let source = &observation.source;
        let endpoint = if observation.variant == Variant::Candidate { "canary" } else { "default" };
        // KServe has headers of the request here, each with its values.
        let metadata = json!({
            "slipway-model": [source.model],
            "slipway-version": [source.version],
            "slipway-variant": [variant_name(observation.variant)],
        });
        let at = i64::try_from(at_unix_ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
        let attributes = vec![
            ("specversion", SPEC_VERSION.to_owned()),
            ("id", observation.request_id.clone()),
            ("type", kind.to_owned()),
            ("source", origin.source.clone()),
            ("time", at.to_rfc3339_opts(SecondsFormat::Millis, true)),
            ("inferenceservicename", source.deployment.clone()),
            ("namespace", origin.namespace.clone()),
            ("component", "predictor".to_owned()),
            ("endpoint", endpoint.to_owned()),
            ("metadata", metadata.to_string()),
        ];
        Self { attributes, data }
    }

    /// As KServe sends it: attributes as headers, the data as the body.
    pub(super) fn into_binary(self) -> (HeaderMap, Vec<u8>) {
        let mut headers = HeaderMap::with_capacity(self.attributes.len() + 1);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.attributes {
            let name = HeaderName::try_from(format!("{PREFIX}{name}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(escaped(&value))) {
                headers.insert(name, value);
            }
        }
        (headers, self.data.to_string().into_bytes())
    }

    /// As one JSON object.
    pub(super) fn into_structured(self) -> Vec<u8> {
        let attributes =
            self.attributes.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
        let mut whole: Map<String, Value> = attributes.collect();
        whole.insert("datacontenttype".to_owned(), Value::from("application/json"));
        whole.insert("data".to_owned(), self.data);
        Value::Object(whole).to_string().into_bytes()
    }
}

/// Tensors as the protocol's JSON has them; NaN and infinities, which JSON has not, are null, as is what is not recorded.
fn tensors(observation: &Observation, tensors: &[Tensor]) -> Value {
    let one = |tensor: &Tensor| {
        let data = redacted(tensor, &observation.source.policy.redaction(&tensor.name));
        json!({"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype.name(), "data": data})
    };
    tensors.iter().map(one).collect()
}

/// A value as a header may have it (section 3.1.3.2 of the HTTP binding).
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'"' | b'%' => drop(write!(text, "%{byte:02X}")),
            0x21..=0x7E => text.push(char::from(byte)),
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::records::RecordPolicy;
    use crate::routing::Source;

    fn origin() -> Origin {
        Origin { source: "/replica".to_owned(), namespace: "models".to_owned() }
    }

    fn observation() -> Observation {
        let source = Source {
            deployment: "points".to_owned(),
            model: "m".to_owned(),
            version: "3".to_owned(),
            prediction_output: None,
            policy: RecordPolicy { redact: vec!["x[1]".to_owned()], ..RecordPolicy::default() },
        };
        Observation {
            request_id: "r 1\"é".to_owned(),
            source: Arc::new(source),
            variant: Variant::Candidate,
            at_unix_ms: 1_500,
            latency: Duration::from_millis(500),
            rows: 1,
            inputs: Arc::new(vec![Tensor::fp32("x", [1, 2], &[f32::NAN, 7.0])]),
            outcome: Ok(Arc::new(vec![Tensor::fp32("y", [1], &[f32::INFINITY])])),
            primary: None,
        }
    }

    #[test]
    fn attributes_are_kserves_and_the_data_is_json_without_what_is_redacted() {
        let (headers, body) = Event::request(&origin(), &observation()).into_binary();
        let header = |name: &str| headers[name].to_str().unwrap();
        for (name, value) in [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "r%201%22%C3%A9"),
            ("ce-type", "org.kubeflow.serving.inference.request"),
            ("ce-source", "/replica"),
            ("ce-time", "1970-01-01T00:00:01.000Z"),
            ("ce-inferenceservicename", "points"),
            ("ce-namespace", "models"),
            ("ce-component", "predictor"),
            ("ce-endpoint", "canary"),
        ] {
            assert_eq!(header(name), value, "{name}");
        }
        let body: Value = serde_json::from_slice(&body).unwrap();
        let x = json!([{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [null, null]}]);
        assert_eq!((&body["id"], &body["inputs"]), (&json!("r 1\"é"), &x));

        let structured = Event::response(&origin(), &observation()).unwrap().into_structured();
        let event: Value = serde_json::from_slice(&structured).unwrap();
        assert_eq!(event["type"], RESPONSE);
        assert_eq!((&event["time"], &event["id"]), (&json!("1970-01-01T00:00:01.500Z"), &json!("r 1\"é")));
        assert_eq!(event["data"]["outputs"][0]["data"], json!([null]));
        let metadata: Value = serde_json::from_str(event["metadata"].as_str().unwrap()).unwrap();
        assert_eq!(metadata["slipway-version"], json!(["3"]));

        let failed = Observation { outcome: Err("no".to_owned()), ..observation() };
        assert_eq!(Event::response(&origin(), &failed), None);
    }
}
