//! Convolutions and pools, which slide over the dimensions behind batch and channels, and resizing.

use super::call::{Call, Derived, axis_in, one};
use super::size::{Number, Size};
use super::value::Tensor;

pub(super) fn derive(call: &mut Call<'_>) -> Option<Derived> {
    Some(match call.node.operator.as_str() {
        "Conv" => convolved(call, 0, 1),
        "ConvTranspose" => transposed(call),
        "ConvInteger" => call.scalar(2).and_then(|()| convolved(call, 0, 1)),
        "QLinearConv" => (1..=2).try_for_each(|at| call.scalar(at)).and_then(|()| convolved(call, 0, 3)),
        "MaxPool" | "AveragePool" | "LpPool" => pool(call),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => global(call),
        "Resize" | "Upsample" => resize(call),
        "GridSample" => sample(call),
        _ => return None,
    })
}

/// The input, which has the batch first and something to slide over.
fn image<'call>(call: &Call<'call>, at: usize) -> Result<(&'call Tensor, Option<&'call [Size]>), String> {
    let tensor = call.input(at)?;
    if tensor.axis.is_some_and(|rows| rows != 0) || tensor.axis.is_some() && tensor.rank() < Some(3) {
        return Err("its batch is not the first of at least three dimensions".to_owned());
    }
    Ok((tensor, tensor.dims.as_deref()))
}

fn convolved(call: &mut Call<'_>, image_at: usize, kernel_at: usize) -> Derived {
    for at in (0..call.inputs.len()).filter(|at| *at != image_at) {
        call.constant(at)?;
    }
    let (tensor, dims) = image(call, image_at)?;
    let Some(dims) = dims else { return one(Tensor::constant(None)) };
    let kernel = call.input(kernel_at)?.dims.clone();
    let channels = kernel.as_ref().and_then(|kernel| kernel.first().cloned());
    let spans: Option<Vec<u64>> =
        kernel.map(|kernel| kernel.iter().skip(2).map(|size| size.number().unwrap_or(0)).collect());
    let mut sizes = vec![dims[0].clone(), channels.unwrap_or_else(|| call.symbols.fresh())];
    sizes.extend(slid(call, dims.get(2..).unwrap_or_default(), spans.as_deref().unwrap_or_default()));
    one(Tensor::new(sizes, tensor.axis))
}

fn transposed(call: &mut Call<'_>) -> Derived {
    call.constants_from(1)?;
    let (tensor, dims) = image(call, 0)?;
    let Some(dims) = dims else { return one(Tensor::constant(None)) };
    let mut sizes: Vec<Size> = dims.iter().map(|_| call.symbols.fresh()).collect();
    sizes[0] = dims[0].clone();
    one(Tensor::new(sizes, tensor.axis))
}

/// The second output of MaxPool is places in the whole batch, so it is none of a row's own.
fn pool(call: &mut Call<'_>) -> Derived {
    if call.node.outputs.iter().skip(1).any(|name| !name.is_empty()) {
        return Err("it returns places in the whole batch".to_owned());
    }
    let (tensor, dims) = image(call, 0)?;
    let Some(dims) = dims else { return one(Tensor::constant(None)) };
    let kernel = call.node.ints("kernel_shape").unwrap_or_default().to_vec();
    let spans: Vec<u64> = kernel.iter().map(|size| u64::try_from(*size).unwrap_or(0)).collect();
    let mut sizes = dims.get(..2).unwrap_or_default().to_vec();
    sizes.extend(slid(call, dims.get(2..).unwrap_or_default(), &spans));
    one(Tensor::new(sizes, tensor.axis))
}

/// Sizes of what a window slides over, where all that decides them is known.
fn slid(call: &mut Call<'_>, dims: &[Size], kernel: &[u64]) -> Vec<Size> {
    let sizes: Option<Vec<Size>> = (0..dims.len()).map(|at| slid_size(call, dims, kernel, at)).collect();
    sizes.unwrap_or_else(|| dims.iter().map(|_| call.symbols.fresh()).collect())
}

