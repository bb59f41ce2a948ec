//! Model versions: from a source to a pinned, inspected version.

pub(crate) mod change;
pub(crate) mod create;
mod inspect;
mod mlmodel;
mod onnx;
pub(crate) mod profile;
pub(crate) mod read;
pub(crate) mod scan;
pub(crate) mod source;
mod tags;
pub(crate) mod upgrade;
