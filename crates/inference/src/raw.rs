//! ONNX Runtime's C interface, as far as a run needs it: the one place with unsafe code.
//!
//! `ort` runs a session for one caller at a time and copies every tensor on its way. The library itself lets
//! any number of threads run one session (`OrtApi::Run`), reads inputs where they lie, and knows types that
//! `ort` has no Rust type for.

#![expect(unsafe_code, reason = "ONNX Runtime's interface is C; lengths and lifetimes are checked here")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ort::sys::{
    OrtAllocatorType, OrtApi, OrtApiBase, OrtMemType, OrtMemoryInfo, OrtRunOptions, OrtStatusPtr,
    OrtTensorTypeAndShapeInfo, OrtValue,
};
use ort::{AsPointer as _, session::Session};
use slipway_onnx_graph::element;

use crate::tensor::shape_elements;
use crate::{Data, Datatype, Error, Tensor, datatype};

#[cfg(target_endian = "big")]
compile_error!("tensors travel little-endian and are used as they are");

/// Gives memory of the arena back at the end of a run (onnxruntime_run_options_config_keys.h).
const SHRINK_KEY: &CStr = c"memory.enable_memory_arena_shrinkage";

/// A session that any number of threads may run.
pub(crate) struct Runner {
    session: Session,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
    memory: *mut OrtMemoryInfo,
    shrinking: *mut OrtRunOptions,
}

// SAFETY: ONNX Runtime documents `Run` as safe to call from many threads at once on one session; the other
// two pointers are only read after they were made.
unsafe impl Send for Runner {}
// SAFETY: as above.
unsafe impl Sync for Runner {}

/// Outputs of one run, and where its time went.
pub(crate) struct Ran {
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) prepared: Duration,
    pub(crate) computed: Duration,
    pub(crate) collected: Duration,
}

/// A value of ONNX Runtime; released when dropped.
struct Value(*mut OrtValue);

impl Drop for Value {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it was made by the library and has no other owner.
            unsafe { (api().ReleaseValue)(self.0) }
        }
    }
}

/// The library in memory, which is unloaded when this is dropped and nothing else has loaded it.
pub(crate) struct Library {
    _handle: libloading::Library,
    /// Its version, e.g. `1.23.2`.
    pub(crate) version: String,
}

impl Library {
    /// Loads a library, and asks it for its version and nothing else.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        // SAFETY: the operator who names the file answers for what it runs when it is loaded. The function is
        // exported by every version under this name, gives a structure that lives as long as the library, and
        // the version is a text that does, too.
        unsafe {
            let handle = libloading::Library::new(path).map_err(|error| error.to_string())?;
            let base = handle.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase").map_err(
                |_missing| "it does not export OrtGetApiBase, so it is not ONNX Runtime".to_owned(),
            )?;
            let base = base();
            if base.is_null() {
                return Err("OrtGetApiBase returns nothing".to_owned());
            }
            let version = ((*base).GetVersionString)();
            if version.is_null() {
                return Err("it has no version".to_owned());
            }
            let version = CStr::from_ptr(version).to_string_lossy().into_owned();
            Ok(Self { _handle: handle, version })
        }
    }
}

/// Gives memory that the allocator keeps for later back to the system, where the allocator can.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            // malloc_trim(3).
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: it may be called at any time and from any thread, and frees nothing that is in use.
        let _ = unsafe { malloc_trim(0) };
    }
}

fn api() -> &'static OrtApi {
    ort::api()
}

/// Takes a status: the error's text, where it is one.
fn check(status: OrtStatusPtr) -> Result<(), Error> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: a status that is not null has a message that lives as long as the status, which is released
    // right after.
    let message = unsafe {
        let message = CStr::from_ptr((api().GetErrorMessage)(status.0)).to_string_lossy().into_owned();
        (api().ReleaseStatus)(status.0);
        message
    };
    Err(Error::Runtime(message))
}

impl Runner {
    /// Makes a session ready to be run. `device` names its arena for the shrinking, e.g. `cpu:0`.
    pub(crate) fn new(session: Session, device: &CStr) -> Result<Self, Error> {
        let name =
            |name: &str| CString::new(name).map_err(|_nul| Error::Load("a name with a NUL".to_owned()));
        let inputs = session.inputs().iter().map(|outlet| name(outlet.name())).collect::<Result<_, _>>()?;
        let outputs = session.outputs().iter().map(|outlet| name(outlet.name())).collect::<Result<_, _>>()?;
        let mut runner =
            Self { session, inputs, outputs, memory: ptr::null_mut(), shrinking: ptr::null_mut() };
        // SAFETY: the library writes a pointer each, which `drop` releases.
        unsafe {
            check((api().CreateCpuMemoryInfo)(
                OrtAllocatorType::OrtArenaAllocator,
                OrtMemType::OrtMemTypeDefault,
                &raw mut runner.memory,
            ))?;
            check((api().CreateRunOptions)(&raw mut runner.shrinking))?;
            check((api().AddRunConfigEntry)(runner.shrinking, SHRINK_KEY.as_ptr(), device.as_ptr()))?;
        }
        Ok(runner)
    }

