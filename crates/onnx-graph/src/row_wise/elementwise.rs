//! Operators that work on each element alone, with broadcasting where they have several inputs.

use super::call::{Call, Derived, one};

/// One input, of which each element is changed alone.
const UNARY: [&str; 51] = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "RegexFullMatch",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Affine",
    "ParametricSoftplus",
    "ScaledTanh",
    "SimplifiedRelu",
    "HardTanh",
    "Identity",
    "Cast",
    "CastLike",
];

/// Several inputs, broadcast.
const BROADCAST: [&str; 27] = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "StringConcat",
    "Sub",
    "Sum",
    "Where",
    "Xor",
    "FloorDiv",
    "NotEqual",
];

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    let operator = call.node.operator.as_str();
    if UNARY.contains(&operator) {
        return Some(call.input(0).and_then(|tensor| one(tensor.shaped())));
    }
    if BROADCAST.contains(&operator) {
        return Some(broadcast(call));
    }
    match operator {
        "Clip" => Some(clip(call)),
        _ => None,
    }
}

fn broadcast(call: &mut Call<'_>) -> Derived {
    let inputs = (0..call.inputs.len()).map(|at| call.input(at)).collect::<Result<Vec<_>, _>>()?;
    one(call.broadcast(&inputs)?)
}

/// The bounds are single numbers.
fn clip(call: &Call<'_>) -> Derived {
    call.constants_from(1)?;
    one(call.input(0)?.shaped())
}

/// As in inference, where it does nothing.
pub(super) fn dropout(call: &Call<'_>) -> Derived {
    if call.given(2).is_some_and(|training| training.values() != Some(vec![0])) {
        return Err("it is in training mode, or may be".to_owned());
    }
    call.constants_from(1)?;
    let kept = call.input(0)?.shaped();
    Ok(vec![kept.clone(), kept])
}
