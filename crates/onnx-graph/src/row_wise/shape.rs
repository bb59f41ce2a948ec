//! Operators that make and change lists of sizes: how exporters write "as many rows as there are".
//!
//! They also apply to other tensors, for which they hand over to the rules of their families.

use super::call::{Call, Derived, one};
use super::size::{Number, Size};
use super::value::Tensor;

/// INT32 and INT64.
const INTEGERS: [i64; 2] = [6, 7];
/// Lists of more entries are not shapes.
const MAX_LIST: u64 = 64;

/// Operators whose rules know what to do with the number of rows as a value.
pub(super) fn takes_sizes(operator: &str) -> bool {
    matches!(
        operator,
        "Add"
            | "Cast"
            | "Concat"
            | "ConstantOfShape"
            | "Div"
            | "Equal"
            | "Expand"
            | "Gather"
            | "Identity"
            | "Mul"
            | "ReduceProd"
            | "Reshape"
            | "Resize"
            | "Shape"
            | "Slice"
            | "Squeeze"
            | "Sub"
            | "Tile"
            | "Unsqueeze"
            | "Where"
    )
}

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    match call.node.operator.as_str() {
        "Constant" => Some(constant(call)),
        "Shape" => Some(shape(call)),
        "Size" => Some(size(call)),
        "ConstantOfShape" => Some(filled(call)),
        "Range" => Some(range(call)),
        "Identity" => Some(call.input(0).and_then(|tensor| one(tensor.clone()))),
        "Cast" => Some(cast(call)),
        "Add" | "Sub" | "Mul" | "Div" | "Equal" | "Where" => computed(call),
        "ReduceProd" => counted(call).then(|| product(call)),
        "Concat" => listed(call).then(|| concat(call)),
        "Gather" => of_numbers(call).then(|| gather(call)),
        "Slice" => of_numbers(call).then(|| slice(call)),
        "Squeeze" | "Unsqueeze" => of_numbers(call).then(|| squeeze(call)),
        _ => None,
    }
}

fn of_numbers(call: &Call<'_>) -> bool {
    call.given(0).is_some_and(|tensor| tensor.numbers.is_some())
}

fn counted(call: &Call<'_>) -> bool {
    call.inputs.iter().flatten().any(|tensor| tensor.counts_rows())
}

/// Whether all inputs are short lists, of which some have known numbers.
fn listed(call: &Call<'_>) -> bool {
    let mut inputs = call.inputs.iter().flatten();
    call.inputs.iter().flatten().any(|tensor| tensor.numbers.is_some())
        && inputs.all(|tensor| tensor.axis.is_none() && length(tensor).is_some())
}

/// Entries of a list.
fn length(tensor: &Tensor) -> Option<u64> {
    match tensor.dims.as_deref() {
        Some([size]) => size.number().filter(|length| *length <= MAX_LIST),
        _ => None,
    }
}

fn constant(call: &Call<'_>) -> Derived {
    let mut tensors = call.node.attributes.iter().map(|(name, value)| match (name.as_str(), value) {
        ("value", value) => value.tensor.as_ref().map_or_else(|| Tensor::constant(None), Tensor::of),
        ("value_int", value) => Tensor {
            numbers: value.int.map(|number| vec![Number::of(number)]),
            ..Tensor::constant(Some(Vec::new()))
        },
        ("value_ints", value) if value.is_whole() => {
            Tensor::list(value.ints.iter().copied().map(Number::of).collect())
        }
        ("value_float", value) => {
            Tensor { floats: value.float.map(|number| vec![number]), ..Tensor::constant(Some(Vec::new())) }
        }
        ("value_floats" | "value_strings" | "value_ints", value) => {
            Tensor::constant(Some(vec![Size::fixed(value.count as u64)]))
        }
        ("value_string", _) => Tensor::constant(Some(Vec::new())),
        _ => Tensor::constant(None),
    });
    one(tensors.next().unwrap_or_default())
}

fn shape(call: &Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return one(Tensor::constant(None)) };
    let rank = i64::try_from(dims.len()).unwrap_or(i64::MAX);
    let bound = |name: &str, default: i64| {
        let at = call.node.int(name).unwrap_or(default);
        usize::try_from(if at < 0 { at + rank } else { at }.clamp(0, rank)).unwrap_or(0)
    };
    let sizes = dims.get(bound("start", 0)..bound("end", rank)).unwrap_or_default();
    one(Tensor::list(sizes.iter().cloned().map(Number::Size).collect()))
}

fn size(call: &Call<'_>) -> Derived {
    let Some(dims) = &call.input(0)?.dims else { return one(Tensor::constant(Some(Vec::new()))) };
    let size = Size::product(dims).ok_or("its result cannot be followed")?;
    one(Tensor { numbers: Some(vec![Number::Size(size)]), ..Tensor::constant(Some(Vec::new())) })
}

