//! A call of an operator, and what rules share.

use super::size::Size;
use super::value::Tensor;
use crate::Node;

/// The outputs of a node, or why it does not work row by row.
pub(super) type Derived = Result<Vec<Tensor>, String>;

/// Makes sizes that are only known at a run.
#[derive(Debug, Default)]
pub(super) struct Symbols(u32);

impl Symbols {
    pub(super) fn fresh(&mut self) -> Size {
        self.0 += 1;
        Size::symbol(self.0)
    }
}

/// A call of an operator.
pub(super) struct Call<'call> {
    pub(super) node: &'call Node,
    /// `None` for an optional input that is left out.
    pub(super) inputs: Vec<Option<&'call Tensor>>,
    /// Of the operator's set.
    pub(super) version: i64,
    /// Whether tensors of the model may hold strings.
    pub(super) has_text: bool,
    pub(super) symbols: &'call mut Symbols,
}

impl<'call> Call<'call> {
    /// An input, where it is given.
    pub(super) fn given(&self, at: usize) -> Option<&'call Tensor> {
        self.inputs.get(at).copied().flatten()
    }

    /// An input that the operator needs.
    pub(super) fn input(&self, at: usize) -> Result<&'call Tensor, String> {
        self.given(at).ok_or_else(|| format!("its input {at} is missing"))
    }

    /// Refuses inputs from `from` on that are not constant.
    pub(super) fn constants_from(&self, from: usize) -> Result<(), String> {
        for at in from..self.inputs.len() {
            self.constant(at)?;
        }
        Ok(())
    }

    /// Refuses an input that is given and not constant.
    pub(super) fn constant(&self, at: usize) -> Result<(), String> {
        match self.given(at) {
            Some(tensor) if !tensor.is_constant() => {
                Err(format!("its input '{}' differs from row to row", self.name(at)))
            }
            _ => Ok(()),
        }
    }

    /// Refuses an input that is given and has more than one element.
    pub(super) fn scalar(&self, at: usize) -> Result<(), String> {
        match self.given(at) {
            Some(tensor) if !tensor.is_scalar() => {
                Err(format!("its input '{}' is not one constant number", self.name(at)))
            }
            _ => Ok(()),
        }
    }

    fn name(&self, at: usize) -> &str {
        self.node.inputs.get(at).map_or("", String::as_str)
    }

    /// An axis attribute, counted from 0.
    pub(super) fn axis(&self, default: i64, rank: usize) -> Result<usize, String> {
        axis_in(self.node.int("axis").unwrap_or(default), rank)
    }

    /// The axes of the input at `at`, or of the attribute `axes`: counted from 0, `None` where there are none
    /// of either.
    pub(super) fn axes(&self, at: usize, rank: usize) -> Result<Option<Vec<usize>>, String> {
        let listed = match self.given(at) {
            Some(axes) => Some(axes.values().ok_or("its axes are not known before the run")?),
            None if self.node.attributes.contains_key("axes") => {
                Some(self.node.ints("axes").ok_or("its axes are too many")?.to_vec())
            }
            None => None,
        };
        listed.map(|axes| axes.into_iter().map(|axis| axis_in(axis, rank)).collect()).transpose()
    }

    /// The sizes of both, as broadcasting makes them; see [`broadcast`].
    pub(super) fn broadcast(&mut self, tensors: &[&Tensor]) -> Result<Tensor, String> {
        broadcast(self.symbols, tensors)
    }
}

/// An axis, counted from 0.
pub(super) fn axis_in(axis: i64, rank: usize) -> Result<usize, String> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let counted = if axis < 0 { axis + signed } else { axis };
    usize::try_from(counted)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| format!("its axis {axis} is not one of {rank}"))
}

/// One output.
pub(super) fn one(tensor: Tensor) -> Derived {
    Ok(vec![tensor])
}

/// Multidirectional broadcasting: dimensions are aligned at the last one. Rows have to meet rows of the same
/// inputs, or one entry for all of them; a run of one row would otherwise be stretched to what it meets.
pub(super) fn broadcast(symbols: &mut Symbols, tensors: &[&Tensor]) -> Result<Tensor, String> {
    let has_rows = tensors.iter().any(|tensor| tensor.axis.is_some());
    let dims: Option<Vec<&Vec<Size>>> = tensors.iter().map(|tensor| tensor.dims.as_ref()).collect();
    let Some(dims) = dims else {
        return if has_rows {
            Err("rows meet a constant whose shape is not known".to_owned())
        } else {
            Ok(Tensor::constant(None))
        };
    };
    let rank = dims.iter().map(|dims| dims.len()).max().unwrap_or(0);
    let mut sizes = vec![Size::fixed(1); rank];
    for (at, size) in sizes.iter_mut().enumerate() {
        for dims in &dims {
            if let Some(other) = (at + dims.len()).checked_sub(rank).and_then(|at| dims.get(at)) {
                *size = meet(symbols, size, other)?;
            }
        }
    }
    let axis = sizes.iter().position(|size| size.rows);
    if sizes.iter().filter(|size| size.rows).count() > 1 {
        return Err("rows of one input meet all rows of another".to_owned());
    }
    Ok(Tensor::new(sizes, axis))
}

fn meet(symbols: &mut Symbols, left: &Size, right: &Size) -> Result<Size, String> {
    if left == right || right.is(1) {
        return Ok(left.clone());
    }
    if left.is(1) {
        return Ok(right.clone());
    }
    if left.rows || right.rows {
        return Err("the batch is aligned with a dimension that is none".to_owned());
    }
    let above_one = |size: &Size| size.number().is_some_and(|number| number > 1);
    Ok(match (above_one(left), above_one(right)) {
        (true, _) => left.clone(),
        (_, true) => right.clone(),
        _ => symbols.fresh(),
    })
}
