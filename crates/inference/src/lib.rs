//! ONNX Runtime as Slipway uses it: one environment a process, models with their signature, and threads that run them.
//!
//! A [`Model`] owns one session an instance, each on a thread of its own, fed by one bounded queue; callers await the answer
//! and never run the model on the async runtime. Dropping the last handle of a model lets what is queued end and frees it.

mod datatype;
mod environment;
mod error;
mod model;
mod queue;
mod raw;
mod session;
mod signature;
mod tensor;

pub use datatype::Datatype;
pub use environment::Environment;
pub use error::Error;
pub use model::{Inference, LoadOptions, Model};
pub use signature::{Signature, TensorSpec};
pub use tensor::{Data, Tensor};
