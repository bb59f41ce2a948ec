//! Operators that arrange the same elements in another shape.

use super::call::{Call, Derived, axis_in, broadcast, one};
use super::size::{Number, Size};
use super::value::Tensor;

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    Some(match call.node.operator.as_str() {
        "Reshape" => reshape(call),
        "Flatten" => flatten(call),
        "Squeeze" | "Unsqueeze" => squeezed(call).and_then(one),
        "Transpose" => transpose(call),
        "Expand" => expand(call),
        "Tile" => tile(call),
        "DepthToSpace" | "SpaceToDepth" => depth(call),
        _ => return None,
    })
}

/// The elements of a row stay together, and rows in their order, where as many elements come before the batch
/// as before: in memory a tensor is `before · rows · after`.
fn reshape(call: &mut Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let numbers = match call.given(1) {
        Some(shape) if shape.axis.is_some() => return Err("its shape differs from row to row".to_owned()),
        Some(shape) => shape.numbers.clone(),
        None => call.node.ints("shape").map(|shape| shape.iter().copied().map(Number::of).collect()),
    };
    let counts = numbers.iter().flatten().any(Number::has_rows);
    if tensor.axis.is_none() && !counts {
        return one(Tensor::constant(constant_shape(tensor, numbers)));
    }
    let numbers = numbers.ok_or("its shape is not known before the run")?;
    let dims = tensor.dims.as_ref().ok_or("it shapes a tensor whose shape is not known")?;
    let copies_zeros = call.node.int("allowzero").unwrap_or(0) == 0;
    let mut target = Vec::with_capacity(numbers.len());
    let mut inferred = None;
    for (at, number) in numbers.iter().enumerate() {
        target.push(match number {
            Number::Size(size) if size.is(0) && copies_zeros => {
                dims.get(at).cloned().ok_or("its shape copies a dimension that is not there")?
            }
            Number::Size(size) => size.clone(),
            Number::Negative(-1) if inferred.is_none() => {
                inferred = Some(at);
                Size::fixed(1)
            }
            Number::Negative(_) | Number::Opaque => {
                return Err("its shape is not known before the run".to_owned());
            }
        });
    }
    if let Some(at) = inferred {
        let total = Size::product(dims).ok_or("its size cannot be followed")?;
        let others = Size::product(&target).ok_or("the number of rows is two of its sizes")?;
        target[at] = match total.over(&others) {
            Some(size) => size,
            // Whatever it is, it is the same for every row.
            None if others.rows => call.symbols.fresh(),
            None => {
                return Err("its shape may put parts of several rows into one, or several rows".to_owned());
            }
        };
    }
    let shaped = Tensor::of_sizes(target)?;
    let (Some(from), Some(to)) = (tensor.axis, shaped.axis) else {
        return Err("its shape does not follow the number of rows".to_owned());
    };
    let before = |dims: &[Size], axis: usize| Size::product(dims.get(..axis).unwrap_or_default());
    let same = before(dims, from).is_some()
        && before(dims, from) == shaped.dims.as_deref().and_then(|dims| before(dims, to));
    if same { one(shaped) } else { Err("it moves elements between rows".to_owned()) }
}

/// The sizes of a constant, where they are given outright.
fn constant_shape(tensor: &Tensor, numbers: Option<Vec<Number>>) -> Option<Vec<Size>> {
    let mut target = Vec::new();
    let mut inferred = None;
    for (at, number) in numbers?.into_iter().enumerate() {
        target.push(match number {
            Number::Size(size) if size.is(0) => tensor.dims.as_ref()?.get(at)?.clone(),
            Number::Size(size) => size,
            Number::Negative(-1) if inferred.is_none() => {
                inferred = Some(at);
                Size::fixed(1)
            }
            Number::Negative(_) | Number::Opaque => return None,
        });
    }
    if let Some(at) = inferred {
        let total = Size::product(tensor.dims.as_ref()?)?;
        target[at] = total.over(&Size::product(&target)?)?;
    }
    Some(target)
}

fn flatten(call: &Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return one(Tensor::constant(None)) };
    let rank = dims.len();
    let axis = call.node.int("axis").unwrap_or(1);
    // One behind the last is allowed here.
    let axis = if usize::try_from(axis) == Ok(rank) { rank } else { axis_in(axis, rank)? };
    let (left, right) = dims.split_at(axis);
    let merged = |dims: &[Size]| Size::product(dims).ok_or("its size cannot be followed");
    let sizes = vec![merged(left)?, merged(right)?];
    let Some(rows) = tensor.axis else { return one(Tensor::new(sizes, None)) };
    let first = if rows < axis { 0 } else { axis };
    if dims.get(first..rows).unwrap_or_default().iter().any(|size| !size.is(1)) {
        return Err("it mixes the batch with the dimension before it".to_owned());
    }
    one(Tensor::new(sizes, Some(usize::from(rows >= axis))))
}

