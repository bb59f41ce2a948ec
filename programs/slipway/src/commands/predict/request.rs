//! Rows as a person types them, as an Open Inference Protocol request.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

/// The request for rows: arrays for a model with one input, objects with one value per input for any model.
pub(super) fn from_rows(metadata: &Value, given: Value) -> anyhow::Result<Value> {
    let inputs =
        metadata.get("inputs").and_then(Value::as_array).context("the model's metadata has no inputs")?;
    let rows = match given {
        Value::Object(row) => vec![Value::Object(row)],
        Value::Array(rows) if rows.first().is_some_and(is_container) => rows,
        Value::Array(row) if inputs.len() == 1 && rank(&inputs[0]) == 1 => row,
        Value::Array(row) if !row.is_empty() => vec![Value::Array(row)],
        _ => bail!("expected at least one row as `[[…], …]` or `[{{…}}, …]`, or a request with `inputs`"),
    };
    if rows.iter().all(Value::is_object) {
        return named(inputs, &rows);
    }
    let [input] = inputs.as_slice() else {
        let names: Vec<&str> = inputs.iter().filter_map(|input| input["name"].as_str()).collect();
        bail!(
            "the model has {} inputs ({}): give rows as objects, `[{{\"{}\": …}}, …]`, or a request with \
             `inputs`",
            names.len(),
            names.join(", "),
            names.first().unwrap_or(&"name")
        );
    };
    Ok(json!({"inputs": [tensor(input, Value::Array(rows))?]}))
}

fn is_container(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

fn rank(input: &Value) -> usize {
    input["shape"].as_array().map_or(0, Vec::len)
}

/// Rows that name their inputs.
fn named(inputs: &[Value], rows: &[Value]) -> anyhow::Result<Value> {
    let rows: Vec<&Map<String, Value>> = rows.iter().filter_map(Value::as_object).collect();
    let known = |name: &String| inputs.iter().any(|input| input["name"] == **name);
    if let Some(unknown) = rows.iter().flat_map(|row| row.keys()).find(|name| !known(name)) {
        let names: Vec<&str> = inputs.iter().filter_map(|input| input["name"].as_str()).collect();
        bail!("the model has no input '{unknown}'; its inputs are {}", names.join(", "));
    }
    let mut tensors = Vec::new();
    for input in inputs {
        let name = input["name"].as_str().unwrap_or_default();
        let mut column = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let value = row
                .get(name)
                .with_context(|| format!("row {} has no value for input '{name}'", index + 1))?;
            // A scalar of an input with a column dimension is a row of one.
            let wrap = rank(input) > 1 && !value.is_array();
            column.push(if wrap { json!([value]) } else { value.clone() });
        }
        tensors.push(tensor(input, Value::Array(column))?);
    }
    Ok(json!({ "inputs": tensors }))
}

fn tensor(input: &Value, data: Value) -> anyhow::Result<Value> {
    let shape = shape_of(&data).with_context(|| {
        format!("the rows of input '{}' differ in length", input["name"].as_str().unwrap_or_default())
    })?;
    Ok(json!({"name": input["name"], "datatype": input["datatype"], "shape": shape, "data": data}))
}

/// The shape of nested arrays; nothing where they are ragged.
fn shape_of(data: &Value) -> Option<Vec<usize>> {
    let Some(items) = data.as_array() else { return Some(Vec::new()) };
    let mut shapes = items.iter().map(shape_of);
    let first = shapes.next().unwrap_or_else(|| Some(Vec::new()))?;
    shapes.all(|shape| shape.as_ref() == Some(&first)).then(|| [vec![items.len()], first].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(inputs: Value) -> Value {
        json!({ "inputs": inputs })
    }

    #[test]
    fn rows_become_one_tensor_of_their_shape() {
        let metadata = model(json!([{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]));
        for (given, shape) in
            [(json!([1, 2]), json!([1, 2])), (json!([[1, 2], [3, 4], [5, 6]]), json!([3, 2]))]
        {
            let request = from_rows(&metadata, given).unwrap();
            assert_eq!(request["inputs"][0]["shape"], shape);
            assert_eq!(request["inputs"][0]["datatype"], "FP32");
        }
        let image = model(json!([{"name": "x", "datatype": "FP32", "shape": [-1, 1, 2, 2]}]));
        let request = from_rows(&image, json!([[[[1, 2], [3, 4]]]])).unwrap();
        assert_eq!(request["inputs"][0]["shape"], json!([1, 1, 2, 2]));
        let list = model(json!([{"name": "x", "datatype": "BYTES", "shape": [-1]}]));
        assert_eq!(from_rows(&list, json!(["a", "b"])).unwrap()["inputs"][0]["shape"], json!([2]));
    }

    #[test]
    fn rows_that_name_their_inputs_become_a_tensor_each() {
        let metadata = model(json!([
            {"name": "age", "datatype": "FP32", "shape": [-1, 1]},
                {"name": "plan", "datatype": "BYTES", "shape": [-1]}
        ]));
        let request =
            from_rows(&metadata, json!([{"age": 41, "plan": "pro"}, {"plan": "free", "age": 20}])).unwrap();
        assert_eq!(request["inputs"][0]["shape"], json!([2, 1]));
        assert_eq!(request["inputs"][0]["data"], json!([[41], [20]]));
        assert_eq!(
            request["inputs"][1],
            json!({"name": "plan", "datatype": "BYTES", "shape": [2], "data": ["pro", "free"]})
        );
    }

    #[test]
    fn errors_name_the_input_the_row_and_what_is_expected() {
        let two = model(json!([{"name": "a", "shape": [-1]}, {"name": "b", "shape": [-1]}]));
        let one = model(json!([{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]));
        let refusal = |metadata: &Value, given: Value| from_rows(metadata, given).unwrap_err().to_string();
        assert!(refusal(&two, json!([[1, 2]])).contains("2 inputs (a, b): give rows as objects"));
        assert!(refusal(&two, json!([{"a": 1, "c": 2}])).contains("no input 'c'; its inputs are a, b"));
        assert!(
            refusal(&two, json!([{"a": 1, "b": 2}, {"a": 1}])).contains("row 2 has no value for input 'b'")
        );
        assert!(refusal(&one, json!([[1, 2], [3]])).contains("input 'x' differ in length"));
        for nothing in [json!([]), json!(3), json!("text")] {
            assert!(refusal(&one, nothing).contains("expected at least one row"));
        }
    }
}
