//! Everything that the command line prints: tables and lines for people, JSON for scripts.
//!
//! Text of users and services is escaped wherever it is printed for people ([`slipway_telemetry::escape`],
//! which the logs use as well); JSON stays the same document.

mod log;
mod moment;
mod table;
mod writer;

use std::io::IsTerminal as _;

use serde::Serialize;
use serde_json::Value;
pub(crate) use slipway_telemetry::escape;
use unicode_width::UnicodeWidthStr as _;

pub(crate) use log::Log;
pub(crate) use moment::local;
pub(crate) use writer::{end_with_reader, outlive_reader, raw_error};

/// Prints one line; line breaks and control characters in what it holds are escaped.
macro_rules! outln {
    ($($argument:tt)*) => { $crate::output::line(&format!($($argument)*)) };
}
/// Prints one line to standard error, for progress and hints; escaped as by [`outln`].
macro_rules! errln {
    ($($argument:tt)*) => { $crate::output::error_line(&format!($($argument)*)) };
}
pub(crate) use {errln, outln};

/// See [`outln`].
pub(crate) fn line(text: &str) {
    writer::raw(format!("{}\n", escape::one_line(text)).as_bytes());
}

/// See [`errln`].
pub(crate) fn error_line(text: &str) {
    writer::raw_error(format!("{}\n", escape::one_line(text)).as_bytes());
}

/// Prints text of several lines; other control characters are escaped.
pub(crate) fn block(text: &str) {
    writer::raw(escape::block(text).as_bytes());
}

/// Prints why a command failed; an error may have several lines.
pub(crate) fn failure(error: &anyhow::Error) {
    writer::raw_error(format!("slipway: {}\n", escape::block(&format!("{error:#}"))).as_bytes());
}

/// Prints a table with a header, fitted to the terminal where there is one.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let terminal = std::io::stdout().is_terminal();
    let limit = terminal.then(terminal_size::terminal_size).flatten().map(|(width, _)| usize::from(width.0));
    writer::raw(lines_of(&table::lines(header, rows, limit)).as_bytes());
}

fn lines_of(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + &escape::one_line(line) + "\n")
}

