//! Errors as clients see them: RFC 9457 `application/problem+json` with a stable code.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::text::shortened;

/// Longest message over gRPC, where it is a header: clients take headers of 16 KiB or less.
const MAX_MESSAGE_CHARS: usize = 1_000;
/// Seconds after which a client may try again when something behind us is away.
const RETRY_AFTER_S: &str = "1";

/// What a client is told. The cause is logged once and never sent.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc9457>.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `/errors/<code>`: what docs/errors.md explains.
    #[serde(rename = "type")]
    kind: String,
    /// Same for every problem of the code.
    title: &'static str,
    /// HTTP status.
    status: u16,
    /// What happened this time, and what would help.
    detail: String,
    /// Stable, for programs.
    code: &'static str,
    /// Field of the request that is at fault, e.g. `steps[1].weight_percent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Joins the answer with traces and logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

impl Problem {
    /// A problem of one's own code.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let trace_id = slipway_telemetry::current_traceparent()
            .and_then(|traceparent| traceparent.split('-').nth(1).map(str::to_owned));
        Self {
            kind: format!("/errors/{code}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            code,
            field: None,
            trace_id,
        }
    }

    /// 400: a field is missing or wrong. `expected` says what would be right.
    pub fn invalid(field: impl Into<String>, expected: impl Into<String>) -> Self {
        let field = field.into();
        let detail = format!("`{field}`: {}", expected.into());
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "invalid-request", "Invalid request", detail);
        problem.field = Some(field);
        problem
    }

    /// 400: a value of the request is wrong, and it is not known which field has it.
    fn invalid_value(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-request", "Invalid request", detail)
    }

    /// 404: `what` names kind and id, e.g. ``job `7` ``.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", format!("there is no {what}"))
    }

    /// 409: the thing's state does not allow it.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 503 with `Retry-After`: something that the request needs is away.
    pub fn unavailable(what: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Service unavailable",
            format!("{what} does not answer; try again"),
        )
    }

    /// 500, with the cause in the log and not in the answer.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal server error",
            "the server failed on this request; its log has the cause under this trace id",
        )
    }

    /// HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Stable code.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// Field of the request that is at fault.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// What happened.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if slipway_service_kit::db::is_unavailable(&error) {
            tracing::warn!(%error, "Postgres is unreachable");
            return Self::unavailable("the database");
        }
        // What Postgres rejects because of a value, where no handler looked at the value first.
        match error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() {
            Some("22021" | "22P05") => Self::invalid_value(crate::json::NUL_REFUSED),
            Some("22003" | "22008") => Self::invalid_value("a number is out of range"),
            Some("54000") => Self::invalid_value("a name, key or id is too long to be indexed"),
            _ => Self::internal(format!("database: {error}")),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}

impl From<Problem> for tonic::Status {
    fn from(problem: Problem) -> Self {
        let code = match problem.status {
            400 | 413 | 415 | 422 => tonic::Code::InvalidArgument,
            401 => tonic::Code::Unauthenticated,
            403 => tonic::Code::PermissionDenied,
            404 => tonic::Code::NotFound,
            409 => tonic::Code::FailedPrecondition,
            429 => tonic::Code::ResourceExhausted,
            503 => tonic::Code::Unavailable,
            _ => tonic::Code::Internal,
        };
        Self::new(code, shortened(problem.detail, MAX_MESSAGE_CHARS, MAX_MESSAGE_CHARS / 2))
    }
}

impl From<tonic::Status> for Problem {
    /// An answer of another service, passed on: its message is meant for people.
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            tonic::Code::NotFound => {
                Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", status.message())
            }
            tonic::Code::InvalidArgument => Self::invalid_value(status.message()),
            tonic::Code::FailedPrecondition | tonic::Code::AlreadyExists => Self::conflict(status.message()),
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
                tracing::warn!(%status, "dependency unavailable");
                Self::unavailable("a service behind this one")
            }
            _ => Self::internal(status),
        }
    }
}
