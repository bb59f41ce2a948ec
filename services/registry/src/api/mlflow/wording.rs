//! Broken rules in the words of MLflow's server, which its clients and its own tests know.

use slipway_domain::registry::{Broken, Subject, Violation};

const KEY_CHARACTERS: &str = "Names may only contain alphanumerics, underscores (_), dashes (-), periods \
    (.), spaces ( ), colon(:) and slashes (/).";

/// The message for a value that breaks a rule.
pub(super) fn message(violation: &Violation) -> String {
    let Violation { value, subject, .. } = violation;
    let field = field(violation);
    match (&violation.broken, subject) {
        (Broken::Missing, Subject::ExperimentName) => "Invalid experiment name: ''".to_owned(),
        (Broken::Missing, Subject::Alias) => "Registered model alias name cannot be empty.".to_owned(),
        (Broken::Missing, _) => format!("Missing value for required parameter '{}'.", violation.field),
        (Broken::TooLong { max_chars }, Subject::ArtifactLocation) => format!(
            "Invalid artifact path length. The length of the artifact path cannot be greater than \
             {max_chars} characters."
        ),
        (Broken::TooLong { max_chars }, _) => {
            format!("'{}' exceeds the maximum length of {max_chars} characters", long_name(violation, &field))
        }
        (Broken::Form { .. }, _) => form(violation, &field),
        (Broken::ResolvesTo { resolved }, _) => resolves(violation, &field, resolved),
        (Broken::LeavesRoot, _) => "Invalid path".to_owned(),
        (Broken::NoPath { why }, _) => format!("Invalid path: {why}"),
        (Broken::NotAnInteger, Subject::ExperimentId) => {
            format!("Invalid experiment ID '{value}'. Experiment ID must be a valid integer.")
        }
        (Broken::NotAnInteger, _) => format!("Parameter '{field}' must be an integer, got '{value}'."),
        (Broken::Below { of, .. }, Subject::MetricTime) => format!(
            "Invalid value {value} for parameter '{field}' supplied: {of}. Timestamp must be a nonnegative \
             long (64-bit integer) "
        ),
        (Broken::Below { .. }, _) => {
            format!("Invalid value {value} for parameter '{field}' supplied. It must be a positive integer")
        }
        (Broken::Above { max }, _) => {
            format!("Invalid value {value} for parameter '{field}' supplied. It must be at most {max}")
        }
        (Broken::Reserved, _) if value.eq_ignore_ascii_case("latest") => {
            "'latest' alias name (case insensitive) is reserved.".to_owned()
        }
        (Broken::Reserved, _) => format!("Version alias name '{value}' is reserved."),
        (Broken::TooMany { what, got, max }, _) => format!(
            "A batch logging request can contain at most {max} {what}. Got {got} {what}. Please split up \
             {what} across multiple requests and try again."
        ),
        (Broken::Duplicates { keys }, _) => duplicates(keys),
        (Broken::UrlExtras, _) => "'artifact_location' URL can't include fragments or params.".to_owned(),
        (Broken::RunUri, _) => format!("Artifact location cannot be a runs:/ URI. Given: '{value}'"),
        (Broken::Foreign, _) => "Invalid page token, could not base64-decode".to_owned(),
    }
}

/// A name that names another file.
fn resolves(violation: &Violation, field: &str, resolved: &str) -> String {
    let why = "Names may be treated as files in certain cases, and must not resolve to other names when \
               treated as such. This name would resolve to";
    match violation.subject {
        Subject::ArtifactPath => format!("Invalid artifact path: '{}'. {why} '{resolved}'", violation.value),
        _ => invalid_value(field, &violation.value, &format!("{why} {}", quoted(resolved))),
    }
}

fn duplicates(keys: &[String]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
    format!(
        "Duplicate parameter keys have been submitted: [{}]. Please ensure the request contains only one \
         param value per param key.",
        keys.join(", ")
    )
}

/// What MLflow calls the field: the key of a metric is its name, and a model has one name, also a new one.
fn field(violation: &Violation) -> String {
    match violation.subject {
        Subject::MetricKey => {
            let path = violation.field.strip_suffix("key").unwrap_or(&violation.field);
            format!("{path}name")
        }
        Subject::ModelName => "name".to_owned(),
        _ => violation.field.clone(),
    }
}

/// What MLflow calls a value that is too long.
fn long_name<'name>(violation: &Violation, field: &'name str) -> &'name str {
    match violation.subject {
        Subject::MetricKey => "Metric name",
        Subject::ParamKey => "Param key",
        Subject::Alias => "Registered model alias name",
        _ => field,
    }
}

/// A value of other characters than are allowed.
fn form(violation: &Violation, field: &str) -> String {
    let value = &violation.value;
    match violation.subject {
        Subject::RunId => {
            format!(
                "Invalid value {} for parameter 'run_id' supplied.",
                serde_json::Value::from(value.as_str())
            )
        }
        Subject::ModelName => format!("Invalid model name '{value}'. Names cannot contain '/' or ':'."),
        Subject::LoggedModelName => format!(
            "Invalid model name ({}) provided. Model name must be a non-empty string and cannot contain the \
             following characters: ('/', ':', '.', '%', '\"', \"'\")",
            quoted(value)
        ),
        Subject::Alias => format!(
            "Invalid alias name: '{value}'. Names may only contain alphanumerics, underscores (_), and \
             dashes (-)."
        ),
        _ => invalid_value(field, value, KEY_CHARACTERS),
    }
}

fn invalid_value(field: &str, value: &str, why: &str) -> String {
    let shown = serde_json::Value::from(value);
    format!("Invalid value {shown} for parameter '{field}' supplied: {why}")
}

/// A text in quotes, as Python's `repr` chooses them and MLflow's messages show them.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::from(quote);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            '\\' => shown.push_str("\\\\"),
            '\'' if quote == '\'' => shown.push_str("\\'"),
            other => shown.push(other),
        }
    }
    shown.push(quote);
    shown
}

#[cfg(test)]
mod tests;
