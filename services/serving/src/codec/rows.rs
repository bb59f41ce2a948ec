//! KServe's v1 protocol: rows in (`instances`), rows out (`predictions`). Both ways as text, without a tree
//! in between.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;
use slipway_http_server::json;
use slipway_inference::{Data, Signature, Tensor, TensorSpec};

use super::element::Elements;
use super::parse::{Values, parse_elements};
use super::{lenient, nesting};
use crate::failure::{Failure, Kind};

/// An answer of no elements still has an array for each place where some could be: at most so many.
const MAX_EMPTY_ARRAYS: i64 = 16 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(expecting = "an object with `instances`")]
struct PredictJson<'body> {
    #[serde(borrow)]
    instances: &'body RawValue,
}

/// Reads `{"instances": […]}`: each row is the value of the only input, or an object of input names.
///
/// # Errors
/// What is wrong, naming the row or the input.
pub(crate) fn parse_instances(body: &Bytes, signature: &Signature) -> Result<Vec<Tensor>, Failure> {
    let read =
        |json: &[u8]| json::read(json).map(|json: PredictJson<'_>| read_rows(json.instances, signature));
    lenient::parse(body, read)?
}

fn read_rows(instances: &RawValue, signature: &Signature) -> Result<Vec<Tensor>, Failure> {
    let columns = signature.inputs.iter().map(Column::new).collect();
    let mut rows = Rows { columns, optional: &signature.optional, count: 0, fault: None };
    serde_json::Deserializer::from_str(instances.get())
        .deserialize_seq(&mut rows)
        .map_err(|_other| no_array(instances))?;
    let Rows { columns, count, fault, .. } = rows;
    match fault {
        Some(fault) => Err(fault),
        None => columns.into_iter().map(|column| column.tensor(count)).collect(),
    }
}

/// Says what there is in place of an array. The line and the column would be those within it.
fn no_array(instances: &RawValue) -> Failure {
    let told = json::read::<Vec<IgnoredAny>>(instances.get().as_bytes()).err().map(|error| error.message);
    let told = told.unwrap_or_default();
    let told = told.rsplit_once(" at line ").map_or(told.as_str(), |(told, _)| told);
    Failure::invalid(format!("`instances`: {told}"))
}

/// What the rows have for each input.
struct Rows<'model> {
    columns: Vec<Column<'model>>,
    /// Inputs that have a default.
    optional: &'model [TensorSpec],
    count: i64,
    /// What is wrong with the first row that cannot be.
    fault: Option<Failure>,
}

/// What the rows have for one input.
struct Column<'model> {
    spec: &'model TensorSpec,
    /// An array of the rows that are read, which is yet to be closed.
    text: String,
    /// Shape of the first row.
    row_shape: Vec<i64>,
}

impl<'body> Visitor<'body> for &mut Rows<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of instances")
    }

    fn visit_seq<A: SeqAccess<'body>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element::<&RawValue>()? {
            if self.fault.is_none() {
                self.fault = self.add(row.get()).err();
                self.count += 1;
            }
        }
        Ok(())
    }
}

impl Rows<'_> {
    fn add(&mut self, row: &str) -> Result<(), Failure> {
        if row.starts_with('{') {
            let fields: BTreeMap<String, &RawValue> =
                serde_json::from_str(row).map_err(|error| Failure::invalid(error.to_string()))?;
            if let Some(spec) = self.optional.iter().find(|spec| fields.contains_key(&spec.name)) {
                return Err(Failure::invalid(format!(
                    "input '{}': it has one value for all instances; give it with /v2/models/…/infer, or \
                     leave it out",
                    spec.name
                )));
            }
            for column in &mut self.columns {
                column.add(self.count, fields.get(&column.spec.name).map(|value| value.get()))?;
            }
            return Ok(());
        }
        let is_only = self.columns.len() == 1;
        self.columns.iter_mut().try_for_each(|column| column.add(self.count, is_only.then_some(row)))
    }
}

impl<'model> Column<'model> {
    fn new(spec: &'model TensorSpec) -> Self {
        Self { spec, text: "[".to_owned(), row_shape: Vec::new() }
    }

