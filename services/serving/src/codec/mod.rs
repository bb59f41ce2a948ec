//! The REST form of Open Inference Protocol v2: JSON, the binary tensor extension, and compression. Pure:
//! bytes in, values out.

mod classification;
pub(crate) mod compression;
mod element;
mod lenient;
mod nesting;
mod parse;
mod request;
mod response;
mod rows;

pub(crate) use classification::{class_count, classified};
pub(crate) use element::{json_values, put_raw_values};
pub(crate) use request::{InferRequest, Inputs};
pub(crate) use request::{each_once, read_raw};
pub(crate) use response::{Encoded, InferResponse};
pub(crate) use response::{check_output, find_output, raw_of};
pub(crate) use rows::{parse_instances, predictions};

/// Length of the JSON part of a body whose rest is raw tensors.
pub(crate) const HEADER_LENGTH: &str = "inference-header-content-length";

#[cfg(test)]
mod tests;
