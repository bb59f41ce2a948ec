//! Windows, columns and verdicts as tables.

use serde_json::{Value, json};

use crate::output::{self, outln};

fn items<'answer>(answer: &'answer Value, field: &str) -> &'answer [Value] {
    answer.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn drifted(columns: &[Value]) -> impl Iterator<Item = &Value> {
    columns.iter().filter(|column| column["drifted"] == true)
}

/// Closed windows: how many rows, which columns drifted, and why.
pub(super) fn windows(as_json: bool, answer: &Value) {
    let told = if as_json { answer.clone() } else { with(answer, "windows", window_line) };
    let columns = [
        ("WINDOW", "sequence"),
        ("CLOSED", "closed_at"),
        ("ROWS", "rows"),
        ("MISSED", "missed"),
        ("VERDICT", "verdict"),
        ("COLUMNS", "columns"),
        ("REASONS", "reasons"),
    ];
    output::list(as_json, &told, "windows", &columns);
}

/// The answer with fields of its items added for a table.
fn with(answer: &Value, field: &str, line: impl Fn(&Value) -> Value) -> Value {
    let mut told = answer.clone();
    for item in told[field].as_array_mut().into_iter().flatten() {
        let added = line(item);
        if let (Some(item), Value::Object(added)) = (item.as_object_mut(), added) {
            item.extend(added);
        }
    }
    told
}

fn window_line(window: &Value) -> Value {
    let scores = &window["scores"];
    let names: Vec<&str> = drifted(items(scores, "features"))
        .chain(drifted(items(scores, "predictions")))
        .filter_map(|column| column["name"].as_str())
        .collect();
    let missed: u64 = ["rows_lost", "rows_dropped", "rows_not_recorded"]
        .iter()
        .filter_map(|field| window[field].as_u64())
        .sum();
    let verdict = match (scores["conclusive"] == false, window["drifted"] == true) {
        (true, _) => "inconclusive",
        (false, true) => "drifted",
        (false, false) => "steady",
    };
    let reasons: Vec<&str> = items(scores, "reasons").iter().filter_map(Value::as_str).collect();
    json!({
        "columns": names.join(", "),
        "missed": missed,
        "verdict": verdict,
        "reasons": reasons.join("; "),
    })
}

/// One window, column by column.
pub(super) fn window(as_json: bool, found: &Value, only_drifted: bool) {
    if as_json {
        return output::json(found);
    }
    let line = window_line(found);
    let rows = |field: &str| found[field].as_u64().unwrap_or(0);
    let verdict = line["verdict"].as_str().unwrap_or_default();
    outln!("window {}: {} rows, {verdict}", rows("sequence"), rows("rows"));
    for reason in items(&found["scores"], "reasons").iter().filter_map(Value::as_str) {
        outln!("  {reason}");
    }
    if line["missed"] != 0 {
        outln!(
            "  not in the window: {} rows lost from the stream, {} dropped by serving, {} of large requests",
            rows("rows_lost"),
            rows("rows_dropped"),
            rows("rows_not_recorded")
        );
    }
    let scores = &found["scores"];
    let kinds = [("feature", items(scores, "features")), ("prediction", items(scores, "predictions"))];
    let lines: Vec<Vec<String>> = kinds
        .into_iter()
        .flat_map(|(kind, columns)| columns.iter().map(move |column| (kind, column)))
        .filter(|(_, column)| !only_drifted || column["drifted"] == true)
        .map(|(kind, column)| column_line(kind, column))
        .collect();
    output::table(
        &["KIND", "COLUMN", "PSI", "KS", "MISSING", "OUT OF RANGE", "SHIFT", "DRIFTED", "REASONS"],
        &lines,
    );
}

fn column_line(kind: &str, column: &Value) -> Vec<String> {
    let number = |field: &str| column[field].as_f64().map_or_else(String::new, |value| format!("{value:.3}"));
    let verdict = match (column["compared"] == false, column["drifted"] == true) {
        (true, _) => "not compared",
        (false, true) => "yes",
        (false, false) => "no",
    };
    let reasons: Vec<&str> = items(column, "reasons").iter().filter_map(Value::as_str).collect();
    let name = column["name"].as_str().unwrap_or_default();
    vec![
        kind.to_owned(),
        name.to_owned(),
        number("psi"),
        number("ks"),
        number("missing_rate"),
        number("out_of_range_rate"),
        number("shift"),
        verdict.to_owned(),
        reasons.join("; "),
    ]
}

/// Verdicts: what drifted, in which windows, against which version.
pub(super) fn verdicts(as_json: bool, answer: &Value) {
    let line = |verdict: &Value| {
        let evidence = &verdict["evidence"];
        let of = |kind: &str, field: &str| -> Vec<String> {
            let names = drifted(items(evidence, field)).filter_map(|column| column["name"].as_str());
            names.map(|name| format!("{kind} {name}")).collect()
        };
        let mut parts = of("feature", "features");
        parts.extend(of("prediction", "predictions"));
        parts.extend((evidence["rows_repeated"] == true).then(|| "repeated rows".to_owned()));
        json!({"drifted": parts.join(", ")})
    };
    let told = if as_json { answer.clone() } else { with(answer, "verdicts", line) };
    let columns = [
        ("DECIDED", "decided_at"),
        ("VERDICT", "what"),
        ("WINDOWS", "windows"),
        ("BASELINE", "baseline_version"),
        ("DRIFTED", "drifted"),
        ("EVENT", "event_id"),
    ];
    output::list(as_json, &told, "verdicts", &columns);
}