    fn complain(&self, message: &str) -> Failure {
        Failure::invalid(format!("input '{}': {message}", self.spec.name))
    }

    fn add(&mut self, row: i64, value: Option<&str>) -> Result<(), Failure> {
        let Some(value) = value else {
            return Err(self.complain(&format!("instances[{row}] does not have it")));
        };
        let shape = nesting::shape(value);
        if row == 0 {
            self.row_shape = shape;
        } else if shape != self.row_shape {
            return Err(self.complain(&format!("instances[{row}] has another shape than instances[0]")));
        } else {
            self.text.push(',');
        }
        self.text.push_str(value);
        Ok(())
    }

    fn tensor(mut self, count: i64) -> Result<Tensor, Failure> {
        self.text.push(']');
        let data =
            parse_elements(self.spec.datatype, &self.text).map_err(|message| self.complain(&message))?;
        let Self { spec, row_shape, .. } = self;
        let shape = batch_shape(count, &row_shape, spec);
        Ok(Tensor { name: spec.name.clone(), datatype: spec.datatype, shape, data })
    }
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

/// The text of `predictions`, one a row: the output's value where there is one output, else an object of
/// output names.
///
/// # Errors
/// The model has not answered row by row; values would end up with rows that they do not belong to.
pub(crate) fn predictions(outputs: &[Tensor], rows: u64) -> Result<String, Failure> {
    if let Some(other) = outputs.iter().find(|tensor| tensor.rows() != rows) {
        return Err(Failure::new(
            Kind::Internal,
            format!(
                "output '{}' has the shape {:?}, not one row for each of {rows} instances; ask with \
                 /v2/models/…/infer",
                other.name, other.shape
            ),
        ));
    }
    if let Some(other) = outputs.iter().find(|tensor| matches!(tensor.data, Data::Octets(_))) {
        return Err(Failure::new(
            Kind::Internal,
            format!(
                "output '{}' is not UTF-8, which JSON cannot carry; ask for it as binary data with \
                 /v2/models/…/infer",
                other.name
            ),
        ));
    }
    let failed = |error: serde_json::Error| {
        Failure::new(Kind::Internal, format!("the answer does not encode: {error}"))
    };
    let mut columns = Vec::with_capacity(outputs.len());
    for tensor in outputs {
        let empty = tensor.shape.iter().take_while(|dimension| **dimension > 0);
        let empty = empty.fold(1_i64, |product, dimension| product.saturating_mul(*dimension));
        if tensor.elements() == 0 && empty > MAX_EMPTY_ARRAYS {
            let told = format!("output '{}' is empty, in over {MAX_EMPTY_ARRAYS} arrays", tensor.name);
            return Err(Failure::new(Kind::Internal, told));
        }
        let name = serde_json::to_string(&tensor.name).map_err(failed)?;
        let elements = serde_json::to_string(&Elements(tensor)).map_err(failed)?;
        columns.push((name, tensor.shape.get(1..).unwrap_or_default(), elements));
    }
    let mut columns: Vec<(&str, &[i64], Values<'_>)> = columns
        .iter()
        .map(|(name, shape, elements)| (name.as_str(), *shape, Values { text: elements }))
        .collect();
    let mut text = "{\"predictions\":[".to_owned();
    for row in 0..rows {
        text.push_str(if row == 0 { "" } else { "," });
        if let [(_, shape, values)] = columns.as_mut_slice() {
            put_nested(shape, values, &mut text);
            continue;
        }
        text.push('{');
        for (at, (name, shape, values)) in columns.iter_mut().enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            text.push_str(name);
            text.push(':');
            put_nested(shape, values, &mut text);
        }
        text.push('}');
    }
    text.push_str("]}");
    Ok(text)
}

/// Takes as many values as the shape has.
fn put_nested(shape: &[i64], values: &mut Values<'_>, into: &mut String) {
    let [length, rest @ ..] = shape else {
        into.push_str(values.next().unwrap_or("null"));
        return;
    };
    into.push('[');
    for at in 0..*length {
        into.push_str(if at == 0 { "" } else { "," });
        put_nested(rest, values, into);
    }
    into.push(']');
}
