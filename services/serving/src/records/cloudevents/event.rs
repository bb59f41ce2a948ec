//! One request or answer as a CloudEvent, with the attributes that KServe's logger gives them.
//!
//! Sources: <https://github.com/kserve/kserve/blob/master/pkg/logger/worker.go> (types and extensions),
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md> (headers),
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use slipway_api::predictions::Variant;
use slipway_inference::Tensor;

use super::super::json::{put, put_values, separate};
use super::super::observation::Observation;
use crate::metrics::variant_name;

const REQUEST: &str = "org.kubeflow.serving.inference.request";
const RESPONSE: &str = "org.kubeflow.serving.inference.response";
const SPEC_VERSION: &str = "1.0";
/// Content type of an event in NATS, where all of it is the message.
pub(super) const STRUCTURED: &str = "application/cloudevents+json";
const DATA_TYPE: &str = "application/json";
/// Begins the headers of attributes.
pub(super) const PREFIX: &str = "ce-";
/// What an event takes next to its values, most of the time.
const EXPECTED_BYTES: usize = 1024;

/// What the events of a process have in common.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// Who sends them, a URI reference.
    pub(super) source: String,
    /// Where KServe says the namespace of the service.
    pub(super) namespace: String,
}

/// An event: a request or an answer, in the inference protocol's JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'observation> {
    origin: &'observation Origin,
    observation: &'observation Observation,
    /// `None` for the request.
    outputs: Option<&'observation [Tensor]>,
}

/// An event as it is sent.
#[derive(Debug)]
pub(super) struct Message {
    /// Content type and attributes, where they are not in the body.
    pub(super) headers: HeaderMap,
    /// The data, or all of the event.
    pub(super) body: Bytes,
}

impl<'observation> Event<'observation> {
    /// The request of an observation.
    pub(super) fn request(origin: &'observation Origin, observation: &'observation Observation) -> Self {
        Self { origin, observation, outputs: None }
    }

    /// Its answer; `None` where there was none.
    pub(super) fn response(
        origin: &'observation Origin,
        observation: &'observation Observation,
    ) -> Option<Self> {
        let outputs = observation.outcome.as_ref().ok()?;
        Some(Self { origin, observation, outputs: Some(outputs) })
    }

    /// As KServe sends it: attributes as headers, the data as the body.
    pub(super) fn binary(&self) -> Message {
        let attributes = self.attributes();
        let mut headers = HeaderMap::with_capacity(attributes.len() + 1);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(DATA_TYPE));
        for (name, value) in attributes {
            let name = HeaderName::try_from(format!("{PREFIX}{name}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(escaped(&value))) {
                headers.insert(name, value);
            }
        }
        let mut body = Vec::with_capacity(EXPECTED_BYTES);
        self.put_data(&mut body);
        Message { headers, body: body.into() }
    }

    /// As one JSON object.
    pub(super) fn structured(&self) -> Message {
        let mut body = Vec::with_capacity(EXPECTED_BYTES);
        body.push(b'{');
        for (name, value) in self.attributes() {
            put(&mut body, name);
            body.push(b':');
            put(&mut body, &*value);
            body.push(b',');
        }
        body.extend_from_slice(b"\"datacontenttype\":");
        put(&mut body, DATA_TYPE);
        body.extend_from_slice(b",\"data\":");
        self.put_data(&mut body);
        body.push(b'}');
        Message { headers: HeaderMap::new(), body: body.into() }
    }

    fn attributes(&self) -> [(&'static str, Cow<'observation, str>); 10] {
        let Observation { source, variant, request_id, .. } = self.observation;
        let endpoint = if *variant == Variant::Candidate { "canary" } else { "default" };
        let kind = if self.outputs.is_some() { RESPONSE } else { REQUEST };
        [
            ("specversion", SPEC_VERSION.into()),
            ("id", request_id.into()),
            ("type", kind.into()),
            ("source", (&self.origin.source).into()),
            ("time", self.time().into()),
            ("inferenceservicename", (&source.deployment).into()),
            ("namespace", (&self.origin.namespace).into()),
            ("component", "predictor".into()),
            ("endpoint", endpoint.into()),
            ("metadata", self.metadata().into()),
        ]
    }

