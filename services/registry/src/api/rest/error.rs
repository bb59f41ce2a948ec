//! Errors of REST v1: problem documents (RFC 9457).

use http::StatusCode;
use slipway_http_server::Problem;

use crate::error::Error;

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Invalid { field, message } => Self::invalid(field, message),
            Error::Violation(violation) => Self::invalid(violation.field, violation.broken.to_string()),
            Error::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail),
            Error::Unauthenticated(_) => {
                Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Unauthenticated", detail)
            }
            Error::Denied(_) => Self::new(StatusCode::FORBIDDEN, "denied", "Forbidden", detail),
            Error::Exists(_) | Error::Conflict(_) => Self::conflict(detail),
            Error::Unavailable(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service unavailable", detail)
            }
            // The cause is in the log already.
            Error::Internal(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal server error", detail)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use slipway_domain::registry::validate_version;

    use super::*;

    #[test]
    fn an_invalid_value_names_its_field() {
        let invalid = validate_version("newest").unwrap_err();
        let problem = Problem::from(Error::from(invalid));
        assert_eq!(serde_json::to_value(&problem).unwrap()["field"], "version");
        assert!(problem.detail().starts_with("`version`: "), "{}", problem.detail());
    }
}
