//! Compares a response with the operation's description.

use serde_json::Value;

use super::Operation;
use super::schema;
use super::send::Received;

/// A documented answer of protocols of which a service supports only a part.
const NOT_IMPLEMENTED: u16 = 501;

/// What the description does not allow; empty where all of it does.
pub(super) fn violations(operation: Operation<'_>, received: &Received) -> Vec<String> {
    let name = operation.name();
    let status = received.status;
    let mut found = Vec::new();
    if status >= 500 && status != NOT_IMPLEMENTED {
        found.push(format!("{name}: {status}, an error of the server: {}", received.shown()));
    }
    let Some(described) = operation.described["responses"].get(status.to_string()) else {
        found.push(format!("{name}: {status} is not documented: {}", received.shown()));
        return found;
    };
    let described = schema::resolve(operation.document, described);
    let content = described["content"].as_object();
    let Some(content) = content.filter(|content| !content.is_empty()) else {
        if !received.body.is_empty() {
            found.push(format!("{name}: {status} is documented without a body: {}", received.shown()));
        }
        return found;
    };
    let kind = received.content_type.split(';').next().unwrap_or_default().trim();
    let Some(described) = content.get(kind).or_else(|| content.get("*/*")) else {
        found.push(format!("{name}: {status} is not documented with the content type `{kind}`"));
        return found;
    };
    if !kind.ends_with("json") || !received.complete {
        return found;
    }
    match serde_json::from_slice::<Value>(&received.body) {
        Ok(body) => {
            let violations = schema::violations(operation.document, &described["schema"], &body);
            found.extend(violations.into_iter().map(|violation| format!("{name}: {status}: {violation}")));
            if body["field"] == "request" {
                found.push(format!(
                    "{name}: {status}: the problem does not name the field: {}",
                    received.shown()
                ));
            }
        }
        Err(error) => found.push(format!("{name}: {status} is not JSON: {error}: {}", received.shown())),
    }
    found
}