    /// When the request came, or was answered.
    fn time(&self) -> String {
        let Observation { at_unix_ms, latency, .. } = self.observation;
        let ago_ms = if self.outputs.is_some() { 0 } else { latency.as_millis() };
        let at_ms = i64::try_from(u128::from(*at_unix_ms).saturating_sub(ago_ms));
        let at = at_ms.ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
        at.to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// KServe has headers of the request here, each with its values.
    fn metadata(&self) -> String {
        let Observation { source, variant, .. } = self.observation;
        let of_version = [
            ("slipway-model", &*source.model),
            ("slipway-version", &source.version),
            ("slipway-variant", variant_name(*variant)),
        ];
        let mut text = Vec::new();
        for (at, (name, value)) in of_version.into_iter().enumerate() {
            text.push(if at == 0 { b'{' } else { b',' });
            put(&mut text, name);
            text.push(b':');
            put(&mut text, &[value]);
        }
        text.push(b'}');
        String::from_utf8(text).unwrap_or_default()
    }

    fn put_data(&self, body: &mut Vec<u8>) {
        let Observation { source, request_id, inputs, .. } = self.observation;
        body.extend_from_slice(b"{\"id\":");
        put(body, request_id);
        let (named, tensors) = match self.outputs {
            None => ("inputs", inputs.as_slice()),
            Some(outputs) => {
                body.extend_from_slice(b",\"model_name\":");
                put(body, &source.deployment);
                body.extend_from_slice(b",\"model_version\":");
                put(body, &source.version);
                ("outputs", outputs)
            }
        };
        body.push(b',');
        put(body, named);
        body.extend_from_slice(b":[");
        for (at, tensor) in tensors.iter().enumerate() {
            separate(body, at);
            self.put_tensor(tensor, body);
        }
        body.extend_from_slice(b"]}");
    }

    /// A tensor as the protocol's JSON has it; NaN and infinities, which JSON has not, are null, as is what
    /// is not recorded.
    fn put_tensor(&self, tensor: &Tensor, body: &mut Vec<u8>) {
        body.extend_from_slice(b"{\"name\":");
        put(body, &tensor.name);
        body.extend_from_slice(b",\"shape\":");
        put(body, &tensor.shape);
        body.extend_from_slice(b",\"datatype\":");
        put(body, tensor.datatype.name());
        body.extend_from_slice(b",\"data\":[");
        put_values(tensor, &self.observation.source.policy.redaction(&tensor.name), body);
        body.extend_from_slice(b"]}");
    }
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

    use serde_json::{Value, json};

    use super::*;
    use crate::source::RecordPolicy;
    use crate::source::Source;

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
            feed: Arc::default(),
        };
        Observation {
            non_finite_outputs: 0,
            request_id: "r 1\"é".to_owned(),
            source: Arc::new(source),
            variant: Variant::Candidate,
            at_unix_ms: 1_500,
            latency: Duration::from_millis(500),
            rows: 1,
            row_indices: None,
            inputs: Arc::new(vec![Tensor::fp32("x", [1, 2], &[f32::NAN, 7.0])]),
            outcome: Ok(Arc::new(vec![Tensor::fp32("y", [1], &[f32::INFINITY])])),
            primary: None,
        }
    }

    #[test]
    fn attributes_are_kserves_and_the_data_is_json_without_what_is_redacted() {
        let Message { headers, body } = Event::request(&origin(), &observation()).binary();
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

        let structured = Event::response(&origin(), &observation()).unwrap().structured();
        let event: Value = serde_json::from_slice(&structured.body).unwrap();
        assert_eq!(event["type"], RESPONSE);
        assert_eq!((&event["time"], &event["id"]), (&json!("1970-01-01T00:00:01.500Z"), &json!("r 1\"é")));
        assert_eq!(event["data"]["outputs"][0]["data"], json!([null]));
        let metadata: Value = serde_json::from_str(event["metadata"].as_str().unwrap()).unwrap();
        assert_eq!(metadata["slipway-version"], json!(["3"]));

        let failed = Observation { outcome: Err("no".to_owned()), ..observation() };
        assert!(Event::response(&origin(), &failed).is_none());
    }
}
