//! Where the columns of a profile are in a model's tensors, as a signature or a record describes these.

use slipway_api::predictions::RecordedTensor;
use slipway_api::proto::registry::TensorSpec;
pub(crate) use slipway_domain::drift::layout::{Fit, Input, Place, fit, listed, places};

/// An input from the model's signature.
pub(crate) fn of_spec(spec: &TensorSpec) -> Input {
    Input::of_shape(&spec.name, &spec.shape)
}

/// An input from a record of `rows` rows.
pub(crate) fn of_record(tensor: &RecordedTensor, rows: u64) -> Input {
    Input { name: tensor.name.clone(), width: Some(width(tensor, rows)) }
}

/// Elements of a row of a tensor.
pub(crate) fn width(tensor: &RecordedTensor, rows: u64) -> usize {
    let rows = usize::try_from(rows).unwrap_or(usize::MAX).max(1);
    (tensor.data.len() / rows).max(1)
}