/// A tensor of one value everywhere, so with the number of rows as a size it has equal rows.
fn filled(call: &Call<'_>) -> Derived {
    let shape = call.input(0)?;
    let Some(numbers) = &shape.numbers else {
        return if shape.is_constant() { one(Tensor::constant(None)) } else { Err(varying()) };
    };
    let sizes: Option<Vec<Size>> = numbers
        .iter()
        .map(|number| match number {
            Number::Size(size) => Some(size.clone()),
            Number::Negative(_) | Number::Opaque => None,
        })
        .collect();
    let Some(sizes) = sizes else {
        return if shape.is_constant() { one(Tensor::constant(None)) } else { Err(varying()) };
    };
    let mut tensor = Tensor::of_sizes(sizes)?;
    let value = call.node.attributes.get("value").and_then(|value| value.tensor.as_ref());
    if let (Some([value]), Some(length)) = (value.and_then(|value| value.ints.as_deref()), length(&tensor)) {
        tensor.numbers = Some((0..length).map(|_| Number::of(*value)).collect());
    }
    one(tensor)
}

fn varying() -> String {
    "its shape differs from row to row".to_owned()
}

fn range(call: &mut Call<'_>) -> Derived {
    call.constants_from(0)?;
    let number = |at: usize| call.given(at)?.numbers.as_ref()?.first();
    let length = match (number(0), number(1), number(2)) {
        (Some(start), Some(Number::Size(limit)), Some(step))
            if start.value() == Some(0) && step.value() == Some(1) =>
        {
            limit.clone()
        }
        _ => call.symbols.fresh(),
    };
    one(Tensor::new(vec![length], None))
}

/// Numbers stay known as integers; as floats they would be computed with otherwise.
fn cast(call: &Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    if call.node.int("to").is_some_and(|to| INTEGERS.contains(&to)) && tensor.numbers.is_some() {
        return one(tensor.clone());
    }
    if tensor.counts_rows() {
        return Err("it computes with the number of rows of the run".to_owned());
    }
    one(tensor.shaped())
}

/// Arithmetic of lists; `None` where it is that of other tensors.
fn computed(call: &mut Call<'_>) -> Option<Derived> {
    let inputs: Option<Vec<&Tensor>> = call.inputs.iter().copied().collect();
    let inputs = inputs?;
    let numbers: Option<Vec<&Vec<Number>>> = inputs.iter().map(|tensor| tensor.numbers.as_ref()).collect();
    let counts = counted(call);
    let Some(numbers) = numbers else {
        return counts.then(|| Err("it computes with the number of rows of the run".to_owned()));
    };
    let shaped = call.broadcast(&inputs);
    let length = numbers.iter().map(|numbers| numbers.len()).max()?;
    let mut results = Vec::with_capacity(length);
    // Lists and single numbers; of other shapes the order of the elements would have to be followed.
    let simple = inputs.iter().all(|tensor| tensor.rank().is_some_and(|rank| rank <= 1))
        && numbers.iter().all(|numbers| numbers.len() == length || numbers.len() == 1);
    for at in 0..length {
        let operands: Vec<&Number> =
            numbers.iter().filter_map(|numbers| numbers.get(at).or_else(|| numbers.first())).collect();
        let result = compute(call, &operands).filter(|_| simple);
        match result {
            Some(number) => results.push(number),
            None if counts => {
                return Some(Err("it computes with the number of rows of the run".to_owned()));
            }
            None => return Some(shaped.map(|tensor| vec![tensor])),
        }
    }
    Some(shaped.map(|tensor| vec![Tensor { numbers: Some(results), ..tensor }]))
}

