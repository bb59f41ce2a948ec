//! gRPC, for other services.

pub(crate) mod job_tokens;
pub(crate) mod registry;

use tonic::Status;

use crate::error::{Code, Error};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error.code {
            Code::InvalidParameterValue => Self::invalid_argument(error.message),
            Code::ResourceDoesNotExist | Code::EndpointNotFound => Self::not_found(error.message),
            Code::Unauthenticated => Self::unauthenticated(error.message),
            Code::PermissionDenied => Self::permission_denied(error.message),
            Code::ResourceAlreadyExists => Self::already_exists(error.message),
            Code::ResourceConflict => Self::failed_precondition(error.message),
            Code::TemporarilyUnavailable => Self::unavailable(error.message),
            Code::InternalError => Self::internal(error.message),
        }
    }
}
