//! Records of one version whose tensors are alike, as they are sent: a column of values for each tensor.
//!
//! A request leaves its values here and keeps its tensors: to free them on another thread than they were made
//! on would cost more than to copy them.

use std::ops::Range;
use std::sync::Arc;

use slipway_api::predictions::Variant;
use slipway_inference::{Data, Datatype, Tensor};

use super::bounds::{GROUP_BYTES, RECORD_BYTES, longest_element, longest_string};
use super::json::{put, put_redacted, put_strings, separate};
use super::non_finite;
use super::observation::Observation;
use crate::codec::put_raw_values;
use crate::source::{Feed, Redaction, Source};

/// Answers of one version under one variant, each tensor of which has the record's rows.
#[derive(Debug)]
pub(super) struct Columns {
    source: Arc<Source>,
    variant: Variant,
    request_ids: String,
    /// Where each of them ends.
    id_ends: Vec<usize>,
    at_unix_ms: Vec<u64>,
    latency_us: Vec<u64>,
    rows: Vec<u64>,
    /// NaN and infinities among outputs that the records go without.
    non_finite: Vec<u64>,
    inputs: Vec<Column>,
    outputs: Vec<Column>,
    /// Records that were taken, and their rows.
    sent: usize,
    sent_rows: usize,
}

#[derive(Debug)]
struct Column {
    name: String,
    datatype: Datatype,
    row_shape: Vec<i64>,
    /// Elements of a row.
    width: usize,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// Little-endian, of so many bytes each.
    Raw(Vec<u8>, usize),
    Strings(Vec<String>),
}

/// Records of [`Columns`] that go into one message.
#[derive(Debug, Clone)]
pub(super) struct Part {
    records: Range<usize>,
    rows: Range<usize>,
}

/// Whether a record can be a part of columns.
pub(super) fn is_regular(observation: &Observation) -> bool {
    let by_rows = |tensors: &[Tensor]| {
        tensors.iter().all(|tensor| {
            let elements =
                row_width(tensor).checked_mul(usize::try_from(observation.rows).unwrap_or(usize::MAX));
            !tensor.shape.is_empty()
                && tensor.rows() == observation.rows
                && elements == Some(tensor.elements())
        })
    };
    observation.primary.is_none()
        && observation.row_indices.is_none()
        && by_rows(&observation.inputs)
        && observation.outcome.as_ref().is_ok_and(|outputs| by_rows(outputs))
}

fn row_shape(tensor: &Tensor) -> &[i64] {
    tensor.shape.get(1..).unwrap_or_default()
}

fn row_width(tensor: &Tensor) -> usize {
    row_shape(tensor)
        .iter()
        .fold(1, |width: usize, size| width.saturating_mul(usize::try_from(*size).unwrap_or(0)))
}

impl Columns {
    /// Columns for records like this one, which is regular and is not in them yet.
    pub(super) fn like(observation: &Observation) -> Self {
        let columns = |tensors: &[Tensor]| tensors.iter().map(Column::like).collect();
        Self {
            source: Arc::clone(&observation.source),
            variant: observation.variant,
            request_ids: String::new(),
            id_ends: Vec::new(),
            at_unix_ms: Vec::new(),
            latency_us: Vec::new(),
            rows: Vec::new(),
            non_finite: Vec::new(),
            inputs: columns(&observation.inputs),
            outputs: columns(outputs(observation)),
            sent: 0,
            sent_rows: 0,
        }
    }

    /// Whether a regular record of this source fits these columns.
    pub(super) fn takes(&self, observation: &Observation) -> bool {
        let alike = |columns: &[Column], tensors: &[Tensor]| {
            columns.len() == tensors.len()
                && columns.iter().zip(tensors).all(|(column, tensor)| column.takes(tensor))
        };
        self.variant == observation.variant
            && alike(&self.inputs, &observation.inputs)
            && alike(&self.outputs, outputs(observation))
    }

    pub(super) fn push(&mut self, observation: &Observation) {
        self.request_ids.push_str(&observation.request_id);
        self.id_ends.push(self.request_ids.len());
        self.at_unix_ms.push(observation.at_unix_ms);
        self.latency_us.push(observation.latency_us());
        self.rows.push(observation.rows);
        self.non_finite.push(observation.non_finite_outputs);
        for (column, tensor) in self.inputs.iter_mut().zip(&*observation.inputs) {
            column.push(tensor);
        }
        for (column, tensor) in self.outputs.iter_mut().zip(outputs(observation)) {
            column.push(tensor);
        }
    }

    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    pub(super) fn feed(&self) -> &Arc<Feed> {
        &self.source.feed
    }

    /// Rows of a part that clients were answered.
    pub(super) fn counted_rows(&self, part: &Part) -> u64 {
        if matches!(self.variant, Variant::Stable | Variant::Candidate) { part.rows.len() as u64 } else { 0 }
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.rows.len()
    }

