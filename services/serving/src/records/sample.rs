//! Requests that are too large to record whole: a sample of their rows.
//!
//! A batch of a million rows says nothing about its distribution that some hundred rows of it do not say. The
//! sample is stratified: the request is cut into as many blocks as rows are kept, and one row of each block
//! is kept, chosen by a hash of the request's id, so that the same request leaves the same rows on every
//! replica and for every version.

use std::sync::Arc;

use slipway_domain::traffic::stable_hash;
use slipway_inference::{Data, Tensor};

use super::bounds::{fixed_bytes, longest_element, longest_octets, longest_string, longest_tensor_opening};
use super::non_finite;
use super::observation::Observation;

/// Of a request with longer tensors a sample of the rows is recorded: as JSON they would not fit a message.
pub(super) const MAX_RECORD_BYTES: usize = 128 * 1024;
/// JSON of a sample takes no more: half of a message.
pub(super) const MAX_SAMPLE_JSON_BYTES: usize = 384 * 1024;

impl Observation {
    /// The observation with as many of its rows as fit a record: none, where one row alone is too large.
    pub(super) fn sampled(mut self) -> Self {
        let non_finite_outputs = self.count_non_finite();
        let mut wanted = self.rows_that_fit();
        loop {
            let indices = indices(&self.request_id, self.rows, wanted);
            if wanted == 0 || self.longest_rows(&indices) <= MAX_SAMPLE_JSON_BYTES {
                self.keep_rows(indices);
                // All of them, those of rows that are left out included.
                let kept = self.outcome.as_ref().map_or(0, |outputs| non_finite::of(outputs));
                self.non_finite_outputs = non_finite_outputs - kept;
                return self;
            }
            // Rows of strings differ in length.
            wanted /= 2;
        }
    }

    fn rows_that_fit(&self) -> u64 {
        let rows = self.rows.max(1);
        let mut bytes = 0;
        let mut json = 0;
        for tensor in self.tensors().filter(|tensor| is_by_row(tensor, self.rows)) {
            bytes += tensor.size_bytes() as u64;
            json += match &tensor.data {
                Data::Raw(_) => (tensor.elements() * longest_element(tensor.datatype)) as u64,
                Data::Strings(strings) => strings.iter().map(|text| longest_string(text) as u64).sum(),
                Data::Octets(elements) => elements.iter().map(|octets| longest_octets(octets) as u64).sum(),
            };
        }
        let room = MAX_SAMPLE_JSON_BYTES.saturating_sub(self.opening_bytes()) as u64;
        let by_json = room.saturating_mul(rows) / json.max(1);
        let by_memory = (MAX_RECORD_BYTES as u64).saturating_mul(rows) / bytes.max(1);
        by_json.min(by_memory).min(self.rows)
    }

    /// JSON of these rows takes no more.
    fn longest_rows(&self, indices: &[u64]) -> usize {
        let tensors = self.tensors().filter(|tensor| is_by_row(tensor, self.rows));
        let values = tensors.map(|tensor| {
            let width = width(tensor, self.rows);
            match &tensor.data {
                Data::Raw(_) => indices.len() * width * longest_element(tensor.datatype),
                Data::Strings(strings) => places(indices, width)
                    .filter_map(|(from, to)| strings.get(from..to))
                    .flatten()
                    .map(|text| longest_string(text))
                    .sum(),
                Data::Octets(elements) => places(indices, width)
                    .filter_map(|(from, to)| elements.get(from..to))
                    .flatten()
                    .map(|octets| longest_octets(octets))
                    .sum(),
            }
        });
        // An index has up to 20 digits and a comma.
        self.opening_bytes() + indices.len() * 21 + values.sum::<usize>()
    }

    fn opening_bytes(&self) -> usize {
        fixed_bytes(self) + self.tensors().map(longest_tensor_opening).sum::<usize>()
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let outputs = self.outcome.as_ref().map_or(&[][..], |outputs| outputs);
        self.inputs.iter().chain(outputs)
    }

