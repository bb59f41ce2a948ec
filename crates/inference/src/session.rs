//! One ONNX Runtime session: tensors in, tensors out, on the caller's thread.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ort::memory::Allocator;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{DynTensor, DynTensorValueType, DynValue, ValueType};

use crate::tensor::shape_elements;
use crate::{Data, Datatype, Environment, Error, Signature, Tensor, raw};

/// A session and the signature of its model.
pub(crate) struct Session {
    inner: OrtSession,
    pub(crate) signature: Signature,
}

/// Outputs of one run, and where its time went.
pub(crate) struct Ran {
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) prepared: Duration,
    pub(crate) computed: Duration,
    pub(crate) collected: Duration,
}

impl Session {
    /// Reads and optimises a model, and warms it up.
    pub(crate) fn open(environment: &Environment, path: &Path, intra_threads: usize) -> Result<Self, Error> {
        // ort panics on types that it does not know, and a model comes from outside.
        let opened = catch_unwind(AssertUnwindSafe(|| commit(environment, path, intra_threads)));
        let inner = opened
            .map_err(|_panic| {
                Error::Load("ONNX Runtime does not know a type that the model uses".to_owned())
            })?
            .map_err(|error| {
                Error::Load(format!("ONNX Runtime refuses the model: {}", without_path(&error, path)))
            })?;
        let signature = Signature::of(&inner)?;
        let mut session = Self { inner, signature };
        let zeros = session.signature.zeros();
        // It makes the first request as fast as the second. Zeros need not be lawful inputs of every model, nor 1 a lawful size.
        if let Err(error) = session.run(&zeros) {
            tracing::info!(%error, "a model does not take zeros; its first request warms it up");
        }
        Ok(session)
    }

    /// Runs the model. The inputs have been checked against the signature.
    pub(crate) fn run(&mut self, inputs: &[Tensor]) -> Result<Ran, Error> {
        let begun = Instant::now();
        let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for tensor in inputs {
            values.push((Cow::Borrowed(tensor.name.as_str()), to_onnx(tensor)?));
        }
        let prepared = Instant::now();
        let values = self.inner.run(values).map_err(runtime)?;
        let computed = Instant::now();
        let outputs = values.iter().map(|(name, value)| from_onnx(name, &value)).collect::<Result<_, _>>()?;
        Ok(Ran {
            outputs,
            prepared: prepared - begun,
            computed: computed - prepared,
            collected: computed.elapsed(),
        })
    }
}

fn commit(environment: &Environment, path: &Path, intra_threads: usize) -> ort::Result<OrtSession> {
    OrtSession::builder(&environment.inner)?
        .with_intra_threads(intra_threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .commit_from_file(path)
}

fn to_onnx(tensor: &Tensor) -> Result<SessionInputValue<'static>, Error> {
    match &tensor.data {
        Data::Strings(strings) => {
            let value = ort::value::Tensor::from_string_array((tensor.shape.clone(), strings.as_slice()));
            Ok(value.map_err(runtime)?.into())
        }
        Data::Raw(bytes) => {
            let allocator = Allocator::default();
            let mut value = DynTensor::new(&allocator, tensor.datatype.to_onnx(), tensor.shape.as_slice())
                .map_err(runtime)?;
            raw::fill(&mut value, tensor.datatype, shape_elements(&tensor.shape).unwrap_or(0), bytes)?;
            Ok(value.into())
        }
    }
}

fn from_onnx(name: &str, value: &DynValue) -> Result<Tensor, Error> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(Error::Runtime(format!("output '{name}' is not a tensor")));
    };
    let datatype = Datatype::from_onnx(*ty)
        .ok_or_else(|| Error::Runtime(format!("output '{name}' has the unknown element type {ty}")))?;
    let shape = shape.to_vec();
    if datatype == Datatype::Bytes {
        let (_, strings) = value.try_extract_strings().map_err(runtime)?;
        return Ok(Tensor::strings(name, shape, strings));
    }
    let elements = shape_elements(&shape)
        .ok_or_else(|| Error::Runtime(format!("output '{name}' has the impossible shape {shape:?}")))?;
    let tensor = value.view().downcast::<DynTensorValueType>().map_err(runtime)?;
    let bytes = raw::copy_out(&tensor, datatype, elements)?;
    Ok(Tensor::raw(name, datatype, shape, Bytes::from(bytes)))
}

fn runtime(error: ort::Error) -> Error {
    Error::Runtime(error.message().to_owned())
}

/// The message without the file's place on this machine, which is nobody's business but ours.
fn without_path(error: &ort::Error, path: &Path) -> String {
    error.message().replace(&path.display().to_string(), "the model file")
}