    /// The same columns without records; `None` where there were none.
    pub(super) fn emptied(mut self) -> Option<Self> {
        if self.rows.is_empty() {
            return None;
        }
        self.request_ids.clear();
        for numbers in [&mut self.at_unix_ms, &mut self.latency_us, &mut self.rows, &mut self.non_finite] {
            numbers.clear();
        }
        self.id_ends.clear();
        for column in self.inputs.iter_mut().chain(&mut self.outputs) {
            match &mut column.values {
                Values::Raw(bytes, _) => bytes.clear(),
                Values::Strings(strings) => strings.clear(),
            }
        }
        (self.sent, self.sent_rows) = (0, 0);
        Some(self)
    }

    /// Memory for values, used or not.
    pub(super) fn capacity_bytes(&self) -> usize {
        let values = self.columns().map(|column| match &column.values {
            Values::Raw(bytes, _) => bytes.capacity(),
            Values::Strings(strings) => strings.capacity() * size_of::<String>(),
        });
        self.request_ids.capacity() + values.sum::<usize>()
    }

    /// The address of their source, which no other has while these live.
    pub(super) fn source_address(&self) -> usize {
        Arc::as_ptr(&self.source).addr()
    }

    /// The next records whose JSON surely takes no more than `room`; one at least, where `first`.
    pub(super) fn take(&mut self, room: &mut usize, mut first: bool) -> Option<Part> {
        let begun = Part { records: self.sent..self.sent, rows: self.sent_rows..self.sent_rows };
        let names = self.source.deployment.len() + self.source.model.len() + self.source.version.len();
        let mut opening =
            GROUP_BYTES + names * 6 + self.columns().map(Column::longest_opening).sum::<usize>();
        while let Some(rows) = self.rows.get(self.sent) {
            let rows = self.sent_rows..self.sent_rows + usize::try_from(*rows).unwrap_or(0);
            let values: usize = self.columns().map(|column| column.longest(&rows)).sum();
            let most = opening + RECORD_BYTES + self.request_id(self.sent).len() * 6 + values;
            if most > *room && !first {
                break;
            }
            *room = room.saturating_sub(most);
            (opening, first) = (0, false);
            self.sent += 1;
            self.sent_rows = rows.end;
        }
        let part = Part { records: begun.records.start..self.sent, rows: begun.rows.start..self.sent_rows };
        (!part.records.is_empty()).then_some(part)
    }

    /// Memory that the tensors of a part took, as [`Observation::size_bytes`] counts it.
    pub(super) fn size_bytes(&self, part: &Part) -> usize {
        self.columns().map(|column| column.size_bytes(&part.rows)).sum()
    }

    /// Appends a part as JSON.
    pub(super) fn put(&self, part: &Part, body: &mut Vec<u8>) {
        let source = &self.source;
        for (key, value) in [
            (&b"{\"deployment\":"[..], &source.deployment),
            (b",\"model\":", &source.model),
            (b",\"version\":", &source.version),
        ] {
            body.extend_from_slice(key);
            put(body, value);
        }
        body.extend_from_slice(b",\"variant\":");
        put(body, &self.variant);
        body.extend_from_slice(b",\"request_ids\":[");
        for at in part.records.clone() {
            separate(body, at - part.records.start);
            put(body, self.request_id(at));
        }
        for (key, numbers) in [
            (&b"],\"at_unix_ms\":"[..], &self.at_unix_ms),
            (b",\"latency_us\":", &self.latency_us),
            (b",\"rows\":", &self.rows),
        ] {
            body.extend_from_slice(key);
            put(body, &numbers[part.records.clone()]);
        }
        self.put_non_finite(part, body);
        if let Some(percent) = source.policy.sampled() {
            body.extend_from_slice(b",\"sample_percent\":");
            put(body, &percent);
        }
        for (key, columns) in [(&b",\"inputs\":["[..], &self.inputs), (b"],\"outputs\":[", &self.outputs)] {
            body.extend_from_slice(key);
            for (at, column) in columns.iter().enumerate() {
                separate(body, at);
                column.put(&source.policy.redaction(&column.name), &part.rows, body);
            }
        }
        body.extend_from_slice(b"]}");
    }

    /// Appends how many outputs of each record are NaN or infinite, where any are.
    fn put_non_finite(&self, part: &Part, body: &mut Vec<u8>) {
        let mut counts = self.non_finite[part.records.clone()].to_vec();
        let mut begun = part.rows.start;
        for (count, rows) in counts.iter_mut().zip(&self.rows[part.records.clone()]) {
            let rows = begun..begun + usize::try_from(*rows).unwrap_or(0);
            *count += self.outputs.iter().map(|column| column.non_finite(&rows)).sum::<u64>();
            begun = rows.end;
        }
        if counts.iter().any(|count| *count > 0) {
            body.extend_from_slice(b",\"non_finite_outputs\":");
            put(body, &counts);
        }
    }

