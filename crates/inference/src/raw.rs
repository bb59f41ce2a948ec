//! Bytes in and out of ONNX Runtime's buffers: the one place with unsafe code.
//!
//! The typed API of `ort` has no half precision without another crate, and would go over the elements one by one.

#![expect(unsafe_code, reason = "ONNX Runtime hands out untyped buffers; lengths are checked here")]

use ort::value::{DynTensor, DynTensorRef};

use crate::{Datatype, Error};

#[cfg(target_endian = "big")]
compile_error!("tensors travel little-endian and are copied as they are");

/// Copies little-endian elements into a tensor of ONNX Runtime. A BOOL must be 0 or 1, which the caller has checked.
pub(crate) fn fill(
    tensor: &mut DynTensor,
    datatype: Datatype,
    elements: usize,
    bytes: &[u8],
) -> Result<(), Error> {
    let needed = byte_length(datatype, elements)?;
    if needed != bytes.len() || !tensor.memory_info().is_cpu_accessible() {
        return Err(Error::Runtime(format!(
            "a buffer of {needed} bytes was to be filled with {}",
            bytes.len()
        )));
    }
    if needed == 0 {
        return Ok(());
    }
    // SAFETY: ONNX Runtime allocated `needed` bytes in this process's memory for this shape and type, the source has as many, and
    // the two do not overlap because the tensor is new.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), tensor.data_ptr_mut().cast::<u8>(), needed);
    }
    Ok(())
}

/// Copies the elements of a tensor of ONNX Runtime, little-endian.
pub(crate) fn copy_out(
    tensor: &DynTensorRef<'_>,
    datatype: Datatype,
    elements: usize,
) -> Result<Vec<u8>, Error> {
    let length = byte_length(datatype, elements)?;
    if !tensor.memory_info().is_cpu_accessible() {
        return Err(Error::Runtime("an output lies in memory that the processor cannot read".to_owned()));
    }
    let source = tensor.data_ptr().cast::<u8>();
    if length == 0 || source.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the tensor lives while it is borrowed, and its shape and type say that `length` bytes are there.
    Ok(unsafe { std::slice::from_raw_parts(source, length) }.to_vec())
}

fn byte_length(datatype: Datatype, elements: usize) -> Result<usize, Error> {
    datatype
        .element_bytes()
        .and_then(|each| each.checked_mul(elements))
        .ok_or_else(|| Error::Runtime(format!("{elements} elements of {datatype} have no fixed length")))
}
