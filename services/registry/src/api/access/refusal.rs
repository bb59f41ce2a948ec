//! Why a request was not let through to its handler.

use crate::api::mlflow::error::Failure;
use crate::error::Error;

/// An error in front of a handler.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The caller is not known or not allowed, or Postgres is unreachable.
    Error(Error),
    /// A message of MLflow's API cannot be read.
    Message(Failure),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(error) => write!(formatter, "{error}"),
            Self::Message(_) => formatter.write_str("the message cannot be read"),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Message(failure)
    }
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}
