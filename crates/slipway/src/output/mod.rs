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
    text(value)
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
            fields.iter().map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(" ")
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
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields {
        let deep = match value {
            Value::Object(inner) => !inner.values().all(is_scalar),
            Value::Array(items) => !items.iter().all(is_scalar),
            _ => false,
        };
        if !deep {
            out.push(format!("{:indent$}{name:<width$}  {}", "", text(value)).trim_end().to_owned());
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
    let mut shown = Vec::new();
    lines(answer, 0, &mut shown);
    println!("{}", shown.join("\n"));
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
        assert_eq!(cell(&version, "aliases"), "champion=2");
        assert_eq!(cell(&version, "aliases.champion"), "2");
    }
}