    fn columns(&self) -> impl Iterator<Item = &Column> {
        self.inputs.iter().chain(&self.outputs)
    }

    fn request_id(&self, at: usize) -> &str {
        let start = at.checked_sub(1).map_or(0, |before| self.id_ends[before]);
        &self.request_ids[start..self.id_ends[at]]
    }
}

impl Part {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

impl Column {
    fn like(tensor: &Tensor) -> Self {
        let values = match &tensor.data {
            Data::Raw(_) => Values::Raw(Vec::new(), tensor.datatype.element_bytes().unwrap_or(1)),
            Data::Strings(_) | Data::Octets(_) => Values::Strings(Vec::new()),
        };
        Self {
            name: tensor.name.clone(),
            datatype: tensor.datatype,
            row_shape: row_shape(tensor).to_vec(),
            width: row_width(tensor),
            values,
        }
    }

    fn takes(&self, tensor: &Tensor) -> bool {
        self.datatype == tensor.datatype && self.row_shape == row_shape(tensor) && self.name == tensor.name
    }

    fn push(&mut self, tensor: &Tensor) {
        match (&mut self.values, &tensor.data) {
            (Values::Raw(values, _), Data::Raw(bytes)) => values.extend_from_slice(bytes),
            (Values::Strings(values), Data::Strings(strings)) => values.extend_from_slice(strings),
            (Values::Strings(values), data @ Data::Octets(_)) => {
                values.extend(data.octets().map(|octets| String::from_utf8_lossy(octets).into_owned()));
            }
            // Strings have a datatype of their own, which `takes` has compared.
            _ => {}
        }
    }

    fn elements(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.width..rows.end * self.width
    }

    fn raw<'bytes>(&self, rows: &Range<usize>, bytes: &'bytes [u8], each: usize) -> &'bytes [u8] {
        let elements = self.elements(rows);
        &bytes[elements.start * each..elements.end * each]
    }

    fn non_finite(&self, rows: &Range<usize>) -> u64 {
        match &self.values {
            Values::Raw(bytes, each) => non_finite::among(self.datatype, self.raw(rows, bytes, *each)),
            Values::Strings(_) => 0,
        }
    }

    fn longest_opening(&self) -> usize {
        self.name.len() * 6 + self.row_shape.len() * 21 + 64
    }

    /// No JSON of these rows is longer.
    fn longest(&self, rows: &Range<usize>) -> usize {
        match &self.values {
            Values::Raw(..) => self.elements(rows).len() * longest_element(self.datatype),
            Values::Strings(strings) => {
                strings[self.elements(rows)].iter().map(|text| longest_string(text)).sum()
            }
        }
    }

    fn size_bytes(&self, rows: &Range<usize>) -> usize {
        match &self.values {
            Values::Raw(_, each) => self.elements(rows).len() * each,
            Values::Strings(strings) => {
                strings[self.elements(rows)].iter().map(|text| text.len() + size_of::<String>()).sum()
            }
        }
    }

    fn put(&self, redaction: &Redaction, rows: &Range<usize>, body: &mut Vec<u8>) {
        body.extend_from_slice(b"{\"name\":");
        put(body, &self.name);
        body.extend_from_slice(b",\"datatype\":");
        put(body, self.datatype.name());
        body.extend_from_slice(b",\"row_shape\":");
        put(body, &self.row_shape);
        body.extend_from_slice(b",\"data\":[");
        match (&self.values, redaction) {
            (Values::Raw(bytes, each), Redaction::Nothing) => {
                put_raw_values(self.datatype, self.raw(rows, bytes, *each), body);
            }
            (Values::Strings(strings), Redaction::Nothing) => {
                put_strings(&strings[self.elements(rows)], body);
            }
            _ => put_redacted(&self.tensor(rows), redaction, body),
        }
        body.extend_from_slice(b"]}");
    }

    /// Some rows as one tensor.
    fn tensor(&self, rows: &Range<usize>) -> Tensor {
        let shape =
            [i64::try_from(rows.len()).unwrap_or(i64::MAX), i64::try_from(self.width).unwrap_or(i64::MAX)];
        match &self.values {
            Values::Raw(bytes, each) => {
                Tensor::raw(&*self.name, self.datatype, shape, self.raw(rows, bytes, *each).to_vec())
            }
            Values::Strings(strings) => {
                Tensor::strings(&*self.name, shape, strings[self.elements(rows)].to_vec())
            }
        }
    }
}

fn outputs(observation: &Observation) -> &[Tensor] {
    observation.outcome.as_ref().map_or(&[], |outputs| outputs)
}
