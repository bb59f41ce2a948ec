//! Why a request failed.

use reqwest::StatusCode;
use serde_json::Value;
use slipway_telemetry::escape::one_line;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The service cannot be reached, or its response was interrupted.
    #[error("{0}")]
    Unreachable(String),
    /// The service rejected the request. The message may repeat what a user wrote, so it is shown on one
    /// line.
    #[error("{} ({status})", one_line(message))]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The service's explanation.
        message: String,
        /// Stable code of the problem document, e.g. `not-found`; see docs/errors.md.
        code: Option<String>,
        /// Field of the request that is invalid.
        field: Option<String>,
    },
    /// The request cannot be sent: the address is not a URL, or a name cannot be part of one.
    #[error("{0}")]
    Invalid(String),
    /// The response is not what the API documents.
    #[error("{0}")]
    Unexpected(String),
}

impl Error {
    /// Whether the token is missing, unknown, or not sufficient.
    pub fn is_about_access(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. })
    }

    /// Whether the same request may succeed later: the service is unreachable, overloaded, or not ready.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Invalid(_) | Self::Unexpected(_) => false,
        }
    }

    /// From the body of a refusal: a problem document, MLflow's shape, or the inference protocol's.
    pub(crate) fn refused(status: StatusCode, body: &Value) -> Self {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = ["detail", "message", "error"].iter().find_map(|name| text(name));
        let message =
            message.unwrap_or_else(|| "the service rejected the request without a reason".to_owned());
        Self::Refused { status, message, code: text("code"), field: text("field") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_keeps_the_words_of_the_service_on_one_line() {
        let problem = json!({"detail": "`name`: taken\nforged", "code": "conflict", "field": "name"});
        let error = Error::refused(StatusCode::CONFLICT, &problem);
        assert_eq!(error.to_string(), "`name`: taken\\nforged (409 Conflict)");
        assert!(!error.is_transient() && !error.is_about_access());
        let Error::Refused { code, field, .. } = error else { unreachable!() };
        assert_eq!((code.as_deref(), field.as_deref()), (Some("conflict"), Some("name")));
        let foreign = Error::refused(StatusCode::UNAUTHORIZED, &json!({"error": "no token"}));
        assert!(foreign.is_about_access() && foreign.to_string().starts_with("no token"));
        assert!(Error::refused(StatusCode::SERVICE_UNAVAILABLE, &Value::Null).is_transient());
    }
}
