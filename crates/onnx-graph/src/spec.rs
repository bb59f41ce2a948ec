//! Inputs and outputs as the inference protocol sees them.

use slipway_domain::datatype::Datatype;

/// An input or output as a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the graph.
    pub name: String,
    /// Type of its elements.
    pub datatype: Datatype,
    /// -1 for a dimension that varies.
    pub shape: Vec<i64>,
    /// Names of the classes along the last dimension, where a ZipMap node says them.
    pub classes: Vec<String>,
}
