//! gRPC: `inference.GRPCInferenceService`, as Triton's clients know it.

mod compression;
mod control;
mod convert;
mod front;
mod health;
mod methods;
mod service;
mod stream;
mod trace;
mod unary;

pub(crate) use self::compression::answer_as_asked;
#[cfg(any(test, fuzzing))]
pub(crate) use self::convert::inputs;
pub(crate) use self::front::{GrpcFront, Infer};
pub(crate) use self::health::HealthService;
pub(crate) use self::service::Service;
#[cfg(any(test, fuzzing))]
pub(crate) use self::unary::read as read_message;
