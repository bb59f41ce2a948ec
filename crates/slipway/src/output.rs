//! Tables for people, JSON for scripts.

use serde_json::Value;

/// Prints a table with a header, columns as wide as their widest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        println!("{}", padded.join("  ").trim_end());
    };
    line(header.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

/// Prints JSON, indented.
pub(crate) fn json(value: &Value) {
    println!("{value:#}");
}

/// A field of an object as text for a table: nothing for null, plain text for strings.
pub(crate) fn cell(object: &Value, path: &str) -> String {
    let mut value = object;
    for part in path.split('.') {
        value = value.get(part).unwrap_or(&Value::Null);
    }
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => other.to_string(),
    }
}

/// Prints a list: as it is with `--json`, else as a table of the named fields.
pub(crate) fn list(as_json: bool, answer: &Value, items: &str, columns: &[(&str, &str)]) {
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
        println!("… more: --page-token {token}");
    }
}

/// Prints one object: as it is with `--json`, else its fields a line each.
pub(crate) fn object(as_json: bool, answer: &Value) {
    if as_json {
        json(answer);
        return;
    }
    let Some(fields) = answer.as_object() else {
        json(answer);
        return;
    };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for name in fields.keys() {
        println!("{name:<width$}  {}", cell(answer, name));
    }
}
