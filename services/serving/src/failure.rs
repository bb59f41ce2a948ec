//! Why a request was not answered, in the terms of the inference protocols over REST and gRPC, and of
//! Slipway's own routes.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use slipway_http_server::Problem;
use slipway_http_server::json::JsonError;
use slipway_http_server::text::shortened;
use slipway_inference::Error;

/// Seconds after which a client may try again.
const RETRY_AFTER_S: &str = "1";
/// The same where a version does not load: loading it is tried again, but less often.
const RETRY_AFTER_LOAD_FAILURE_S: &str = "10";
/// Longest message: names and values of a request are repeated in part, and gRPC's messages are headers,
/// which clients take up to 16 KiB of.
const MAX_MESSAGE_CHARS: usize = 1_000;
/// How much of the end of a longer message stays.
const MESSAGE_END_CHARS: usize = 400;
/// How a client says who it is (RFC 6750, section 3).
const CHALLENGE: &str = "Bearer realm=\"slipway-serving\"";

/// What kind of failure it is; decides the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong; sending it again will not help.
    Invalid,
    /// Understood, but not for clients to decide.
    Refused,
    /// It is not known who calls.
    Unauthenticated,
    /// Who calls may not do that.
    Forbidden,
    /// There is no such model or version.
    NotFound,
    /// The route exists, with other methods.
    MethodNotAllowed,
    /// The body is over the limit.
    TooLarge,
    /// The protocol has it, this server does not.
    Unsupported,
    /// Not now: still loading, or too much to do.
    Unavailable,
    /// The version that should answer does not load on this replica.
    LoadFailed,
    /// The model failed.
    Internal,
}

/// A failure with a message for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind.
    pub kind: Kind,
    /// What happened and, where it is known, what would be right.
    pub message: String,
}

impl Failure {
    /// A failure of any kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = shortened(message.into(), MAX_MESSAGE_CHARS, MESSAGE_END_CHARS);
        Self { kind, message }
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// HTTP status.
    pub const fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Invalid | Kind::Refused => StatusCode::BAD_REQUEST,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Kind::Unavailable | Kind::LoadFailed => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = failure.status();
        let (code, title) = match failure.kind {
            Kind::Invalid | Kind::Refused => ("invalid-request", "Invalid request"),
            Kind::Unauthenticated => ("unauthenticated", "Unauthenticated"),
            Kind::Forbidden => ("denied", "Forbidden"),
            Kind::NotFound => ("not-found", "Not found"),
            Kind::MethodNotAllowed => ("method-not-allowed", "Method not allowed"),
            Kind::TooLarge => ("body-too-large", "Request body too large"),
            Kind::Unsupported => ("not-implemented", "Not implemented"),
            Kind::Unavailable | Kind::LoadFailed => ("unavailable", "Service unavailable"),
            Kind::Internal => ("internal", "Internal server error"),
        };
        Self::new(status, code, title, failure.message)
    }
}

impl From<JsonError> for Failure {
    fn from(error: JsonError) -> Self {
        Self::invalid(match (&error.field, error.is_json) {
            (Some(_), _) => error.to_string(),
            (None, true) => format!("the request does not fit: {error}"),
            (None, false) => format!("the request's JSON does not parse: {error}"),
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::InvalidInput { .. } => Kind::Invalid,
            Error::Overloaded { .. } | Error::TimedOut { .. } | Error::Expired { .. } => Kind::Unavailable,
            Error::Runtime(_) | Error::Load(_) | Error::Library { .. } | Error::Untested { .. } => {
                Kind::Internal
            }
        };
        Self::new(kind, error.to_string())
    }
}

impl Failure {
    /// The response of Slipway's own routes: a problem document.
    pub(crate) fn into_problem_response(self) -> Response {
        let is_unauthenticated = self.kind == Kind::Unauthenticated;
        let mut response = Problem::from(self).into_response();
        if is_unauthenticated {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        response
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.message }).to_string();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.kind == Kind::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        let retry_after_s = match self.kind {
            Kind::Unavailable => Some(RETRY_AFTER_S),
            Kind::LoadFailed => Some(RETRY_AFTER_LOAD_FAILURE_S),
            _ => None,
        };
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}

impl From<Failure> for tonic::Status {
    fn from(failure: Failure) -> Self {
        let code = match failure.kind {
            Kind::Invalid => tonic::Code::InvalidArgument,
            Kind::Refused => tonic::Code::FailedPrecondition,
            Kind::Unauthenticated => tonic::Code::Unauthenticated,
            Kind::Forbidden => tonic::Code::PermissionDenied,
            Kind::NotFound => tonic::Code::NotFound,
            Kind::TooLarge => tonic::Code::ResourceExhausted,
            Kind::MethodNotAllowed | Kind::Unsupported => tonic::Code::Unimplemented,
            Kind::Unavailable | Kind::LoadFailed => tonic::Code::Unavailable,
            Kind::Internal => tonic::Code::Internal,
        };
        Self::new(code, failure.message)
    }
}