/// Squeeze and Unsqueeze.
pub(super) fn squeezed(call: &mut Call<'_>) -> Result<Tensor, String> {
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return Ok(Tensor::constant(None)) };
    if call.node.operator == "Unsqueeze" {
        let count = call.given(1).map_or_else(
            || call.node.ints("axes").map(<[i64]>::len),
            |axes| Some(axes.numbers.as_ref()?.len()),
        );
        let rank = dims.len() + count.ok_or("its axes are not known before the run")?;
        let axes = call.axes(1, rank)?.ok_or("it has no axes")?;
        let mut left = dims.iter().cloned();
        let mut rows = None;
        let mut sizes = Vec::with_capacity(rank);
        for at in 0..rank {
            let size = if axes.contains(&at) { Some(Size::fixed(1)) } else { left.next() };
            let size = size.ok_or("its axes name one twice")?;
            if size.rows {
                rows = Some(at);
            }
            sizes.push(size);
        }
        return Ok(Tensor::new(sizes, rows));
    }
    let axes = match call.axes(1, dims.len())? {
        Some(axes) => axes,
        // A batch of one row would be squeezed away.
        None if tensor.axis.is_some() => {
            return Err("it removes every dimension of size 1, which the batch may have".to_owned());
        }
        None if dims.iter().all(|size| size.number().is_some()) => {
            (0..dims.len()).filter(|at| dims[*at].is(1)).collect()
        }
        None => return Ok(Tensor::constant(None)),
    };
    if tensor.axis.is_some_and(|rows| axes.contains(&rows)) {
        return Err("it removes the batch dimension".to_owned());
    }
    let kept: Vec<Size> =
        dims.iter().enumerate().filter(|(at, _)| !axes.contains(at)).map(|(_, size)| size.clone()).collect();
    let rows = kept.iter().position(|size| size.rows);
    Ok(Tensor::new(kept, rows))
}

fn transpose(call: &Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return one(Tensor::constant(None)) };
    let order: Vec<usize> = match call.node.attributes.get("perm") {
        Some(_) => {
            let order = call.node.ints("perm").unwrap_or_default().iter();
            order.map(|axis| axis_in(*axis, dims.len())).collect::<Result<_, _>>()?
        }
        None => (0..dims.len()).rev().collect(),
    };
    let sizes: Vec<Size> = order.iter().filter_map(|axis| dims.get(*axis).cloned()).collect();
    if sizes.len() != dims.len() || sizes.iter().filter(|size| size.rows).count() > 1 {
        return Err("its order of dimensions is none".to_owned());
    }
    let rows = sizes.iter().position(|size| size.rows);
    if rows.is_some() != tensor.axis.is_some() {
        return Err("its order of dimensions is none".to_owned());
    }
    one(Tensor::new(sizes, rows))
}

/// Broadcasting to a shape; with the number of rows in it, a constant becomes equal rows.
fn expand(call: &mut Call<'_>) -> Derived {
    let (tensor, shape) = (call.input(0)?, call.input(1)?);
    if shape.axis.is_some() {
        return Err("its shape differs from row to row".to_owned());
    }
    let sizes: Option<Vec<Size>> = shape.numbers.as_ref().and_then(|numbers| {
        let size = |number: &Number| match number {
            Number::Size(size) => Some(size.clone()),
            Number::Negative(_) | Number::Opaque => None,
        };
        numbers.iter().map(size).collect()
    });
    match sizes {
        Some(sizes) => one(broadcast(call.symbols, &[tensor, &Tensor::of_sizes(sizes)?])?),
        None if tensor.is_constant() && shape.is_constant() => one(Tensor::constant(None)),
        None => Err("its shape is not known before the run".to_owned()),
    }
}

fn tile(call: &Call<'_>) -> Derived {
    let (tensor, repeats) = (call.input(0)?, call.input(1)?);
    let (Some(dims), Some(numbers)) = (&tensor.dims, &repeats.numbers) else {
        return if tensor.is_constant() && repeats.is_constant() {
            one(Tensor::constant(None))
        } else {
            Err("how often it repeats rows is not known before the run".to_owned())
        };
    };
    if dims.len() != numbers.len() {
        return Err("it repeats other dimensions than there are".to_owned());
    }
    let mut sizes = Vec::with_capacity(dims.len());
    for (at, (size, number)) in dims.iter().zip(numbers).enumerate() {
        let Number::Size(times) = number else {
            return Err("how often it repeats rows is not known before the run".to_owned());
        };
        if tensor.axis == Some(at) && !times.is(1) {
            return Err("it repeats the rows".to_owned());
        }
        sizes.push(size.times(times).ok_or("it repeats the rows")?);
    }
    one(Tensor::of_sizes(sizes)?)
}

/// Blocks of an image become channels, or the other way round.
fn depth(call: &mut Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return one(Tensor::constant(None)) };
    if dims.len() != 4 || tensor.axis.is_some_and(|rows| rows != 0) {
        return Err("its batch is not the first of four dimensions".to_owned());
    }
    let mut sizes: Vec<Size> = (0..4).map(|_| call.symbols.fresh()).collect();
    sizes[0] = dims[0].clone();
    one(Tensor::new(sizes, tensor.axis))
}