/// One number; `None` for one that is not known.
fn compute(call: &mut Call<'_>, operands: &[&Number]) -> Option<Number> {
    let known: Option<Vec<i64>> = operands.iter().map(|number| number.value()).collect();
    let operator = call.node.operator.as_str();
    if let Some(known) = known {
        return match (operator, known.as_slice()) {
            ("Add", [left, right]) => left.checked_add(*right),
            ("Sub", [left, right]) => left.checked_sub(*right),
            ("Mul", [left, right]) => left.checked_mul(*right),
            ("Div", [left, right]) => left.checked_div(*right),
            ("Equal", [left, right]) => Some(i64::from(left == right)),
            ("Where", [condition, left, right]) => Some(if *condition == 0 { *right } else { *left }),
            _ => None,
        }
        .map(Number::of);
    }
    match (operator, operands) {
        ("Where", [condition, left, right]) => {
            Some(if condition.value()? == 0 { (*right).clone() } else { (*left).clone() })
        }
        ("Equal", [Number::Size(left), Number::Size(right)]) => (left == right).then(|| Number::of(1)),
        ("Equal", [Number::Size(_), Number::Negative(_)] | [Number::Negative(_), Number::Size(_)]) => {
            Some(Number::of(0))
        }
        ("Mul", [Number::Size(left), Number::Size(right)]) => left.times(right).map(Number::Size),
        ("Add" | "Sub", [left, right]) if right.value() == Some(0) => Some((*left).clone()),
        ("Add", [left, right]) if left.value() == Some(0) => Some((*right).clone()),
        ("Div", [Number::Size(left), Number::Size(right)]) => match left.over(right) {
            Some(quotient) => Some(Number::Size(quotient)),
            None if left.rows || right.rows => None,
            None => Some(Number::Size(call.symbols.fresh())),
        },
        ("Add", [Number::Size(left), Number::Size(right)]) if !left.rows && !right.rows => {
            Some(Number::Size(call.symbols.fresh()))
        }
        _ if operands.iter().any(|number| number.has_rows()) => None,
        _ => Some(Number::Opaque),
    }
}

/// The product of a list.
fn product(call: &Call<'_>) -> Derived {
    let list = call.input(0)?;
    let sizes = list.numbers.iter().flatten().map(|number| match number {
        Number::Size(size) => Some(size),
        Number::Negative(_) | Number::Opaque => None,
    });
    let sizes: Option<Vec<&Size>> = sizes.collect();
    let size = sizes.and_then(Size::product).ok_or("its result cannot be followed")?;
    let rank = usize::from(call.node.int("keepdims").unwrap_or(1) != 0);
    if list.rank() != Some(1) {
        return Err("its result cannot be followed".to_owned());
    }
    let dims = vec![Size::fixed(1); rank];
    one(Tensor { numbers: Some(vec![Number::Size(size)]), ..Tensor::constant(Some(dims)) })
}

fn concat(call: &Call<'_>) -> Derived {
    let mut numbers = Vec::new();
    for tensor in call.inputs.iter().flatten() {
        match &tensor.numbers {
            Some(known) => numbers.extend(known.iter().cloned()),
            None => numbers.extend((0..length(tensor).unwrap_or(0)).map(|_| Number::Opaque)),
        }
    }
    one(Tensor::list(numbers))
}

fn gather(call: &Call<'_>) -> Derived {
    let (list, indices) = (call.input(0)?, call.input(1)?);
    if !indices.is_constant() {
        return if list.counts_rows() {
            Err("it computes with the number of rows of the run".to_owned())
        } else {
            super::index::gather(call)
        };
    }
    let numbers = list.numbers.as_deref().unwrap_or_default();
    let picked: Option<Vec<Number>> =
        indices.values().filter(|_| list.rank() == Some(1)).and_then(|indices| {
            let count = i64::try_from(numbers.len()).ok()?;
            let pick =
                |at: i64| numbers.get(usize::try_from(if at < 0 { at + count } else { at }).ok()?).cloned();
            indices.into_iter().map(pick).collect()
        });
    match picked {
        Some(numbers) => one(Tensor { numbers: Some(numbers), ..Tensor::constant(indices.dims.clone()) }),
        None if list.counts_rows() => Err("it picks a size that is not known".to_owned()),
        None => super::index::gather(call),
    }
}

fn slice(call: &mut Call<'_>) -> Derived {
    let list = call.input(0)?;
    match sliced(call, list) {
        Some(numbers) => one(Tensor::list(numbers)),
        None if list.counts_rows() => Err("it picks sizes that are not known".to_owned()),
        None => super::index::slice(call),
    }
}

fn sliced(call: &Call<'_>, list: &Tensor) -> Option<Vec<Number>> {
    let numbers = list.numbers.as_deref().filter(|_| list.rank() == Some(1))?;
    let bounds = super::index::Bounds::of(call).ok()?;
    let (start, end) = (bounds.starts.first()?.value()?, bounds.ends.first()?.value()?);
    if bounds.starts.len() != 1 || bounds.steps.first().and_then(Number::value) != Some(1) {
        return None;
    }
    let count = i64::try_from(numbers.len()).ok()?;
    let clamp = |at: i64| usize::try_from(if at < 0 { at + count } else { at }.clamp(0, count)).ok();
    let (start, end) = (clamp(start)?, clamp(end)?);
    Some(numbers.get(start..end.max(start))?.to_vec())
}

/// A number as a list of one, or the other way round.
fn squeeze(call: &mut Call<'_>) -> Derived {
    let list = call.input(0)?;
    let shaped = super::reshape::squeezed(call)?;
    one(Tensor { numbers: list.numbers.clone(), ..shaped })
}
