//! KServe's v1 protocol: rows in (`instances`), rows out (`predictions`).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use slipway_inference::{Signature, Tensor, TensorSpec};
use slipway_service_kit::json;

use super::element::Elements;
use super::lenient;
use super::parse::parse_elements;
use crate::failure::{Failure, Kind};

#[derive(Deserialize)]
#[serde(expecting = "an object with `instances`")]
struct PredictJson {
    instances: Vec<Value>,
}

/// Reads `{"instances": […]}`: each row is the value of the only input, or an object of input names.
///
/// # Errors
/// What is wrong, naming the row or the input.
pub(crate) fn parse_instances(body: &Bytes, signature: &Signature) -> Result<Vec<Tensor>, Failure> {
    let PredictJson { instances } = lenient::parse(body, |json| json::read(json))?;
    let count = i64::try_from(instances.len()).unwrap_or(i64::MAX);
    signature
        .inputs
        .iter()
        .map(|spec| {
            let complain = |message: String| Failure::invalid(format!("input '{}': {message}", spec.name));
            let mut values = Vec::with_capacity(instances.len());
            for (row, instance) in instances.iter().enumerate() {
                let value = match instance {
                    Value::Object(fields) => fields.get(&spec.name),
                    value if signature.inputs.len() == 1 => Some(value),
                    _ => None,
                };
                values.push(
                    value.cloned().ok_or_else(|| complain(format!("instances[{row}] does not have it")))?,
                );
            }
            let row_shape = values.first().map(shape_of).unwrap_or_default();
            if let Some(row) = values.iter().position(|value| shape_of(value) != row_shape) {
                return Err(complain(format!("instances[{row}] has another shape than instances[0]")));
            }
            let shape = batch_shape(count, &row_shape, spec);
            let data = parse_elements(spec.datatype, &Value::Array(values).to_string()).map_err(complain)?;
            Ok(Tensor { name: spec.name.clone(), datatype: spec.datatype, shape, data })
        })
        .collect()
}

/// A scalar a row fits `[n]` and `[n, 1]` alike.
fn batch_shape(count: i64, row_shape: &[i64], spec: &TensorSpec) -> Vec<i64> {
    let mut shape = vec![count];
    shape.extend_from_slice(row_shape);
    if row_shape.is_empty() && spec.shape.len() == 2 {
        shape.push(1);
    }
    if count == 0 {
        shape = spec.shape.iter().map(|dimension| (*dimension).max(0)).collect();
    }
    shape
}

/// Shape of nested arrays, by their first elements; unequal lengths show up as a wrong number of elements.
fn shape_of(value: &Value) -> Vec<i64> {
    let mut shape = Vec::new();
    let mut value = value;
    while let Value::Array(values) = value {
        shape.push(i64::try_from(values.len()).unwrap_or(i64::MAX));
        match values.first() {
            Some(first) => value = first,
            None => break,
        }
    }
    shape
}

/// `predictions`, one a row: the output's value where there is one output, else an object of output names.
///
/// # Errors
/// The model has not answered row by row; values would end up with rows that they do not belong to.
pub(crate) fn predictions(outputs: &[Tensor], rows: u64) -> Result<Value, Failure> {
    if let Some(other) = outputs.iter().find(|tensor| tensor.rows() != rows) {
        return Err(Failure::new(
            Kind::Internal,
            format!(
                "output '{}' has the shape {:?}, not one row for each of {rows} instances; ask with /v2/models/…/infer",
                other.name, other.shape
            ),
        ));
    }
    let rows = usize::try_from(rows).unwrap_or(0);
    let columns: Vec<(&str, Vec<Value>)> =
        outputs.iter().map(|tensor| (tensor.name.as_str(), split_rows(tensor, rows))).collect();
    let row = |at: usize| match columns.as_slice() {
        [(_, values)] => values.get(at).cloned().unwrap_or_default(),
        columns => {
            let fields: Map<String, Value> = columns
                .iter()
                .map(|(name, values)| ((*name).to_owned(), values.get(at).cloned().unwrap_or_default()))
                .collect();
            Value::Object(fields)
        }
    };
    Ok(serde_json::json!({ "predictions": (0..rows).map(row).collect::<Vec<_>>() }))
}

fn split_rows(tensor: &Tensor, rows: usize) -> Vec<Value> {
    let Ok(Value::Array(values)) = serde_json::to_value(Elements(tensor)) else { return Vec::new() };
    let row_shape = tensor.shape.get(1..).unwrap_or_default();
    let width = values.len() / rows.max(1);
    if width == 0 {
        return Vec::new();
    }
    values.chunks(width).map(|row| nest(row, row_shape)).collect()
}

fn nest(values: &[Value], shape: &[i64]) -> Value {
    match shape {
        [] => values.first().cloned().unwrap_or_default(),
        [_] => Value::Array(values.to_vec()),
        [first, rest @ ..] => {
            let parts = usize::try_from(*first).unwrap_or(1).max(1);
            Value::Array(values.chunks((values.len() / parts).max(1)).map(|part| nest(part, rest)).collect())
        }
    }
}
