//! Operators that relate each element to others: of the same row only.

use super::call::{Call, Derived, one};
use super::size::Size;
use super::value::Tensor;

/// Before this version, Softmax and its kin see a matrix: all dimensions from their axis on are one.
const SOFTMAX_BY_AXIS: i64 = 13;

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    Some(match call.node.operator.as_str() {
        "Softmax" | "LogSoftmax" | "Hardmax" => softmax(call),
        "BatchNormalization" => batch(call),
        "InstanceNormalization" | "GroupNormalization" | "LRN" => of_channels(call),
        "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => layer(call),
        "LpNormalization" => along(call, -1),
        "MeanVarianceNormalization" => mean_variance(call),
        _ => return None,
    })
}

fn across() -> String {
    "it normalizes across the rows of the run".to_owned()
}

fn softmax(call: &Call<'_>) -> Derived {
    if call.version >= SOFTMAX_BY_AXIS {
        return along(call, -1);
    }
    let tensor = call.input(0)?;
    let Some(rank) = tensor.rank() else { return one(Tensor::constant(None)) };
    let axis = call.axis(1, rank)?;
    if tensor.axis.is_some_and(|rows| rows >= axis) { Err(across()) } else { one(tensor.shaped()) }
}

fn along(call: &Call<'_>, default: i64) -> Derived {
    let tensor = call.input(0)?;
    let Some(rank) = tensor.rank() else { return one(Tensor::constant(None)) };
    let axis = call.axis(default, rank)?;
    if tensor.axis == Some(axis) { Err(across()) } else { one(tensor.shaped()) }
}

/// With the statistics of the training: constants for each channel, which is dimension 1.
fn batch(call: &Call<'_>) -> Derived {
    let training = call.node.int("training_mode").unwrap_or(0) != 0
        || call.node.outputs.iter().skip(1).any(|name| !name.is_empty());
    if training {
        return Err("it is in training mode, so it normalizes across the rows of the run".to_owned());
    }
    call.constants_from(1)?;
    let tensor = call.input(0)?;
    if tensor.axis == Some(1) || tensor.axis.is_some() && tensor.rank() < Some(2) {
        return Err("the batch is its dimension of channels".to_owned());
    }
    Ok(vec![tensor.shaped(); call.node.outputs.len()])
}

/// Statistics of each row, with constants for each channel.
fn of_channels(call: &Call<'_>) -> Derived {
    call.constants_from(1)?;
    let tensor = call.input(0)?;
    if tensor.axis.is_some_and(|rows| rows != 0) || tensor.axis.is_some() && tensor.rank() < Some(2) {
        return Err(across());
    }
    one(tensor.shaped())
}

/// Statistics of the dimensions from the axis on.
fn layer(call: &Call<'_>) -> Derived {
    call.constants_from(1)?;
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return Ok(vec![Tensor::constant(None); 3]) };
    let axis = call.axis(-1, dims.len())?;
    if let Some(rows) = tensor.axis {
        if rows >= axis {
            return Err(across());
        }
        // Scale and bias cover the normalized dimensions, and not the batch.
        let reach = dims.len() - rows;
        for scale in call.inputs.iter().skip(1).flatten() {
            if scale.rank().is_none_or(|rank| rank >= reach) {
                return Err("its scale may cover the batch".to_owned());
            }
        }
    }
    let statistic = |(at, size): (usize, &Size)| if at < axis { size.clone() } else { Size::fixed(1) };
    let statistics = Tensor::new(dims.iter().enumerate().map(statistic).collect(), tensor.axis);
    Ok(vec![tensor.shaped(), statistics.clone(), statistics])
}

fn mean_variance(call: &Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let Some(rank) = tensor.rank() else { return one(Tensor::constant(None)) };
    let axes = match call.axes(1, rank)? {
        Some(axes) => axes,
        None => vec![0, 2, 3],
    };
    if tensor.axis.is_some_and(|rows| axes.contains(&rows)) { Err(across()) } else { one(tensor.shaped()) }
}