fn slid_size(call: &Call<'_>, dims: &[Size], kernel: &[u64], at: usize) -> Option<Size> {
    let of = |name: &str, at: usize, default: u64| match call.node.attributes.contains_key(name) {
        true => u64::try_from(*call.node.ints(name)?.get(at)?).ok(),
        false => Some(default),
    };
    let (size, span) = (dims.get(at)?.number()?, kernel.get(at).copied().filter(|span| *span > 0)?);
    let (stride, dilation) = (of("strides", at, 1)?.max(1), of("dilations", at, 1)?);
    let span = dilation.checked_mul(span - 1)?.checked_add(1)?;
    match call.node.text("auto_pad").unwrap_or("NOTSET") {
        "SAME_UPPER" | "SAME_LOWER" => return Some(Size::fixed(size.div_ceil(stride))),
        "NOTSET" => {}
        "VALID" => return Some(Size::fixed((size + 1).checked_sub(span)?.div_ceil(stride))),
        _ => return None,
    }
    let padded = size.checked_add(of("pads", at, 0)?)?.checked_add(of("pads", at + dims.len(), 0)?)?;
    let room = padded.checked_sub(span)?;
    if call.node.int("ceil_mode").unwrap_or(0) != 0 && !room.is_multiple_of(stride) {
        // Versions of the runtime differ here.
        return None;
    }
    Some(Size::fixed(room / stride + 1))
}

fn global(call: &Call<'_>) -> Derived {
    let (tensor, dims) = image(call, 0)?;
    let Some(dims) = dims else { return one(Tensor::constant(None)) };
    let pooled = |(at, size): (usize, &Size)| if at < 2 { size.clone() } else { Size::fixed(1) };
    one(Tensor::new(dims.iter().enumerate().map(pooled).collect(), tensor.axis))
}

/// The batch keeps its size: its scale is 1, or its size the number of rows.
fn resize(call: &mut Call<'_>) -> Derived {
    let tensor = call.input(0)?;
    let Some(dims) = &tensor.dims else {
        call.constants_from(1)?;
        return one(Tensor::constant(None));
    };
    let named =
        call.node.ints("axes").map(|axes| axes.iter().map(|axis| axis_in(*axis, dims.len())).collect());
    let named: Option<Vec<usize>> = named.transpose()?;
    // Upsample, and Resize in its first version, have no region of interest before the scales.
    let scales_at = if call.node.operator == "Upsample" || call.version < 11 { 1 } else { 2 };
    if scales_at == 2 {
        call.constant(1)?;
    }
    if call.inputs.iter().flatten().skip(1).any(|input| input.axis.is_some()) {
        return Err("its sizes differ from row to row".to_owned());
    }
    if call.node.text("keep_aspect_ratio_policy").is_some_and(|policy| policy != "stretch") {
        return Err("its scales depend on the number of rows".to_owned());
    }
    let place = |axis: usize| match &named {
        Some(axes) => axes.iter().position(|named| *named == axis),
        None => Some(axis),
    };
    if let Some(place) = tensor.axis.and_then(place) {
        let floats = call.given(scales_at).and_then(|scales| scales.floats.as_deref());
        let scale = match floats {
            Some(scales) => scales.get(place).copied(),
            None => call.node.attributes.get("scales").and_then(|scales| scales.floats.get(place)).copied(),
        };
        let numbers = call.given(3).filter(|_| scales_at == 2).and_then(|sizes| sizes.numbers.as_deref());
        let size = numbers.and_then(|sizes| sizes.get(place));
        let rows = tensor.axis.and_then(|rows| dims.get(rows)).cloned().map(Number::Size);
        let kept = match size {
            Some(size) => Some(size) == rows.as_ref(),
            None => scale.is_some_and(|scale| scale.to_bits() == 1.0_f32.to_bits()),
        };
        if !kept {
            return Err("it changes the number of rows, or may".to_owned());
        }
    }
    let resized = |at: usize, symbols: &mut super::call::Symbols| {
        if tensor.axis == Some(at) || place(at).is_none() { dims[at].clone() } else { symbols.fresh() }
    };
    let sizes = (0..dims.len()).map(|at| resized(at, call.symbols)).collect();
    one(Tensor::new(sizes, tensor.axis))
}

/// Samples of each image at the places of its own grid.
fn sample(call: &mut Call<'_>) -> Derived {
    let ((tensor, dims), grid) = (image(call, 0)?, call.input(1)?);
    let (Some(dims), Some(places)) = (dims, &grid.dims) else {
        return Err("the shape of its image or grid is not known".to_owned());
    };
    if tensor.axis != grid.axis || dims.first() != places.first() {
        return Err("its grid is not one for each row".to_owned());
    }
    let mut sizes = dims.get(..2).unwrap_or_default().to_vec();
    sizes.extend_from_slice(places.get(1..places.len().saturating_sub(1)).unwrap_or_default());
    one(Tensor::new(sizes, tensor.axis))
}
