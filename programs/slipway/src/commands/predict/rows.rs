//! The answer of an inference request as a table: one line per row, one column per output.

use serde_json::Value;

/// Values of one row that are shown; an embedding has more than a line holds.
const MAX_VALUES: usize = 16;

/// A table of outputs.
#[derive(Debug, PartialEq)]
pub(super) struct Rows {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// Outputs without rows of their own, such as scalars, by name.
    pub(super) others: Vec<(String, String)>,
}

/// The rows of an Open Inference Protocol answer. The first dimension of its first output with one counts
/// them.
pub(super) fn of(answer: &Value) -> Rows {
    let outputs: Vec<&Value> = answer["outputs"].as_array().into_iter().flatten().collect();
    let count = outputs.iter().find_map(|output| rows_of(output));
    let mut shown =
        Rows { header: Vec::new(), rows: vec![Vec::new(); count.unwrap_or(0)], others: Vec::new() };
    for output in outputs {
        let name = output["name"].as_str().unwrap_or_default().to_owned();
        let values = flat(&output["data"]);
        let per_row = match count {
            Some(count) if rows_of(output) == Some(count) => values.len().checked_div(count).unwrap_or(0),
            _ => {
                shown.others.push((name, joined(&values)));
                continue;
            }
        };
        shown.header.push(name);
        for (index, row) in shown.rows.iter_mut().enumerate() {
            row.push(joined(values.get(index * per_row..(index + 1) * per_row).unwrap_or_default()));
        }
    }
    shown
}

fn rows_of(output: &Value) -> Option<usize> {
    output["shape"].get(0)?.as_u64().and_then(|rows| usize::try_from(rows).ok())
}

/// The values of a tensor in row-major order, whether nested or flat.
fn flat(data: &Value) -> Vec<&Value> {
    match data {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        value => vec![value],
    }
}

fn joined(values: &[&Value]) -> String {
    let text = |value: &&Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut shown: Vec<String> = values.iter().take(MAX_VALUES).map(text).collect();
    if values.len() > MAX_VALUES {
        shown.push(format!("… {} more (--json has all)", values.len() - MAX_VALUES));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_row_has_its_values_of_each_output() {
        let answer = json!({"outputs": [
            {"name": "label", "shape": [2], "data": [1, 0]},
            {"name": "probabilities", "shape": [2, 2], "data": [0.25, 0.75, 0.5, 0.5]},
            {"name": "word", "shape": [2, 1], "data": [["a"], ["b"]]},
            {"name": "loss", "shape": [], "data": [0.5]},
        ]});
        let shown = of(&answer);
        assert_eq!(shown.header, ["label", "probabilities", "word"]);
        assert_eq!(shown.rows, [["1", "0.25, 0.75", "a"], ["0", "0.5, 0.5", "b"]]);
        assert_eq!(shown.others, [("loss".to_owned(), "0.5".to_owned())]);
    }

    #[test]
    fn no_rows_and_wide_rows_are_shown_too() {
        assert!(of(&json!({"outputs": [{"name": "x", "shape": [0, 3], "data": []}]})).rows.is_empty());
        let wide = json!({"outputs": [{"name": "x", "shape": [1, 20], "data": vec![0; 20]}]});
        assert!(of(&wide).rows[0][0].ends_with("… 4 more (--json has all)"));
    }
}