    fn keep_rows(&mut self, indices: Vec<u64>) {
        let of_rows = |tensors: &[Tensor]| -> Arc<Vec<Tensor>> {
            let kept = tensors.iter().filter(|tensor| !indices.is_empty() && is_by_row(tensor, self.rows));
            Arc::new(kept.filter_map(|tensor| rows_of(tensor, self.rows, &indices)).collect())
        };
        let inputs = of_rows(&self.inputs);
        let outcome = self.outcome.as_ref().map(|outputs| of_rows(outputs)).map_err(Clone::clone);
        let answered = self.primary.as_ref().map(|primary| of_rows(&primary.outputs));
        (self.inputs, self.outcome) = (inputs, outcome);
        if let (Some(primary), Some(outputs)) = (&mut self.primary, answered) {
            primary.outputs = outputs;
        }
        self.row_indices = Some(indices.into());
    }
}

/// One row of each of `wanted` blocks of equal size.
fn indices(request_id: &str, rows: u64, wanted: u64) -> Vec<u64> {
    let wanted = wanted.min(rows);
    // A fraction of a block in 32 bits; products fit 128.
    let start_of = |block: u64| u128::from(block) * u128::from(rows) / u128::from(wanted.max(1));
    (0..wanted)
        .map(|block| {
            let (from, to) = (start_of(block), start_of(block + 1));
            let draw = u128::from(stable_hash(&[request_id, "row", &block.to_string()]) >> 32);
            u64::try_from(from + (((to - from) * draw) >> 32)).unwrap_or(0)
        })
        .collect()
}

/// Whether the first dimension of a tensor is the rows of the request.
fn is_by_row(tensor: &Tensor, rows: u64) -> bool {
    let divides = usize::try_from(rows).is_ok_and(|rows| rows > 0 && tensor.elements().is_multiple_of(rows));
    !tensor.shape.is_empty() && tensor.rows() == rows && divides
}

fn width(tensor: &Tensor, rows: u64) -> usize {
    usize::try_from(rows).ok().filter(|rows| *rows > 0).map_or(0, |rows| tensor.elements() / rows)
}

fn places(indices: &[u64], width: usize) -> impl Iterator<Item = (usize, usize)> {
    indices.iter().map(move |index| {
        let from = usize::try_from(*index).unwrap_or(usize::MAX).saturating_mul(width);
        (from, from.saturating_add(width))
    })
}

/// Some rows of a tensor; `None` where it has no such rows.
fn rows_of(tensor: &Tensor, rows: u64, indices: &[u64]) -> Option<Tensor> {
    let width = width(tensor, rows);
    let mut shape = tensor.shape.clone();
    *shape.first_mut()? = i64::try_from(indices.len()).ok()?;
    Some(match &tensor.data {
        Data::Raw(bytes) => {
            let each = tensor.datatype.element_bytes()?;
            let mut kept = Vec::with_capacity(indices.len() * width * each);
            for (from, to) in places(indices, width) {
                kept.extend_from_slice(bytes.get(from * each..to * each)?);
            }
            Tensor::raw(tensor.name.clone(), tensor.datatype, shape, kept)
        }
        Data::Strings(strings) => {
            let mut kept = Vec::with_capacity(indices.len() * width);
            for (from, to) in places(indices, width) {
                kept.extend_from_slice(strings.get(from..to)?);
            }
            Tensor::strings(tensor.name.clone(), shape, kept)
        }
        Data::Octets(elements) => {
            let mut kept = Vec::with_capacity(indices.len() * width);
            for (from, to) in places(indices, width) {
                kept.extend_from_slice(elements.get(from..to)?);
            }
            let data = Data::of_octets(kept);
            Tensor { name: tensor.name.clone(), datatype: tensor.datatype, shape, data }
        }
    })
}
