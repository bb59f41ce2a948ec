//! gRPC, for other services.

pub(crate) mod imports;
pub(crate) mod job_tokens;
pub(crate) mod registry;

use tonic::Status;

use crate::error::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid { .. } | Error::Violation(_) => Self::invalid_argument(message),
            Error::NotFound(_) => Self::not_found(message),
            Error::Unauthenticated(_) => Self::unauthenticated(message),
            Error::Denied(_) => Self::permission_denied(message),
            Error::Exists(_) => Self::already_exists(message),
            Error::Conflict(_) => Self::failed_precondition(message),
            Error::Unavailable(_) => Self::unavailable(message),
            Error::Internal(_) => Self::internal(message),
        }
    }
}
