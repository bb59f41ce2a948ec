//! ONNX Runtime as Slipway uses it: one environment a process, models with their signature, and threads that
//! run them.
//!
//! A [`Model`] owns one session, which many threads may run. A quick model is run by its callers; a slow one
//! by threads of its own, fed by one bounded queue, each of which takes all that waits as one batch. Dropping
//! the last handle of a model lets what is queued end and frees it.

mod audit;
mod batch;
mod budget;
mod checked;
mod datatype;
mod device_memory;
mod empty;
mod engine;
mod environment;
mod error;
mod joining;
mod memory;
mod model;
mod options;
mod profile;
mod queue;
mod raw;
mod request;
mod session;
mod signature;
mod tensor;
mod versions;

pub use audit::Difference;
pub use checked::Checked;
pub use device_memory::{DeviceMemory, DeviceReading, device_growth, device_readings, device_use_percent};
pub use empty::EmptyDimensions;
pub use environment::Environment;
pub use error::Error;
pub use joining::{AuditCounts, Joining};
pub use memory::{give_back, resident_bytes};
pub use model::Model;
pub use options::{Batching, Device, LoadOptions, cores};
pub use request::{Classes, DropCounts, Inference, Origin, Priority, Request};
pub use signature::{Signature, TensorSpec};
pub use slipway_domain::datatype::Datatype;
pub use tensor::{Data, Tensor};
pub use versions::TESTED;
