//! REST: Open Inference Protocol v2 with Triton's extensions, KServe's v1, and labels.

mod body;
mod config;
mod control;
mod deployments;
mod described;
mod extract;
mod front;
mod infer;
mod labels;
mod memory;
mod models;
mod router;
mod v1;

pub(crate) use self::front::RestFront;
pub(crate) use self::router::router;
#[cfg(test)]
pub(crate) use self::router::routes;

/// A version of a model.
const VERSIONED: &str = "/v2/models/{name}/versions/{version}";
