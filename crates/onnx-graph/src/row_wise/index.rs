//! Operators that pick, join and split elements.

use super::call::{Call, Derived, axis_in, one};
use super::size::{Number, Size};
use super::value::Tensor;

/// Ends of slices from here on mean "to the end": exporters write the largest INT32 or INT64.
const TO_THE_END: i64 = i32::MAX as i64;

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    Some(match call.node.operator.as_str() {
        "Gather" => gather(call),
        "GatherElements" => gather_elements(call),
        "Slice" => slice(call),
        "Concat" => concat(call),
        "Split" => split(call),
        "Pad" => pad(call),
        "TopK" => top(call),
        "OneHot" => one_hot(call),
        "CumSum" | "CumProd" => cumulate(call),
        "Trilu" => triangle(call),
        "Compress" => compress(call),
        "ReverseSequence" => reverse(call),
        "TfIdfVectorizer" => weigh(call),
        "NonZero" | "Unique" => Err("how many elements it returns depends on all rows".to_owned()),
        _ => return None,
    })
}

/// Entries of a constant table by indices of each row, or constant positions of each row.
pub(super) fn gather(call: &Call<'_>) -> Derived {
    let (data, indices) = (call.input(0)?, call.input(1)?);
    if data.counts_rows() || indices.counts_rows() {
        return Err("it computes with the number of rows of the run".to_owned());
    }
    let (Some(dims), Some(picked)) = (&data.dims, &indices.dims) else {
        return if data.is_constant() && indices.is_constant() {
            one(Tensor::constant(None))
        } else {
            Err("the shape of its table or of its indices is not known".to_owned())
        };
    };
    let axis = call.axis(0, dims.len())?;
    if data.axis == Some(axis) {
        return Err("it picks rows by their place in the batch".to_owned());
    }
    if data.axis.is_some() && indices.axis.is_some() {
        return Err("each row's indices apply to all rows".to_owned());
    }
    // ONNX Runtime (1.23 to 1.31) copies the first string of each entry and leaves the others empty.
    if call.has_text && data.axis.is_some_and(|rows| rows > axis) {
        return Err("an entry that it picks has strings of several rows, of which it copies one".to_owned());
    }
    let mut sizes = dims.get(..axis).unwrap_or_default().to_vec();
    sizes.extend(picked.iter().cloned());
    sizes.extend_from_slice(dims.get(axis + 1..).unwrap_or_default());
    let rows = sizes.iter().position(|size| size.rows);
    one(Tensor::new(sizes, rows))
}

fn gather_elements(call: &Call<'_>) -> Derived {
    let (data, indices) = (call.input(0)?, call.input(1)?);
    if data.axis.is_none() && indices.axis.is_none() {
        return one(indices.shaped());
    }
    let rank = data.rank().ok_or("the shape of its table is not known")?;
    let axis = call.axis(0, rank)?;
    match (data.axis, indices.axis) {
        (Some(left), Some(right)) if left == right && axis != left => {
            let size = |tensor: &Tensor| tensor.dims.as_ref().and_then(|dims| dims.get(left).cloned());
            if size(data) == size(indices) { one(indices.shaped()) } else { Err(misplaced()) }
        }
        _ => Err(misplaced()),
    }
}

fn misplaced() -> String {
    "it picks entries across rows, or by their place in the batch".to_owned()
}

/// What a Slice takes.
pub(super) struct Bounds {
    pub(super) starts: Vec<Number>,
    pub(super) ends: Vec<Number>,
    /// `None`: the first axes, as many as there are starts.
    axes: Option<Vec<i64>>,
    pub(super) steps: Vec<Number>,
}