/// Bytes as people say them: powers of 1000, one digit behind the point.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1_000 {
        return format!("{bytes} bytes");
    }
    let mut amount = bytes as f64 / 1_000.0;
    let mut unit = 0;
    while amount >= 1_000.0 && unit + 1 < UNITS.len() {
        amount /= 1_000.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// What a service returned, as JSON.
pub(crate) fn value_of(answer: &impl Serialize) -> Value {
    // Bodies of the API are JSON.
    serde_json::to_value(answer).unwrap_or_default()
}

/// Prints JSON, indented.
pub(crate) fn json(value: &impl Serialize) {
    let value = value_of(value);
    writer::raw(format!("{}\n", escape::json(&format!("{value:#}"))).as_bytes());
}

/// Prints JSON on one line, for a stream of documents.
pub(crate) fn json_line(value: &impl Serialize) {
    let value = value_of(value);
    writer::raw(format!("{}\n", escape::json(&value.to_string())).as_bytes());
}

/// A field of an object as text for a table: nothing for null, plain text for strings, local time for
/// moments.
pub(crate) fn cell(object: &Value, path: &str) -> String {
    let mut value = object;
    for part in path.split('.') {
        value = value.get(part).unwrap_or(&Value::Null);
    }
    named(path.rsplit('.').next().unwrap_or(path), value)
}

/// A value on one line, as the name of its field says.
fn named(name: &str, value: &Value) -> String {
    moment::of_field(name, value).unwrap_or_else(|| text(value))
}

/// A value on one line.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) if items.iter().all(is_scalar) => {
            items.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        Value::Object(fields) if fields.values().all(is_scalar) => {
            let field =
                |(name, value): (&String, &Value)| format!("{}={}", moment::title(name), named(name, value));
            fields.iter().map(field).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

/// Fields a line each; what has fields of its own follows indented.
fn lines(value: &Value, indent: usize, out: &mut Vec<String>) {
    let Some(fields) = value.as_object() else {
        out.push(format!("{:indent$}{}", "", text(value)));
        return;
    };
    let width = fields.keys().map(|name| moment::title(name).width()).max().unwrap_or(0);
    for (name, value) in fields {
        let title = moment::title(name);
        let pad = width - title.width();
        let deep = match value {
            Value::Object(inner) => !inner.values().all(is_scalar),
            Value::Array(items) => !items.iter().all(is_scalar),
            _ => false,
        };
        if !deep {
            let line = format!("{:indent$}{title}{:pad$}  {}", "", "", named(name, value));
            out.push(line.trim_end().to_owned());
            continue;
        }
        out.push(format!("{:indent$}{name}", ""));
        match value {
            Value::Array(items) => {
                for item in items {
                    out.push(format!("{:indent$}  -", ""));
                    lines(item, indent + 4, out);
                }
            }
            inner => lines(inner, indent + 2, out),
        }
    }
}

/// Prints a list: as it is with `--json`, else as a table of the named fields.
pub(crate) fn list(as_json: bool, answer: &impl Serialize, items: &str, columns: &[(&str, &str)]) {
    let answer = &value_of(answer);
    if as_json {
        json(answer);
        return;
    }
    let header: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let empty = Vec::new();
    let rows: Vec<Vec<String>> = answer
        .get(items)
        .and_then(Value::as_array)
        .unwrap_or(&empty)
        .iter()
        .map(|item| columns.iter().map(|(_, path)| cell(item, path)).collect())
        .collect();
    table(&header, &rows);
    if let Some(token) =
        answer.get("next_page_token").and_then(Value::as_str).filter(|token| !token.is_empty())
    {
        outln!("… more: --page-token {token}");
    }
}

/// Prints one object: as it is with `--json`, else its fields a line each.
pub(crate) fn object(as_json: bool, answer: &impl Serialize) {
    let answer = &value_of(answer);
    if as_json {
        json(answer);
        return;
    }
    fields(answer);
}

/// Prints one object as [`object`] does, but some fields first, in the given order.
pub(crate) fn object_in_order(as_json: bool, answer: &impl Serialize, first: &[&str]) {
    let answer = &value_of(answer);
    if as_json {
        json(answer);
        return;
    }
    let mut shown = Vec::new();
    in_order(answer, first, &mut shown);
    writer::raw(lines_of(&shown).as_bytes());
}

fn in_order(answer: &Value, first: &[&str], shown: &mut Vec<String>) {
    let width = first.iter().map(|name| moment::title(name).width()).max().unwrap_or(0);
    for name in first.iter().filter(|name| answer.get(name).is_some()) {
        shown.push(format!("{:<width$}  {}", moment::title(name), cell(answer, name)).trim_end().to_owned());
    }
    let rest = answer.as_object().into_iter().flatten().filter(|(name, _)| !first.contains(&name.as_str()));
    let rest: serde_json::Map<_, _> = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
    lines(&Value::Object(rest), 0, shown);
}

/// Prints the fields of an object, one per line.
pub(crate) fn fields(object: &Value) {
    let mut shown = Vec::new();
    lines(object, 0, &mut shown);
    writer::raw(lines_of(&shown).as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_read_names_and_values_and_no_json() {
        let version = json!({"model": "m", "aliases": {"champion": "2"}, "digest": null, "shape": [-1, 2],
            "files": [{"path": "a", "size": 1}, {"path": "b", "size": 2}]});
        let mut shown = Vec::new();
        lines(&version, 0, &mut shown);
        let expected = [
            "aliases  champion=2",
            "digest",
            "files",
            "  -",
            "    path  a",
            "    size  1",
            "  -",
            "    path  b",
            "    size  2",
            "model    m",
            "shape    -1, 2",
        ];
        assert_eq!(shown, expected);
        let mut shown = Vec::new();
        in_order(&version, &["model", "shape"], &mut shown);
        assert_eq!(shown[..4], ["model  m", "shape  -1, 2", "aliases  champion=2", "digest"]);
        assert_eq!(cell(&version, "aliases"), "champion=2");
        assert_eq!(cell(&version, "aliases.champion"), "2");
    }
}