    /// The session's inputs and outputs.
    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    /// Runs the model on this thread. The inputs have been checked against the signature and are in its
    /// order; behind them stand the optional ones that are given, in any order.
    pub(crate) fn run(&self, inputs: &[&Tensor], shrink: bool) -> Result<Ran, Error> {
        let begun = Instant::now();
        let Some(optional) = inputs.get(self.inputs.len()..) else {
            return Err(Error::Runtime(format!("{} inputs for {}", inputs.len(), self.inputs.len())));
        };
        let optional: Vec<CString> = optional
            .iter()
            .map(|tensor| CString::new(tensor.name.as_str()))
            .collect::<Result<_, _>>()
            .map_err(|_nul| Error::Runtime("a name with a NUL".to_owned()))?;
        let mut kept = Vec::new();
        let values: Vec<Value> =
            inputs.iter().map(|tensor| self.value_of(tensor, &mut kept)).collect::<Result<_, _>>()?;
        let given: Vec<*const OrtValue> = values.iter().map(|value| value.0.cast_const()).collect();
        let input_names: Vec<*const c_char> =
            self.inputs.iter().chain(&optional).map(|name| name.as_ptr()).collect();
        let output_names: Vec<*const c_char> = self.outputs.iter().map(|name| name.as_ptr()).collect();
        let mut answered: Vec<*mut OrtValue> = vec![ptr::null_mut(); self.outputs.len()];
        let options = if shrink { self.shrinking.cast_const() } else { ptr::null() };
        let prepared = Instant::now();
        // SAFETY: each array is as long as is said, the names end in NUL, and the values outlive the call.
        let status = unsafe {
            (api().Run)(
                self.session.ptr().cast_mut(),
                options,
                input_names.as_ptr(),
                given.as_ptr(),
                given.len(),
                output_names.as_ptr(),
                output_names.len(),
                answered.as_mut_ptr(),
            )
        };
        let computed = Instant::now();
        let answered: Vec<Value> = answered.into_iter().map(Value).collect();
        check(status)?;
        let named = answered.iter().zip(self.session.outputs());
        let outputs =
            named.map(|(value, outlet)| tensor_of(outlet.name(), value)).collect::<Result<_, _>>()?;
        Ok(Ran {
            outputs,
            prepared: prepared - begun,
            computed: computed - prepared,
            collected: computed.elapsed(),
        })
    }

    /// A value over the tensor's own memory, or over a copy that is `kept`, where that does not lie as the
    /// type needs it.
    fn value_of(&self, tensor: &Tensor, kept: &mut Vec<Vec<u64>>) -> Result<Value, Error> {
        let mut value = Value(ptr::null_mut());
        let bytes = match &tensor.data {
            Data::Raw(bytes) => bytes,
            data @ (Data::Strings(_) | Data::Octets(_)) => return strings_value(tensor, data),
        };
        let each = tensor.datatype.element_bytes().unwrap_or(1);
        let needed = shape_elements(&tensor.shape).and_then(|elements| elements.checked_mul(each));
        if needed != Some(bytes.len()) {
            return Err(Error::Runtime(format!(
                "{} bytes for the shape {:?} of {}",
                bytes.len(),
                tensor.shape,
                tensor.datatype
            )));
        }
        let mut source = bytes.as_ptr();
        if !source.addr().is_multiple_of(each) || bytes.is_empty() {
            let mut aligned = vec![0_u64; bytes.len().div_ceil(8).max(1)];
            // SAFETY: the copy has at least as many bytes, and is new.
            unsafe { ptr::copy_nonoverlapping(source, aligned.as_mut_ptr().cast::<u8>(), bytes.len()) }
            source = aligned.as_ptr().cast();
            kept.push(aligned);
        }
        // SAFETY: the memory has as many bytes as are said, outlives the value (`run` holds both), and is not
        // written: graph inputs are never reused for other values.
        unsafe {
            check((api().CreateTensorWithDataAsOrtValue)(
                self.memory,
                source.cast_mut().cast::<c_void>(),
                bytes.len(),
                tensor.shape.as_ptr(),
                tensor.shape.len(),
                datatype::to_onnx(tensor.datatype).into(),
                &raw mut value.0,
            ))?;
        }
        Ok(value)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // SAFETY: both were made by the library and have no other owner; null is not released.
        unsafe {
            if !self.memory.is_null() {
                (api().ReleaseMemoryInfo)(self.memory);
            }
            if !self.shrinking.is_null() {
                (api().ReleaseRunOptions)(self.shrinking);
            }
        }
    }
}