impl Bounds {
    /// Of inputs, or of attributes as before version 10.
    pub(super) fn of(call: &Call<'_>) -> Result<Self, String> {
        let unknown = || "its bounds are not known before the run".to_owned();
        let list = |at: usize, name: &str| match call.given(at) {
            Some(tensor) if tensor.axis.is_some() => Err("its bounds differ from row to row".to_owned()),
            Some(tensor) => {
                let length = || match tensor.dims.as_deref() {
                    Some([size]) => size.number().and_then(|length| usize::try_from(length).ok()),
                    _ => None,
                };
                // Bounds that are not known are the same for all rows; how many there are has to be known.
                let opaque =
                    || length().filter(|length| *length <= 64).map(|length| vec![Number::Opaque; length]);
                Ok(tensor.numbers.clone().or_else(opaque))
            }
            None => Ok(call.node.ints(name).map(|ints| ints.iter().copied().map(Number::of).collect())),
        };
        let starts = list(1, "starts")?.ok_or_else(unknown)?;
        let ends = list(2, "ends")?.ok_or_else(unknown)?;
        let axes = match list(3, "axes")? {
            None if call.given(3).is_some() => return Err(unknown()),
            None => None,
            Some(axes) => {
                Some(axes.iter().map(Number::value).collect::<Option<Vec<i64>>>().ok_or_else(unknown)?)
            }
        };
        let steps = match list(4, "")? {
            None if call.given(4).is_some() => return Err(unknown()),
            None => vec![Number::of(1); starts.len()],
            Some(steps) => steps,
        };
        let lengths = [ends.len(), steps.len(), axes.as_ref().map_or(starts.len(), Vec::len)];
        if lengths.iter().any(|length| *length != starts.len()) {
            return Err("its bounds are not as many as its axes".to_owned());
        }
        Ok(Self { starts, ends, axes, steps })
    }
}

pub(super) fn slice(call: &mut Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else {
        call.constants_from(1)?;
        return one(Tensor::constant(None));
    };
    let bounds = match Bounds::of(call) {
        Ok(bounds) => bounds,
        Err(_) if tensor.is_constant() && call.inputs.iter().flatten().all(|input| input.is_constant()) => {
            return one(Tensor::constant(None));
        }
        Err(reason) => return Err(reason),
    };
    let mut sizes = dims.clone();
    for (at, ((start, end), step)) in bounds.starts.iter().zip(&bounds.ends).zip(&bounds.steps).enumerate() {
        let axis = match &bounds.axes {
            Some(axes) => axis_in(axes.get(at).copied().unwrap_or_default(), dims.len())?,
            None if at < dims.len() => at,
            None => return Err("it has more bounds than dimensions".to_owned()),
        };
        let size = dims.get(axis).cloned().ok_or("its axis is none")?;
        let whole = start.value() == Some(0)
            && step.value() == Some(1)
            && (end.value().is_some_and(|end| end >= TO_THE_END) || *end == Number::Size(size.clone()));
        if whole {
            continue;
        }
        if tensor.axis == Some(axis) {
            return Err("it picks rows by their place in the batch".to_owned());
        }
        if end.has_rows() || start.has_rows() || step.has_rows() {
            return Err("it computes with the number of rows of the run".to_owned());
        }
        sizes[axis] = sliced_size(&size, start, end, step).unwrap_or_else(|| call.symbols.fresh());
    }
    one(Tensor::new(sizes, tensor.axis))
}

/// Entries of a slice, where they can be counted now.
fn sliced_size(size: &Size, start: &Number, end: &Number, step: &Number) -> Option<Size> {
    let (length, step) = (i64::try_from(size.number()?).ok()?, step.value().filter(|step| *step >= 1)?);
    let clamp = |at: i64| if at < 0 { at.saturating_add(length) } else { at }.clamp(0, length);
    let (start, end) = (clamp(start.value()?), clamp(end.value()?));
    let span = u64::try_from((end - start).max(0)).ok()?;
    Some(Size::fixed(span.div_ceil(u64::try_from(step).ok()?)))
}

/// Rows side by side; never one after another.
fn concat(call: &mut Call<'_>) -> Derived {
    let inputs = (0..call.inputs.len()).map(|at| call.input(at)).collect::<Result<Vec<_>, _>>()?;
    concatenated(call, &inputs)
}

