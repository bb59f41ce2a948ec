//! Why a version did not answer: the client's error, and the counters.

use slipway_inference::Error;

use crate::failure::{Failure, Kind};
use crate::metrics::Outcome;

/// A request that a version did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missed {
    /// How it is counted.
    pub(crate) outcome: Outcome,
    /// Message for the client.
    pub(crate) failure: Failure,
}

impl Missed {
    /// The model of an ensemble's step is not there: that is not the client's fault, and may pass.
    pub(crate) fn of_a_step(failure: Failure) -> Self {
        Self { outcome: Outcome::Failure, failure: Failure { kind: Kind::Unavailable, ..failure } }
    }
}

impl From<Error> for Missed {
    fn from(error: Error) -> Self {
        let outcome = match &error {
            Error::InvalidInput { .. } => Outcome::Rejected,
            Error::Overloaded { .. } => Outcome::Overloaded,
            Error::Expired { .. } => Outcome::Expired,
            _ => Outcome::Failure,
        };
        Self { outcome, failure: error.into() }
    }
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Self {
        let outcome = match failure.kind {
            Kind::Unavailable => Outcome::Overloaded,
            Kind::Internal | Kind::LoadFailed => Outcome::Failure,
            _ => Outcome::Rejected,
        };
        Self { outcome, failure }
    }
}

impl std::fmt::Display for Missed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.failure.fmt(formatter)
    }
}
