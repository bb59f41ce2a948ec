//! Operators that make one value of many: never of several rows.

use super::call::{Call, Derived, axis_in, one};
use super::size::Size;
use super::value::Tensor;

const REDUCE: [&str; 10] = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    let operator = call.node.operator.as_str();
    if REDUCE.contains(&operator) {
        return Some(reduce(call));
    }
    matches!(operator, "ArgMax" | "ArgMin").then(|| extreme(call))
}

fn reduce(call: &Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else {
        call.constants_from(1)?;
        return one(Tensor::constant(None));
    };
    let axes = call.axes(1, dims.len())?.filter(|axes| !axes.is_empty());
    let axes = match axes {
        Some(axes) => axes,
        None if call.node.int("noop_with_empty_axes").unwrap_or(0) != 0 => return one(tensor.shaped()),
        None => (0..dims.len()).collect(),
    };
    let reduced = without(call, tensor, dims, &axes)?;
    // ONNX Runtime picks the kernel by the shape, and its kernels differ in whether NaN is the greatest.
    if tensor.axis.is_some() && matches!(call.node.operator.as_str(), "ReduceMax" | "ReduceMin") {
        return Err("what it makes of NaN depends on the number of rows of the run".to_owned());
    }
    one(reduced)
}

fn extreme(call: &Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return one(Tensor::constant(None)) };
    let axis = axis_in(call.node.int("axis").unwrap_or(0), dims.len())?;
    one(without(call, tensor, dims, &[axis])?)
}

fn without(call: &Call<'_>, tensor: &Tensor, dims: &[Size], axes: &[usize]) -> Result<Tensor, String> {
    if tensor.axis.is_some_and(|rows| axes.contains(&rows)) {
        return Err("it takes one value from all rows of the run".to_owned());
    }
    let keeps = call.node.int("keepdims").unwrap_or(1) != 0;
    let mut sizes = Vec::with_capacity(dims.len());
    for (at, size) in dims.iter().enumerate() {
        if !axes.contains(&at) {
            sizes.push(size.clone());
        } else if keeps {
            sizes.push(Size::fixed(1));
        }
    }
    let rows = sizes.iter().position(|size| size.rows);
    Ok(Tensor::new(sizes, rows))
}
