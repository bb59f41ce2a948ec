//! What runs a version, in Triton's terms.

use crate::models::Described;
use crate::models::files::MODEL_FILE;

/// Names of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Platform {
    /// Format and runtime.
    pub(super) name: &'static str,
    /// Runtime; empty for an ensemble.
    pub(super) backend: &'static str,
    /// File of the model in the folder of a version; empty for an ensemble.
    pub(super) file: &'static str,
}

impl Platform {
    /// The platform of a version.
    pub(super) const fn of(described: &Described) -> Self {
        match described.ensemble {
            Some(_) => Self { name: "ensemble", backend: "", file: "" },
            None => Self { name: "onnxruntime_onnx", backend: "onnxruntime", file: MODEL_FILE },
        }
    }
}
