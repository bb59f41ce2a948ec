//! What can go wrong, in MLflow's shape: `{"error_code", "message"}`. REST v1 and gRPC translate it.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use slipway_domain::Invalid;
use slipway_domain::registry::filter::ParseError;
use slipway_service_kit::Problem;
use slipway_service_kit::db::is_unavailable;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// Seconds after which a client may try again when Postgres or S3 is away.
const RETRY_AFTER_S: &str = "1";

/// How MLflow ends its messages about parameters that it judges before it looks further.
pub(crate) const SEE_DOCS: &str = "See the API docs for more information about request parameters.";

/// MLflow's error codes, as far as this service answers with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// 400.
    InvalidParameterValue,
    /// 400, not 409: clients look for the code.
    ResourceAlreadyExists,
    /// 401.
    Unauthenticated,
    /// 403.
    PermissionDenied,
    /// 404.
    ResourceDoesNotExist,
    /// 404.
    EndpointNotFound,
    /// 409.
    ResourceConflict,
    /// 503 with `Retry-After`.
    TemporarilyUnavailable,
    /// 500.
    InternalError,
}

impl Code {
    /// Name on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::InvalidParameterValue => "INVALID_PARAMETER_VALUE",
            Self::ResourceAlreadyExists => "RESOURCE_ALREADY_EXISTS",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceDoesNotExist => "RESOURCE_DOES_NOT_EXIST",
            Self::EndpointNotFound => "ENDPOINT_NOT_FOUND",
            Self::ResourceConflict => "RESOURCE_CONFLICT",
            Self::TemporarilyUnavailable => "TEMPORARILY_UNAVAILABLE",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidParameterValue | Self::ResourceAlreadyExists => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceDoesNotExist | Self::EndpointNotFound => StatusCode::NOT_FOUND,
            Self::ResourceConflict => StatusCode::CONFLICT,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error as the client sees it. The cause was logged where the error was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    /// Stable, for programs.
    pub(crate) code: Code,
    /// What happened, for people.
    pub(crate) message: String,
}

impl Error {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A value that breaks a rule.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameterValue, message)
    }

    /// A parameter that is not there.
    pub(crate) fn missing(parameter: &str) -> Self {
        Self::invalid(format!("Missing value for required parameter '{parameter}'. {SEE_DOCS}"))
    }

    /// A name that is taken.
    pub(crate) fn exists(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceAlreadyExists, message)
    }

    /// A caller that did not prove who it is.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }

    /// Something that a policy forbids, or a role that is missing.
    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// Something that is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceDoesNotExist, message)
    }

    /// A route that is not served.
    pub(crate) fn no_endpoint(method: &http::Method, path: &str) -> Self {
        let family = path.split_once("/mlflow/").map_or(path, |(_, rest)| rest);
        let family = family.split('/').next().unwrap_or_default().replace('-', " ");
        Self::new(
            Code::EndpointNotFound,
            format!(
                "Slipway does not serve MLflow's API for {family} ({method} {path}); docs/api.md lists what it serves"
            ),
        )
    }

    /// Prompts are registered models with a tag, so no route of their own says that they are not served.
    pub(crate) fn no_prompts() -> Self {
        Self::new(
            Code::EndpointNotFound,
            "Slipway does not serve MLflow's prompt registry, so no prompt was registered; docs/api.md lists what it serves",
        )
    }

    /// A change that something else forbids.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceConflict, message)
    }

    /// Something behind this service is away.
    pub(crate) fn unavailable(what: &str) -> Self {
        Self::new(Code::TemporarilyUnavailable, format!("{what} does not answer; try again"))
    }

    /// Nothing may be deleted: which versions are in use is not known yet.
    pub(crate) fn deployments_unknown() -> Self {
        Self::new(
            Code::TemporarilyUnavailable,
            "which versions deployments serve is not known yet, since NATS was not reached since the start of the \
             registry; try again later, or force the deletion as an administrator (force=true)",
        )
    }

    /// A file whose bytes are others than those that were stored.
    pub(crate) fn damaged(path: &str) -> Self {
        Self::new(
            Code::InternalError,
            format!(
                "The bytes of the artifact '{path}' in the artifact store are damaged; restore its bucket from a backup, or log the \
                 file again"
            ),
        )
    }

    /// A defect of ours; the cause goes to the log alone.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(Code::InternalError, "the server failed on this request; its log has the cause")
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(invalid.message)
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::invalid(format!("{} (at position {})", error.message, error.at))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) {
            tracing::warn!(%error, "Postgres is away");
            return Self::unavailable("the database");
        }
        let Some(database) = error.as_database_error() else {
            return Self::internal(format!("database: {error}"));
        };
        refused_by_postgres(database).unwrap_or_else(|| Self::internal(format!("database: {error}")))
    }
}

