//! The graph of an ONNX model without its weights: its interface, and whether it answers row by row.
//!
//! [`read`] parses a file as a stream and skips weights, so a model of any size costs little memory. The
//! result is a [`Model`]: nodes with their attributes, small constants, inputs and outputs. Files come from
//! clients, so everything is bounded: nesting, sizes of fields, and the memory of the result. Field numbers
//! are those of <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>.
//!
//! [`Model::unsafe_to_load`] and [`Model::weights_in`] say why a runtime in C++ must not get the file: a
//! reader that trusts sizes, offsets and references of a file writes where they say.
//!
//! [`row_wise`] decides whether rows of different requests may share one run. [`zip_map`] replaces ZipMap
//! nodes, which make maps of class probabilities, so that the model answers with tensors.

mod calls;
mod crashes;
pub mod element;
mod external;
mod interface;
mod model;
mod payload;
mod read;
pub mod row_wise;
mod safety;
mod spec;
mod tensor;
mod values;
mod wire;
pub mod zip_map;

pub use interface::Interface;
pub use model::{Attribute, Function, Graph, Model, Node, OpsetVersions, Tensor};
pub use read::{read, read_file};
pub use spec::TensorSpec;
pub use values::{ValueInfo, ValueKind};

/// Why a file is not an ONNX model.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Its bytes are not those of a model.
    #[error("{0}")]
    Malformed(String),
    /// The source failed.
    #[error("{0}")]
    Read(#[from] std::io::Error),
}

pub(crate) fn malformed(why: impl Into<String>) -> Fault {
    Fault::Malformed(why.into())
}
