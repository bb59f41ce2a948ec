//! What is known of a tensor.

use super::size::{Number, Size};
use crate::model;

/// A tensor as the analysis sees it: constant, of rows, or integers that say sizes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tensor {
    /// `None` where not even the rank is known; tensors of rows always have dimensions.
    pub(super) dims: Option<Vec<Size>>,
    /// The dimension along which each row depends on the same row of the inputs alone. Its size is the number
    /// of rows, or a multiple of which each row has a contiguous part. `None`: constant, i.e. the same for
    /// any values and any number of rows; but `numbers` may have the number of rows in them.
    pub(super) axis: Option<usize>,
    /// All of its integers, where they are few.
    pub(super) numbers: Option<Vec<Number>>,
    /// All of its FP32 numbers, where they are few.
    pub(super) floats: Option<Vec<f32>>,
}

impl Tensor {
    pub(super) fn constant(dims: Option<Vec<Size>>) -> Self {
        Self { dims, ..Self::default() }
    }

    /// A tensor of these dimensions, of rows where `axis` is one.
    pub(super) fn new(dims: Vec<Size>, axis: Option<usize>) -> Self {
        Self { dims: Some(dims), axis, ..Self::default() }
    }

    /// A tensor of equal rows, where the number of rows is one of its sizes.
    pub(super) fn of_sizes(sizes: Vec<Size>) -> Result<Self, String> {
        let axis = sizes.iter().position(|size| size.rows);
        if sizes.iter().filter(|size| size.rows).count() > 1 {
            return Err("the number of rows is two of its sizes".to_owned());
        }
        Ok(Self::new(sizes, axis))
    }

    /// A list of integers.
    pub(super) fn list(numbers: Vec<Number>) -> Self {
        Self {
            dims: Some(vec![Size::fixed(numbers.len() as u64)]),
            numbers: Some(numbers),
            ..Self::default()
        }
    }

    pub(super) fn of(tensor: &model::Tensor) -> Self {
        let dims: Option<Vec<Size>> =
            tensor.shape.iter().map(|size| u64::try_from(*size).ok().map(Size::fixed)).collect();
        Self {
            dims,
            axis: None,
            numbers: tensor.ints.as_ref().map(|ints| ints.iter().copied().map(Number::of).collect()),
            floats: tensor.floats.clone(),
        }
    }

    pub(super) fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }

    /// Whether the number of rows is among its values.
    pub(super) fn counts_rows(&self) -> bool {
        self.numbers.iter().flatten().any(Number::has_rows)
    }

    /// The same for any values and any number of rows.
    pub(super) fn is_constant(&self) -> bool {
        self.axis.is_none() && !self.counts_rows()
    }

    /// Whether it has one element at most for each operation, as scales and zero points of whole tensors
    /// have.
    pub(super) fn is_scalar(&self) -> bool {
        self.is_constant() && self.dims.as_ref().is_some_and(|dims| dims.iter().all(|size| size.is(1)))
    }

    /// Its values, where all are known.
    pub(super) fn values(&self) -> Option<Vec<i64>> {
        self.numbers.as_ref()?.iter().map(Number::value).collect()
    }

    /// Without its numbers: the result of an operation on it that keeps the shape.
    pub(super) fn shaped(&self) -> Self {
        Self { dims: self.dims.clone(), axis: self.axis, numbers: None, floats: None }
    }
}
