//! How long the JSON of a record can be: cheap upper bounds, so that a message is filled without being
//! written twice.

use slipway_inference::{Data, Datatype, Tensor};

use super::observation::Observation;

/// What a record takes next to its tensors and its id.
pub(super) const RECORD_BYTES: usize = 256;
/// What a group takes next to its records.
pub(super) const GROUP_BYTES: usize = 512;

/// No JSON of the record is longer.
pub(super) fn longest(observation: &Observation) -> usize {
    let tensors = |tensors: &[Tensor]| tensors.iter().map(longest_tensor).sum::<usize>();
    let outputs = observation.outcome.as_ref().map_or(0, |outputs| tensors(outputs));
    let indices = observation.row_indices.as_ref().map_or(0, |indices| indices.len() * 21);
    fixed_bytes(observation) + indices + tensors(&observation.inputs) + outputs
}

/// No JSON of the record without its tensors is longer.
pub(super) fn fixed_bytes(observation: &Observation) -> usize {
    let source = &observation.source;
    let names =
        source.deployment.len() + source.model.len() + source.version.len() + observation.request_id.len();
    let error = observation.outcome.as_ref().err().map_or(0, String::len);
    RECORD_BYTES + GROUP_BYTES + (names + error) * 6
}

fn longest_tensor(tensor: &Tensor) -> usize {
    let values: usize = match &tensor.data {
        Data::Raw(_) => tensor.elements() * longest_element(tensor.datatype),
        Data::Strings(strings) => strings.iter().map(|text| longest_string(text)).sum(),
        Data::Octets(elements) => elements.iter().map(|octets| longest_octets(octets)).sum(),
    };
    values + longest_tensor_opening(tensor)
}

/// No JSON of the tensor without its values is longer.
pub(super) fn longest_tensor_opening(tensor: &Tensor) -> usize {
    tensor.name.len() * 6 + tensor.shape.len() * 21 + 64
}

/// No element of a fixed width has a longer JSON, with a comma.
pub(super) const fn longest_element(datatype: Datatype) -> usize {
    match datatype {
        Datatype::Bool => 6,
        Datatype::Int8 | Datatype::Uint8 => 5,
        Datatype::Int16 | Datatype::Uint16 => 7,
        Datatype::Int32 | Datatype::Uint32 => 12,
        Datatype::Int64 | Datatype::Uint64 => 21,
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => 26,
        Datatype::Bytes => 0,
    }
}

/// No JSON of the text is longer, with quotes and a comma: a control character is six.
pub(super) fn longest_string(text: &str) -> usize {
    text.len() * 6 + 5
}

/// The same of octets that need not be text: each of them may become U+FFFD, three bytes.
pub(super) const fn longest_octets(octets: &[u8]) -> usize {
    octets.len() * 6 + 5
}
