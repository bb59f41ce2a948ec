//! `metadata`, which no CustomResourceDefinition describes.

use crate::schema::nearest;
use crate::yaml::{Entry, Node, Value};
use crate::{Finding, Report};

/// Fields of ObjectMeta.
const FIELDS: [&str; 14] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "uid",
];
const MAX_NAME: usize = 253;

pub(crate) fn check(document: &Node, report: &mut Report) {
    let mut refuse = |node: &Node, path: &str, message: String| {
        report.errors.push(Finding { position: node.position, path: path.to_owned(), message });
    };
    let Some(metadata) = document.get("metadata") else {
        return refuse(document, "metadata", "required, and is missing".to_owned());
    };
    let Value::Map(entries) = &metadata.value else {
        return refuse(metadata, "metadata", format!("expected an object, got {}", metadata.shown()));
    };
    for Entry { name, position, node } in entries {
        let path = format!("metadata.{name}");
        if !FIELDS.contains(&name.as_str()) {
            let near = nearest(name, FIELDS).map(|near| format!("; did you mean {near}?"));
            let message = format!("unknown field{}", near.unwrap_or_default());
            report.errors.push(Finding { position: *position, path, message });
        } else if matches!(name.as_str(), "labels" | "annotations") {
            report.errors.extend(strings(&path, node));
        } else if matches!(name.as_str(), "name" | "namespace" | "generateName") {
            report.errors.extend(name_of_object(&path, node));
        }
    }
    if metadata.get("name").is_none() && metadata.get("generateName").is_none() {
        report.errors.push(Finding {
            position: metadata.position,
            path: "metadata.name".to_owned(),
            message: "required, and is missing".to_owned(),
        });
    }
}

/// Values have to be strings: a label `true` or `1` without quotes is none.
fn strings(path: &str, node: &Node) -> Vec<Finding> {
    let finding = |node: &Node, path: String, expected: &str| Finding {
        position: node.position,
        path,
        message: format!("expected {expected}, got {}", node.shown()),
    };
    match &node.value {
        Value::Null => Vec::new(),
        Value::Map(entries) => entries
            .iter()
            .filter(|entry| entry.node.text().is_none())
            .map(|entry| finding(&entry.node, format!("{path}.{}", entry.name), "a string; use quotes"))
            .collect(),
        _ => vec![finding(node, path.to_owned(), "an object")],
    }
}

fn name_of_object(path: &str, node: &Node) -> Option<Finding> {
    let is_name = |text: &str| {
        let ends =
            |sign: Option<char>| sign.is_some_and(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit());
        let allowed =
            |sign: char| sign.is_ascii_lowercase() || sign.is_ascii_digit() || matches!(sign, '-' | '.');
        text.len() <= MAX_NAME
            && text.chars().all(allowed)
            && ends(text.chars().next())
            && (path.ends_with("generateName") || ends(text.chars().last()))
    };
    let valid = node.text().is_some_and(is_name);
    (!valid).then(|| Finding {
        position: node.position,
        path: path.to_owned(),
        message: format!(
            "expected at most {MAX_NAME} lower-case letters, digits, `-` and `.`, a letter or digit first \
             and last, got {}",
            node.shown()
        ),
    })
}