pub(super) fn concatenated(call: &mut Call<'_>, inputs: &[&Tensor]) -> Derived {
    if inputs.iter().any(|tensor| tensor.counts_rows()) {
        return Err("it computes with the number of rows of the run".to_owned());
    }
    let first = *inputs.first().ok_or("it has no inputs")?;
    if inputs.iter().all(|tensor| tensor.axis.is_none()) && inputs.iter().any(|tensor| tensor.dims.is_none())
    {
        return one(Tensor::constant(None));
    }
    let dims = first.dims.as_ref().ok_or("a constant is joined to rows")?;
    let axis = call.axis(1, dims.len())?;
    if inputs.iter().any(|tensor| tensor.axis == Some(axis)) {
        return Err("it joins batches one after another".to_owned());
    }
    let rows = |tensor: &Tensor| Some((tensor.axis, tensor.dims.as_ref()?.get(tensor.axis?)?.clone()));
    if inputs.iter().any(|tensor| rows(tensor) != rows(first)) {
        return Err("it joins rows to something that has not one part for each row".to_owned());
    }
    let parts: Option<u64> = inputs
        .iter()
        .map(|tensor| tensor.dims.as_ref()?.get(axis)?.number())
        .try_fold(0_u64, |sum, size| sum.checked_add(size?));
    let mut sizes = dims.clone();
    sizes[axis] = parts.map_or_else(|| call.symbols.fresh(), Size::fixed);
    one(Tensor::new(sizes, first.axis))
}

fn split(call: &mut Call<'_>) -> Derived {
    call.constants_from(1)?;
    let (tensor, count) = (call.input(0)?, call.node.outputs.len());
    let Some(dims) = &tensor.dims else { return Ok(vec![Tensor::constant(None); count]) };
    let axis = call.axis(0, dims.len())?;
    if tensor.axis == Some(axis) {
        return Err("it splits the batch".to_owned());
    }
    let given = match call.given(1) {
        Some(parts) => parts.values(),
        None => call.node.ints("split").map(<[i64]>::to_vec),
    };
    let whole = dims.get(axis).and_then(Size::number);
    let even = whole.filter(|whole| call.given(1).is_none() && whole.is_multiple_of(count.max(1) as u64));
    let parts = (0..count).map(|at| {
        let part = given.as_ref().and_then(|parts| u64::try_from(*parts.get(at)?).ok());
        let part = part.or_else(|| even.filter(|_| given.is_none()).map(|whole| whole / count as u64));
        let mut sizes = dims.clone();
        sizes[axis] = part.map_or_else(|| call.symbols.fresh(), Size::fixed);
        Tensor::new(sizes, tensor.axis)
    });
    Ok(parts.collect())
}

fn pad(call: &mut Call<'_>) -> Derived {
    call.constants_from(1)?;
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return one(Tensor::constant(None)) };
    let pads = match call.given(1) {
        Some(pads) => pads.values(),
        None => call.node.ints("pads").map(<[i64]>::to_vec),
    };
    let pads = pads.ok_or("its pads are not known before the run")?;
    let axes = match call.given(3) {
        Some(axes) => {
            let axes = axes.values().ok_or("its axes are not known before the run")?;
            axes.into_iter().map(|axis| axis_in(axis, dims.len())).collect::<Result<Vec<_>, _>>()?
        }
        None => (0..dims.len()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err("its pads are not two for each axis".to_owned());
    }
    let mut sizes = dims.clone();
    for (at, axis) in axes.iter().enumerate() {
        let (before, after) = (pads[at], pads[at + axes.len()]);
        if (before, after) == (0, 0) {
            continue;
        }
        if tensor.axis == Some(*axis) {
            return Err("it adds rows to the batch".to_owned());
        }
        let padded = sizes[*axis].number().and_then(|size| {
            let size = i64::try_from(size).ok()?.checked_add(before)?.checked_add(after)?;
            u64::try_from(size).ok().map(Size::fixed)
        });
        sizes[*axis] = padded.unwrap_or_else(|| call.symbols.fresh());
    }
    one(Tensor::new(sizes, tensor.axis))
}