/// What Postgres rejects because of a value of the request. Handlers check values first and name the field; this is the net below
/// them, so that a value or a race that no handler foresaw is answered with 4xx. Codes:
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn refused_by_postgres(error: &dyn DatabaseError) -> Option<Error> {
    let code = error.code()?;
    Some(match &*code {
        // character_not_in_repertoire, untranslatable_character: a NUL character, which Postgres cannot store.
        "22021" | "22P05" => {
            Error::invalid("Invalid value: text must not contain the NUL character (U+0000)")
        }
        // numeric_value_out_of_range, datetime_field_overflow.
        "22003" | "22008" => Error::invalid("Invalid value: a number is out of range"),
        "23503" => {
            let (field, thing) = referenced(error.constraint().unwrap_or_default());
            Error::not_found(format!("Invalid value for parameter '{field}': there is no such {thing}"))
        }
        "23505" => {
            let thing = error.table().unwrap_or("row").trim_end_matches('s').replace('_', " ");
            let detail = error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::detail);
            Error::conflict(match detail.and_then(duplicate_key) {
                Some(key) => format!(
                    "there is a {thing} with {key} already; another request created it at the same time"
                ),
                None => format!("another request created the same {thing} at the same time; read it again"),
            })
        }
        "23514" => Error::invalid(format!(
            "Invalid value: it does not satisfy the constraint {}",
            error.constraint().unwrap_or_default()
        )),
        "22001" => Error::invalid("Invalid value: a text is too long"),
        // program_limit_exceeded: a row that does not fit its index, which is a key or a name of thousands of characters.
        "54000" => Error::invalid("Invalid value: a name, key or id is too long to be indexed"),
        _ => return None,
    })
}

/// Columns that clients know under another name, or not at all.
const COLUMN_NAMES: [(&str, &str); 5] =
    [("model_key", ""), ("run_key", ""), ("dataset_key", ""), ("webhook_key", ""), ("one", "")];

/// Fields and values of a violated unique key, e.g. `name 'churn'`, from Postgres' detail `Key (name)=(churn) already exists.`; the text
/// around the parentheses is in the language of the server.
fn duplicate_key(detail: &str) -> Option<String> {
    let (columns, rest) = detail.split_once('(')?.1.split_once(")=(")?;
    let values = &rest[..rest.rfind(')')?];
    let columns: Vec<&str> = columns.split(", ").collect();
    // A value may hold the separator itself: then all of them are shown as they are.
    let values: Vec<&str> = if columns.len() == 1 { vec![values] } else { values.split(", ").collect() };
    if columns.len() != values.len() {
        return Some(format!("{} '{}'", columns.join(", "), values.join(", ")));
    }
    let named = columns.iter().zip(values).filter_map(|(column, value)| {
        let name = COLUMN_NAMES.iter().find(|(known, _)| known == column).map_or(*column, |(_, name)| name);
        (!name.is_empty()).then(|| format!("{name} '{value}'"))
    });
    Some(named.collect::<Vec<_>>().join(" and ")).filter(|text| !text.is_empty())
}

