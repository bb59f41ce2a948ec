//! Errors of an import.

use std::str::FromStr;

use reqwest::Url;

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server rejected it.
    Refused {
        /// HTTP status; 0 where the import itself refused.
        status: u16,
        /// Error code of MLflow, e.g. `RESOURCE_ALREADY_EXISTS`; may be empty.
        code: String,
        /// The server's message.
        message: String,
    },
    /// The server did not respond, or never with a response that could be used.
    Unreachable(String),
}

impl Failure {
    /// Whether the server responded with this error code.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }

    /// Whether the object or the endpoint does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { status: 404 | 405 | 501, .. })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { status, code, message } if code.is_empty() => {
                write!(formatter, "{message} ({status})")
            }
            Self::Refused { code, message, .. } => write!(formatter, "{message} ({code})"),
            Self::Unreachable(why) => formatter.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is not a URL.
    #[error("expected a URL such as http://old:5000")]
    Url(#[source] <Url as FromStr>::Err),
    /// It is a URL of another scheme.
    #[error("expected an http or https URL such as http://old:5000, got the scheme `{0}`")]
    Scheme(String),
    /// The HTTP client could not be created.
    #[error("cannot create the HTTP client")]
    Client(#[from] reqwest::Error),
}

/// An import that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address of the MLflow server cannot be used.
    #[error("address of the MLflow server")]
    Source(#[source] AddressError),
    /// The address of the registry cannot be used.
    #[error("address of the registry")]
    Registry(#[source] AddressError),
    /// Both addresses are the same server.
    #[error("the MLflow server and the registry are the same server: {0}")]
    SameServer(String),
}
