//! `com.microsoft`: the operators that quantization and optimization tools of ONNX Runtime write. Others have
//! no rule.

use super::call::{Call, Derived, one};
use super::product::{gemm, multiplied};
use super::value::Tensor;

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    Some(match call.node.operator.as_str() {
        "Gelu" | "QuickGelu" => call.input(0).and_then(|tensor| one(tensor.shaped())),
        "FastGelu" | "BiasGelu" => activated(call),
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => skip(call),
        "MatMulNBits" => blocks(call),
        "QuantizeLinear" | "DequantizeLinear" => super::quantize::linear(call),
        "QLinearAdd" | "QLinearMul" => quantized(call),
        "QLinearSigmoid" | "QLinearLeakyRelu" => scaled(call),
        "QLinearGlobalAveragePool" => pooled(call),
        "QGemm" => quantized_gemm(call),
        "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM" => {
            Err("it takes its scale from all rows of the run".to_owned())
        }
        _ => return None,
    })
}

fn activated(call: &mut Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    match call.given(1) {
        Some(bias) => one(call.broadcast(&[tensor, bias])?),
        None => one(tensor.shaped()),
    }
}

/// The sum of two tensors, normalized over the last dimension.
fn skip(call: &mut Call<'_>) -> Derived {
    call.constants_from(2)?;
    let (tensor, other) = (call.input(0)?, call.input(1)?);
    let summed = call.broadcast(&[tensor, other])?;
    let rank = tensor.rank().ok_or("the shape of its input is not known")?;
    if summed.rank() != Some(rank) || summed.axis.is_none_or(|rows| rows + 1 >= rank) {
        return Err("it normalizes across the rows of the run".to_owned());
    }
    let vectors = call.inputs.iter().skip(2).flatten();
    if vectors.into_iter().any(|vector| vector.rank() != Some(1)) || call.node.outputs.len() > 1 {
        return Err("its scales may cover the batch".to_owned());
    }
    one(summed.shaped())
}

/// A matrix of weights that is packed, so of an unknown shape.
fn blocks(call: &mut Call<'_>) -> Derived {
    call.constants_from(1)?;
    let tensor = call.input(0)?;
    let matrix = Tensor::new(vec![call.symbols.fresh(), call.symbols.fresh()], None);
    one(multiplied(call.symbols, tensor, &matrix)?)
}

/// `left, scale, zero point, right, scale, zero point, scale, zero point`.
fn quantized(call: &mut Call<'_>) -> Derived {
    for at in [1, 2, 4, 5, 6, 7] {
        call.scalar(at)?;
    }
    let (left, right) = (call.input(0)?, call.input(3)?);
    one(call.broadcast(&[left, right])?)
}

fn scaled(call: &Call<'_>) -> Derived {
    (1..call.inputs.len()).try_for_each(|at| call.scalar(at))?;
    one(call.input(0)?.shaped())
}

fn pooled(call: &Call<'_>) -> Derived {
    (1..call.inputs.len()).try_for_each(|at| call.scalar(at))?;
    let tensor = call.input(0)?;
    let dims = tensor.dims.as_ref().ok_or("the shape of its input is not known")?;
    if tensor.axis != Some(0) || dims.len() < 3 || call.node.int("channels_last").unwrap_or(0) != 0 {
        return Err("its batch is not the first of at least three dimensions".to_owned());
    }
    let size = |(at, size): (usize, &super::Size)| if at < 2 { size.clone() } else { super::Size::fixed(1) };
    one(Tensor::new(dims.iter().enumerate().map(size).collect(), Some(0)))
}

/// `left, scale, zero point, right, scale, zero point, bias, scale, zero point`.
fn quantized_gemm(call: &mut Call<'_>) -> Derived {
    for at in [1, 2] {
        call.scalar(at)?;
    }
    for at in [4, 5, 6, 7, 8] {
        call.constant(at)?;
    }
    if call.input(3)?.axis.is_some() {
        return Err("rows of one input meet all rows of another".to_owned());
    }
    gemm(call, 0, 3, 6)
}