fn top(call: &mut Call<'_>) -> Derived {
    call.constants_from(1)?;
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return Ok(vec![Tensor::constant(None); 2]) };
    let axis = call.axis(-1, dims.len())?;
    if tensor.axis == Some(axis) {
        return Err("it compares rows with each other".to_owned());
    }
    let count = match call.given(1) {
        Some(count) => count.values().and_then(|count| count.first().copied()),
        None => call.node.int("k"),
    };
    let mut sizes = dims.clone();
    sizes[axis] =
        count.and_then(|count| u64::try_from(count).ok()).map_or_else(|| call.symbols.fresh(), Size::fixed);
    let picked = Tensor::new(sizes, tensor.axis);
    Ok(vec![picked.clone(), picked])
}

fn one_hot(call: &mut Call<'_>) -> Derived {
    call.constants_from(1)?;
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return one(Tensor::constant(None)) };
    let axis = call.axis(-1, dims.len() + 1)?;
    let depth = call.given(1).and_then(Tensor::values).and_then(|depth| u64::try_from(*depth.first()?).ok());
    let mut sizes = dims.clone();
    sizes.insert(axis, depth.map_or_else(|| call.symbols.fresh(), Size::fixed));
    let rows = sizes.iter().position(|size| size.rows);
    one(Tensor::new(sizes, rows))
}

fn cumulate(call: &Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let Some(rank) = tensor.rank() else { return one(Tensor::constant(None)) };
    let axis = call.input(1)?.values().and_then(|axis| axis.first().copied());
    let axis = axis_in(axis.ok_or("its axis is not known before the run")?, rank)?;
    if tensor.axis == Some(axis) {
        return Err("it adds up rows".to_owned());
    }
    one(tensor.shaped())
}

/// One half of each matrix, which is made of the last two dimensions.
fn triangle(call: &Call<'_>) -> Derived {
    call.constants_from(1)?;
    let tensor = call.input(0)?;
    if tensor.axis.zip(tensor.rank()).is_some_and(|(rows, rank)| rows + 2 >= rank) {
        return Err("it keeps entries by their place in the batch".to_owned());
    }
    one(tensor.shaped())
}

fn compress(call: &mut Call<'_>) -> Derived {
    call.constants_from(1)?;
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else { return one(Tensor::constant(None)) };
    if !call.node.attributes.contains_key("axis") {
        return Err("it picks entries by their place in the batch".to_owned());
    }
    let axis = call.axis(0, dims.len())?;
    if tensor.axis == Some(axis) {
        return Err("it picks rows by their place in the batch".to_owned());
    }
    let mut sizes = dims.clone();
    sizes[axis] = call.symbols.fresh();
    one(Tensor::new(sizes, tensor.axis))
}

/// Words of each line of a table; a list of words would be one line.
fn weigh(call: &mut Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    match (tensor.axis, tensor.dims.as_deref()) {
        (Some(0), Some([rows, _])) => one(Tensor::new(vec![rows.clone(), call.symbols.fresh()], Some(0))),
        _ => Err("its input is not a table with a line for each row".to_owned()),
    }
}

/// Each row's entries up to its length in reverse.
fn reverse(call: &Call<'_>) -> Derived {
    let (tensor, lengths) = (call.input(0)?, call.input(1)?);
    let rank = tensor.rank().ok_or("the shape of its input is not known")?;
    let of = |name: &str, default: i64| axis_in(call.node.int(name).unwrap_or(default), rank);
    let (batch, time) = (of("batch_axis", 1)?, of("time_axis", 0)?);
    let size = |tensor: &Tensor, axis: usize| tensor.dims.as_ref().and_then(|dims| dims.get(axis).cloned());
    let fits = tensor.axis == Some(batch)
        && time != batch
        && lengths.axis == Some(0)
        && size(tensor, batch) == size(lengths, 0);
    if fits { one(tensor.shaped()) } else { Err("its batch is not that of its lengths".to_owned()) }
}
