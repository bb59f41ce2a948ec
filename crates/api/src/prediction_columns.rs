//! The columnar form of prediction records, which serving writes: what many records have in common is there
//! once.
//!
//! A batch has `groups` of records of one version whose tensors are alike, each field a column, and `records`
//! one by one for what fits no group. Readers see records only.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::predictions::{PredictionBatch, PredictionRecord, RecordedTensor, Sender, Variant};

/// A batch as it travels.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct Batch {
    /// Serving replica that answered.
    replica_id: String,
    /// Which process sent it, for which deployment.
    #[serde(default)]
    sender: Sender,
    /// Tensors (`name`) and places of their rows (`name[3]`) that are recorded as null, whatever their
    /// values.
    #[serde(default)]
    redacted: BTreeSet<String>,
    /// Records that share nothing with others: refusals, shadows, odd shapes.
    #[serde(default)]
    records: Vec<PredictionRecord>,
    /// All others.
    #[serde(default)]
    groups: Vec<RecordGroup>,
}

/// Answers of one version with tensors of the same names, types and row shapes; element `n` of each column is
/// record `n`'s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordGroup {
    /// Deployment that the clients called.
    pub deployment: String,
    /// Registered model behind it.
    pub model: String,
    /// Version that ran.
    pub version: String,
    /// Why it ran.
    pub variant: Variant,
    /// See [`PredictionRecord::request_id`].
    pub request_ids: Vec<String>,
    /// See [`PredictionRecord::at_unix_ms`].
    pub at_unix_ms: Vec<u64>,
    /// See [`PredictionRecord::latency_us`].
    pub latency_us: Vec<u64>,
    /// Rows of each record.
    pub rows: Vec<u64>,
    /// See [`PredictionRecord::non_finite_outputs`]; absent where all are 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub non_finite_outputs: Vec<u64>,
    /// See [`PredictionRecord::sample_percent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_percent: Option<f64>,
    /// The features.
    pub inputs: Vec<TensorColumn>,
    /// The outputs.
    pub outputs: Vec<TensorColumn>,
}

/// One tensor of every record of a group, one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TensorColumn {
    /// Name of the model's input or output.
    pub name: String,
    /// Open Inference Protocol name, e.g. FP32.
    pub datatype: String,
    /// Shape of one row; the tensor's first dimension is the record's rows.
    pub row_shape: Vec<i64>,
    /// Values of all rows of all records, flat, row-major. NaN, infinities and what was redacted are `null`.
    pub data: Vec<serde_json::Value>,
}

impl TryFrom<Batch> for PredictionBatch {
    type Error = String;

    fn try_from(batch: Batch) -> Result<Self, String> {
        let mut records = batch.records;
        let in_columns = !batch.groups.is_empty();
        for group in batch.groups {
            group.put_records(&mut records)?;
        }
        if in_columns {
            // In the order in which the answers were given, across groups.
            records.sort_by_key(|record| record.at_unix_ms);
        }
        Ok(Self { replica_id: batch.replica_id, sender: batch.sender, redacted: batch.redacted, records })
    }
}

impl RecordGroup {
    fn put_records(self, records: &mut Vec<PredictionRecord>) -> Result<(), String> {
        let count = self.request_ids.len();
        for (column, length) in [
            ("at_unix_ms", self.at_unix_ms.len()),
            ("latency_us", self.latency_us.len()),
            ("rows", self.rows.len()),
        ] {
            if length != count {
                return Err(format!("the column {column} has {length} entries for {count} records"));
            }
        }
        if !matches!(self.non_finite_outputs.len(), length if length == 0 || length == count) {
            let length = self.non_finite_outputs.len();
            return Err(format!("the column non_finite_outputs has {length} entries for {count} records"));
        }
        let mut inputs = self.inputs.into_iter().map(Reader::new).collect::<Result<Vec<_>, _>>()?;
        let mut outputs = self.outputs.into_iter().map(Reader::new).collect::<Result<Vec<_>, _>>()?;
        for (at, request_id) in self.request_ids.into_iter().enumerate() {
            let rows = self.rows.get(at).copied().unwrap_or_default();
            let tensors = |readers: &mut Vec<Reader>| -> Result<Vec<RecordedTensor>, String> {
                readers.iter_mut().map(|reader| reader.next(rows)).collect()
            };
            records.push(PredictionRecord {
                request_id,
                deployment: self.deployment.clone(),
                model: self.model.clone(),
                version: self.version.clone(),
                variant: self.variant,
                at_unix_ms: self.at_unix_ms.get(at).copied().unwrap_or_default(),
                latency_us: self.latency_us.get(at).copied().unwrap_or_default(),
                rows,
                row_indices: None,
                error: None,
                inputs: tensors(&mut inputs)?,
                outputs: tensors(&mut outputs)?,
                non_finite_outputs: self.non_finite_outputs.get(at).copied().unwrap_or_default(),
                sample_percent: self.sample_percent,
                shadow_of: None,
                divergence: None,
            });
        }
        Ok(())
    }
}

/// Hands a column out, record by record.
struct Reader {
    name: String,
    datatype: String,
    row_shape: Vec<i64>,
    row_elements: usize,
    values: std::vec::IntoIter<serde_json::Value>,
}

impl Reader {
    fn new(column: TensorColumn) -> Result<Self, String> {
        let product = |product: usize, size: &i64| product.checked_mul(usize::try_from(*size).ok()?);
        let row_elements =
            column.row_shape.iter().try_fold(1, product).ok_or_else(|| {
                format!("the column {} has the row shape {:?}", column.name, column.row_shape)
            })?;
        let TensorColumn { name, datatype, row_shape, data } = column;
        Ok(Self { name, datatype, row_shape, row_elements, values: data.into_iter() })
    }

    fn next(&mut self, rows: u64) -> Result<RecordedTensor, String> {
        let wanted = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(self.row_elements));
        let wanted = wanted.filter(|wanted| *wanted <= self.values.len());
        let wanted = wanted.ok_or_else(|| format!("the column {} ends before its records", self.name))?;
        let mut shape = vec![i64::try_from(rows).unwrap_or(i64::MAX)];
        shape.extend_from_slice(&self.row_shape);
        Ok(RecordedTensor {
            name: self.name.clone(),
            datatype: self.datatype.clone(),
            shape,
            data: self.values.by_ref().take(wanted).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn batch(data: &serde_json::Value) -> Result<PredictionBatch, serde_json::Error> {
        serde_json::from_value(json!({"replica_id": "r", "groups": [{
            "deployment": "d", "model": "m", "version": "1", "variant": "stable",
            "request_ids": ["a", "b"], "at_unix_ms": [2, 1], "latency_us": [5, 6], "rows": [1, 2],
            "inputs": [{"name": "x", "datatype": "FP32", "row_shape": [2], "data": data}], "outputs": []
        }]}))
    }

    #[test]
    fn columns_read_as_records_in_the_order_of_the_answers() {
        let read = batch(&json!([1.5, null, 3, 4, 5, 6])).unwrap();
        let ids: Vec<&str> = read.records.iter().map(|record| record.request_id.as_str()).collect();
        assert_eq!(ids, ["b", "a"]);
        assert_eq!((&read.records[0].inputs[0].shape, read.records[0].rows), (&vec![2, 2], 2));
        assert_eq!(read.records[1].inputs[0].data, [json!(1.5), json!(null)]);
        let again: PredictionBatch = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }

    #[test]
    fn a_column_that_is_too_short_is_refused() {
        assert!(batch(&json!([1, 2, 3])).unwrap_err().to_string().contains("ends before its records"));
    }
}
