//! One document: its kind, its metadata, and its schema.

use crate::definitions::{Definitions, Found};
use crate::schema::{self, nearest};
use crate::yaml::{Node, Value};
use crate::{Finding, Report, metadata};

/// Whether it looks like an object of Kubernetes.
pub(crate) fn is_object(document: &Node) -> bool {
    document.get("apiVersion").and_then(Node::text).is_some() && document.get("kind").is_some()
}

/// Checks a document, or the objects of a List.
pub(crate) fn check(document: &Node, definitions: &Definitions, report: &mut Report) {
    if !matches!(document.value, Value::Map(_)) {
        return refuse(
            report,
            document,
            "",
            format!("expected an object of Kubernetes, got {}", document.shown()),
        );
    }
    let (Some(api_version), Some(kind)) =
        (required_text(document, "apiVersion", report), required_text(document, "kind", report))
    else {
        return;
    };
    if kind == "List" && api_version == "v1" {
        if let Some(Value::List(items)) = document.get("items").map(|items| &items.value) {
            items.iter().for_each(|item| check(item, definitions, report));
        }
        return;
    }
    let at = |field: &str| document.get(field).unwrap_or(document);
    match definitions.find(api_version, kind) {
        Found::Schema(schema) => {
            report.checked += 1;
            metadata::check(document, report);
            schema::check(document, schema, report);
        }
        Found::OtherVersions(versions) => {
            let (group, _) = api_version.split_once('/').unwrap_or_default();
            let versions: Vec<String> = versions.iter().map(|version| format!("{group}/{version}")).collect();
            let message =
                format!("{kind} has no version {api_version:?}, expected {}", versions.join(" or "));
            refuse(report, at("apiVersion"), "apiVersion", message);
        }
        Found::OtherKinds(kinds) => {
            let near = nearest(kind, kinds.iter().copied()).map(|near| format!("; did you mean {near}?"));
            let message = format!(
                "{api_version} has no kind {kind:?}, expected {}{}",
                kinds.join(" or "),
                near.unwrap_or_default()
            );
            refuse(report, at("kind"), "kind", message);
        }
        Found::Foreign => report.notes.push(Finding {
            position: document.position,
            path: String::new(),
            message: format!("{kind} ({api_version}) is not a kind of Slipway; not checked"),
        }),
    }
}

fn required_text<'node>(document: &'node Node, field: &str, report: &mut Report) -> Option<&'node str> {
    let Some(node) = document.get(field) else {
        refuse(report, document, field, "required, and is missing".to_owned());
        return None;
    };
    let text = node.text().filter(|text| !text.is_empty());
    if text.is_none() {
        refuse(report, node, field, format!("expected a string, got {}", node.shown()));
    }
    text
}

fn refuse(report: &mut Report, node: &Node, path: &str, message: String) {
    report.errors.push(Finding { position: node.position, path: path.to_owned(), message });
}
