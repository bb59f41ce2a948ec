//! Quantized operators: row by row where scales and zero points are constants.

use super::call::{Call, Derived, one};
use super::product::multiplied;
use super::value::Tensor;

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    Some(match call.node.operator.as_str() {
        "QuantizeLinear" | "DequantizeLinear" => linear(call),
        "QLinearMatMul" => matmul(call),
        "MatMulInteger" => integer(call),
        "DynamicQuantizeLinear" => Err("it takes its scale from all rows of the run".to_owned()),
        _ => return None,
    })
}

/// One scale, or one for each entry of an axis that is not the batch.
pub(super) fn linear(call: &Call<'_>) -> Derived {
    call.constants_from(1)?;
    let tensor = call.input(0)?;
    let (Some(rows), Some(rank)) = (tensor.axis, tensor.rank()) else { return one(tensor.shaped()) };
    let scale = call.input(1)?;
    if !scale.is_scalar() {
        if scale.rank() != Some(1) {
            return Err("its scales may cover the batch".to_owned());
        }
        if call.axis(1, rank)? == rows {
            return Err("its scales cover the batch".to_owned());
        }
    }
    one(tensor.shaped())
}

/// `left, scale, zero point, right, scale, zero point, scale, zero point`.
fn matmul(call: &mut Call<'_>) -> Derived {
    for at in [1, 2, 6, 7] {
        call.scalar(at)?;
    }
    for at in [4, 5] {
        call.constant(at)?;
    }
    let (left, right) = (call.input(0)?, call.input(3)?);
    if right.axis.is_some() {
        // Its scales may be one for each column.
        for at in [4, 5] {
            call.scalar(at)?;
        }
    }
    one(multiplied(call.symbols, left, right)?)
}

/// `left, right, zero point, zero point`.
fn integer(call: &mut Call<'_>) -> Derived {
    call.scalar(2)?;
    call.constant(3)?;
    let (left, right): (&Tensor, &Tensor) = (call.input(0)?, call.input(1)?);
    if right.axis.is_some() {
        call.scalar(3)?;
    }
    one(multiplied(call.symbols, left, right)?)
}