fn strings_value(tensor: &Tensor, data: &Data) -> Result<Value, Error> {
    if shape_elements(&tensor.shape) != Some(tensor.elements()) {
        return Err(Error::Runtime(format!(
            "{} strings for the shape {:?}",
            tensor.elements(),
            tensor.shape
        )));
    }
    let texts: Vec<CString> = data
        .octets()
        .map(|element| CString::new(element).map_err(|_nul| Error::Runtime("a string with NUL".to_owned())))
        .collect::<Result<_, _>>()?;
    let pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
    let mut value = Value(ptr::null_mut());
    let mut allocator = ptr::null_mut();
    // SAFETY: the default allocator lives as long as the library; there are as many texts as the shape has
    // elements.
    unsafe {
        check((api().GetAllocatorWithDefaultOptions)(&raw mut allocator))?;
        check((api().CreateTensorAsOrtValue)(
            allocator,
            tensor.shape.as_ptr(),
            tensor.shape.len(),
            datatype::to_onnx(Datatype::Bytes).into(),
            &raw mut value.0,
        ))?;
        if !pointers.is_empty() {
            check((api().FillStringTensor)(value.0, pointers.as_ptr(), pointers.len()))?;
        }
    }
    Ok(value)
}

/// Type and shape of a value.
fn described(name: &str, value: &Value) -> Result<(Datatype, Vec<i64>), Error> {
    if value.0.is_null() {
        return Err(Error::Runtime(format!("output '{name}' is missing")));
    }
    let mut info: *mut OrtTensorTypeAndShapeInfo = ptr::null_mut();
    // The library may know types that its bindings do not, so the number is read as a number.
    let mut kind = 0_i32;
    let mut shape = Vec::new();
    // SAFETY: the value is a tensor, which the signature was checked for; the library writes as many
    // dimensions as it said that there are.
    let read = unsafe {
        check((api().GetTensorTypeAndShape)(value.0, &raw mut info))?;
        let read = check((api().GetTensorElementType)(info, (&raw mut kind).cast())).and_then(|()| {
            let mut rank = 0;
            check((api().GetDimensionsCount)(info, &raw mut rank))?;
            shape.resize(rank, 0);
            check((api().GetDimensions)(info, shape.as_mut_ptr(), rank))
        });
        (api().ReleaseTensorTypeAndShapeInfo)(info);
        read
    };
    read?;
    let datatype = element::datatype(kind)
        .ok_or_else(|| Error::Runtime(format!("output '{name}' has the unknown element type {kind}")))?;
    Ok((datatype, shape))
}

fn tensor_of(name: &str, value: &Value) -> Result<Tensor, Error> {
    let (datatype, shape) = described(name, value)?;
    let elements = shape_elements(&shape)
        .ok_or_else(|| Error::Runtime(format!("output '{name}' has the impossible shape {shape:?}")))?;
    let Some(each) = datatype.element_bytes() else {
        let data = Data::of_octets(strings_of(value, elements)?);
        return Ok(Tensor { name: name.to_owned(), datatype, shape, data });
    };
    let mut data: *mut c_void = ptr::null_mut();
    let length = each
        .checked_mul(elements)
        .ok_or_else(|| Error::Runtime(format!("output '{name}' has the impossible shape {shape:?}")))?;
    // SAFETY: outputs lie in the processor's memory unless a binding says otherwise, and none does; type and
    // shape say how many bytes there are, and the value lives until they are copied.
    let bytes = unsafe {
        check((api().GetTensorMutableData)(value.0, &raw mut data))?;
        if length == 0 || data.is_null() {
            Bytes::new()
        } else {
            Bytes::copy_from_slice(std::slice::from_raw_parts(data.cast::<u8>(), length))
        }
    };
    Ok(Tensor::raw(name, datatype, shape, bytes))
}

fn strings_of(value: &Value, elements: usize) -> Result<Vec<Bytes>, Error> {
    if elements == 0 {
        return Ok(Vec::new());
    }
    let mut length = 0;
    let mut offsets = vec![0_usize; elements];
    let mut text = Vec::new();
    // SAFETY: the library writes as many bytes and offsets as it is told that there is room for.
    unsafe {
        check((api().GetStringTensorDataLength)(value.0, &raw mut length))?;
        text.resize(length, 0_u8);
        check((api().GetStringTensorContent)(
            value.0,
            text.as_mut_ptr().cast(),
            length,
            offsets.as_mut_ptr(),
            elements,
        ))?;
    }
    let ends = offsets.iter().skip(1).copied().chain([length]);
    let text = Bytes::from(text);
    let element = |(start, end): (&usize, usize)| {
        let is_within = *start <= end && end <= text.len();
        if is_within { text.slice(*start..end) } else { Bytes::new() }
    };
    Ok(offsets.iter().zip(ends).map(element).collect())
}
