//! The AsyncAPI document of all events.
//!
//! Source: <https://www.asyncapi.com/docs/reference/specification/v3.0.0>.

use serde_json::{Map, Value, json};

use super::EVENTS_STREAM;
use super::catalog::catalog;
use crate::predictions::{LABELS_STREAM, LABELS_SUBJECT, PREDICTIONS_STREAM, PREDICTIONS_SUBJECT};

/// The document.
pub fn document() -> Value {
    let mut channels = Map::new();
    let mut operations = Map::new();
    let mut messages = Map::new();
    for entry in catalog().entries.values() {
        let subject = entry.subject.as_str();
        let stream = match subject {
            PREDICTIONS_SUBJECT => PREDICTIONS_STREAM,
            LABELS_SUBJECT => LABELS_STREAM,
            _ => EVENTS_STREAM,
        };
        let mut channel = json!({
            "address": subject,
            "description": format!("JetStream stream {stream}"),
            "messages": {"event": {"$ref": format!("#/components/messages/{subject}")}},
        });
        if subject == PREDICTIONS_SUBJECT {
            channel["address"] = format!("{subject}.{{deployment}}.{{sender}}").into();
            channel["parameters"] = json!({
                "deployment": {
                    "description": "Name of the deployment; bytes that are not allowed in a subject as %XX"
                },
                "sender": {
                    "description": "Identity of the deployment; `folder` for servers of a folder of models"
                },
            });
        }
        channels.insert(subject.to_owned(), channel);
        let operation = json!({
            "action": "send",
            "channel": {"$ref": format!("#/channels/{subject}")},
            "messages": [{"$ref": format!("#/channels/{subject}/messages/event")}],
        });
        operations.insert(subject.to_owned(), operation);
        let message = json!({
            "name": subject,
            "summary": entry.summary,
            "contentType": "application/json",
            "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
            "payload": entry.data,
        });
        messages.insert(subject.to_owned(), message);
    }
    let mut schemas = catalog().schemas.clone();
    schemas.insert("CloudEventHeaders".to_owned(), headers());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Slipway events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "CloudEvents 1.0 in binary mode on NATS JetStream. Consumers must ignore unknown \
                fields.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    })
}

fn headers() -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    json!({
        "type": "object",
        "description": "Attributes of the CloudEvent. Prediction records and labels have none of them.",
        "properties": {
            "ce-specversion": {"const": "1.0"},
            "ce-id": text("The same at each delivery; also Nats-Msg-Id."),
            "ce-source": text("slipway/<service>"),
            "ce-type": text("The subject."),
            "ce-subject": text("What the event is about, e.g. churn/3."),
            "ce-time": text("RFC 3339."),
            "traceparent": text("W3C trace context of the change."),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::events::{AliasSet, EVENTS_SUBJECTS, EventBody as _, catalog};

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/events/asyncapi.json");

    #[test]
    fn the_asyncapi_document_in_the_repository_is_this_one() {
        let text = format!("{:#}\n", document());
        if std::env::var_os("SLIPWAY_WRITE_DOCS").is_some() {
            std::fs::create_dir_all(Path::new(COMMITTED).parent().unwrap()).unwrap();
            std::fs::write(COMMITTED, text).unwrap();
            return;
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == text,
            "docs/events/asyncapi.json is out of date: cargo xtask codegen writes it anew"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        for rest in document.to_string().split("\"$ref\":\"#").skip(1) {
            let pointer = rest.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn every_subject_belongs_to_a_stream() {
        for subject in catalog::catalog().entries.keys() {
            let held = EVENTS_SUBJECTS.iter().any(|filter| subject.starts_with(filter.trim_end_matches('>')));
            assert!(held || [PREDICTIONS_SUBJECT, LABELS_SUBJECT].contains(&subject.as_str()), "{subject}");
        }
        let alias = AliasSet {
            model: "m".into(),
            alias: "a".into(),
            version: "1".into(),
            unchanged: false,
            model_id: String::new(),
        };
        assert!(catalog::find(&alias.subject()).is_some());
    }
}