/// The request's field behind a foreign key, and what it refers to. Postgres names a foreign key `<table>_<columns>_fkey`.
fn referenced(constraint: &str) -> (&'static str, &'static str) {
    const BY_COLUMN: [(&str, &str, &str); 6] = [
        ("model_key_version", "version", "model version"),
        ("model_key", "name", "registered model"),
        ("model_id", "model_id", "logged model"),
        ("experiment_id", "experiment_id", "experiment"),
        ("run_key", "run_id", "run"),
        ("dataset_key", "datasets", "dataset"),
    ];
    let found = BY_COLUMN.iter().find(|(column, _, _)| constraint.contains(column));
    found.map_or(("request", "referenced entity"), |(_, field, thing)| (field, thing))
}

impl From<slipway_event_bus::Error> for Error {
    fn from(error: slipway_event_bus::Error) -> Self {
        match error {
            slipway_event_bus::Error::Database(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

/// What reading the bytes of an artifact came to. A row whose bytes are gone is no defect of the request and no reason to try again: the
/// answer names the file.
pub(crate) fn of_file(path: &str, error: slipway_artifact_store::Error) -> Error {
    use slipway_artifact_store::Error as Store;
    match error {
        Store::NotFound { key } => {
            tracing::error!(path, key, "the bytes of an artifact are missing from the artifact store");
            Error::not_found(format!(
                "The bytes of the artifact '{path}' are missing from the artifact store; restore its bucket from a backup, or log \
                 the file again"
            ))
        }
        Store::Digest { key, expected, actual } => {
            tracing::error!(path, key, expected, actual, "the bytes of an artifact are damaged");
            Error::damaged(path)
        }
        other => other.into(),
    }
}

impl From<slipway_artifact_store::Error> for Error {
    fn from(error: slipway_artifact_store::Error) -> Self {
        use slipway_artifact_store::Error as Store;
        match error {
            Store::Source(reason) => Self::invalid(format!("the upload broke off: {reason}")),
            Store::TooLarge { .. } => Self::invalid(error.to_string()),
            Store::NotFound { key } => {
                tracing::error!(key, "an object is missing from the artifact store");
                Self::not_found(format!("The object '{key}' is missing from the artifact store"))
            }
            error if error.is_transient() => {
                tracing::warn!(%error, "the artifact store is away");
                Self::unavailable("the artifact store")
            }
            error => Self::internal(error),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = axum::Json(json!({"error_code": self.code.name(), "message": self.message}));
        let mut response = (self.code.status(), body).into_response();
        if self.code == Code::TemporarilyUnavailable {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error.code {
            Code::InvalidParameterValue => Self::invalid("request", error.message),
            Code::ResourceDoesNotExist | Code::EndpointNotFound => {
                Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", error.message)
            }
            Code::Unauthenticated => Self::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "The caller is not known",
                error.message,
            ),
            Code::PermissionDenied => {
                Self::new(StatusCode::FORBIDDEN, "denied", "It is not allowed", error.message)
            }
            Code::ResourceAlreadyExists | Code::ResourceConflict => Self::conflict(error.message),
            Code::TemporarilyUnavailable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Something that this request needs is away",
                error.message,
            ),
            // The cause is in the log already.
            Code::InternalError => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "An error of the server",
                error.message,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_names_field_and_value() {
        for (detail, key) in [
            ("Key (name)=(churn) already exists.", Some("name 'churn'")),
            ("Key (name)=(a (b)) already exists.", Some("name 'a (b)'")),
            ("Key (model_key, version)=(7, 3) already exists.", Some("version '3'")),
            ("Schlüssel »(run_id)=(r1)« existiert bereits.", Some("run_id 'r1'")),
            (
                "Key (experiment_id, name, digest)=(0, a, b, c) already exists.",
                Some("experiment_id, name, digest '0, a, b, c'"),
            ),
            ("Key (model_key)=(7) already exists.", None),
            ("no detail", None),
        ] {
            assert_eq!(duplicate_key(detail).as_deref(), key, "{detail}");
        }
    }
}
