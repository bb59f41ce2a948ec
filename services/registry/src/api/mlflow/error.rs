//! Errors in MLflow's shape: `{"error_code", "message"}`, with the codes and texts that its clients know.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::wording;
use crate::error::{Error, Thing};

/// Seconds after which a client may try again when Postgres or S3 is unreachable.
const RETRY_AFTER_S: &str = "1";

/// How MLflow ends its messages about parameters that it judges before it looks further.
pub(crate) const SEE_DOCS: &str = "See the API docs for more information about request parameters.";

/// MLflow's error codes that this service returns.
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

/// An error of a handler of MLflow's API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// Stable, for programs.
    pub(crate) code: Code,
    /// What happened, for people.
    pub(crate) message: String,
}

impl Failure {
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

    /// A defect; only the log has the cause.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        Error::internal(cause).into()
    }

    /// A role that is missing.
    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// Something that does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceDoesNotExist, message)
    }

    /// A route that is not served.
    pub(crate) fn no_endpoint(method: &http::Method, path: &str) -> Self {
        let family = path.split_once("/mlflow/").map_or(path.trim_start_matches("/v1/"), |(_, rest)| rest);
        let family = family.split('/').next().unwrap_or_default().replace('-', " ");
        Self::new(
            Code::EndpointNotFound,
            format!(
                "Slipway does not serve MLflow's API for {family} ({method} {path}); docs/api.md lists what \
                 it serves"
            ),
        )
    }

    /// Prompts are registered models with a tag, so no route of their own says that they are not served.
    pub(crate) fn no_prompts() -> Self {
        Self::new(
            Code::EndpointNotFound,
            "Slipway does not serve MLflow's prompt registry, so no prompt was registered; docs/api.md lists \
             what it serves",
        )
    }
}

/// What MLflow's server answers for something that does not exist.
fn not_found(thing: &Thing) -> Failure {
    match thing {
        Thing::Experiment(id) => Failure::not_found(format!("No Experiment with id={id} exists")),
        Thing::ExperimentNamed(name) => {
            Failure::not_found(format!("Could not find experiment with name '{name}'"))
        }
        Thing::ExperimentTag { key, experiment } => {
            Failure::not_found(format!("No tag with name: {key} in experiment with id {experiment}"))
        }
        Thing::Run(id) => Failure::not_found(format!("Run with id={id} not found")),
        Thing::RunTag { key, run } => {
            Failure::not_found(format!("No tag with name: {key} in run with id {run}"))
        }
        Thing::Model(name) => Failure::not_found(format!("Registered Model with name={name} not found")),
        Thing::Version { model, version } => {
            Failure::not_found(format!("Model Version (name={model}, version={version}) not found"))
        }
        Thing::LatestVersion { model } => {
            Failure::not_found(format!("Latest version not found for model {model}."))
        }
        // Its server does not answer 404 here.
        Thing::Alias { alias, .. } => Failure::invalid(format!("Registered model alias {alias} not found.")),
        Thing::LoggedModel(id) => Failure::not_found(format!("Logged model with ID '{id}' not found.")),
        Thing::LoggedModelTag { key, model_id } => {
            Failure::not_found(format!("No tag with key '{key}' found for model with ID '{model_id}'."))
        }
        Thing::Other(sentence) => Failure::not_found(sentence),
    }
}

/// What MLflow's server answers for something that exists already.
fn exists(thing: &Thing) -> Failure {
    let message = match thing {
        Thing::Experiment(name) | Thing::ExperimentNamed(name) => {
            format!("Experiment(name={name}) already exists")
        }
        Thing::Run(id) => format!("Run with id={id} already exists"),
        Thing::Model(name) => format!("Registered Model (name={name}) already exists."),
        Thing::Version { version, .. } => format!("Model version {version} already exists"),
        Thing::LoggedModel(id) => format!("Logged model with ID '{id}' already exists."),
        other => other.exists(),
    };
    Failure::new(Code::ResourceAlreadyExists, message)
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        match error.into() {
            Error::Invalid { message, .. } => Self::invalid(message),
            Error::Violation(violation) => Self::invalid(wording::message(&violation)),
            Error::NotFound(thing) => not_found(&thing),
            Error::Exists(thing) => exists(&thing),
            Error::Conflict(message) => Self::new(Code::ResourceConflict, message),
            Error::Denied(message) => Self::denied(message),
            Error::Unauthenticated(message) => Self::new(Code::Unauthenticated, message),
            Error::Unavailable(message) => Self::new(Code::TemporarilyUnavailable, message),
            Error::Internal(message) => Self::new(Code::InternalError, message),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = axum::Json(json!({"error_code": self.code.name(), "message": self.message}));
        let mut response = (self.code.status(), body).into_response();
        if self.code == Code::TemporarilyUnavailable {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_exist_has_the_code_and_text_that_clients_know() {
        let answer = |thing: Thing| {
            let failure = Failure::from(Error::NotFound(thing));
            (failure.code, failure.message)
        };
        assert_eq!(
            answer(Thing::Version { model: "churn".into(), version: "3".into() }),
            (Code::ResourceDoesNotExist, "Model Version (name=churn, version=3) not found".to_owned())
        );
        assert_eq!(
            answer(Thing::Alias { model: "churn".into(), alias: "champion".into() }),
            (Code::InvalidParameterValue, "Registered model alias champion not found.".to_owned())
        );
        let failure = Failure::from(Error::Exists(Thing::Model("churn".into())));
        assert_eq!(failure.code.status(), StatusCode::BAD_REQUEST);
        assert_eq!(failure.message, "Registered Model (name=churn) already exists.");
    }
}
