//! What can go wrong in the registry. Each protocol below `api` translates it into codes and texts of its
//! own.

use std::fmt;

use slipway_domain::Invalid;
use slipway_domain::registry::Violation;
use slipway_domain::registry::filter::ParseError;
use slipway_service_kit::db::is_unavailable;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// The field of an error that is about the request as a whole.
const WHOLE_REQUEST: &str = "body";

/// An error as a client sees it. The cause was logged where the error was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A value breaks a rule.
    #[error("{message}")]
    Invalid {
        /// Field of the request.
        field: String,
        /// What was expected.
        message: String,
    },
    /// A value breaks a rule of the domain, which each protocol words in its own terms.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// Something does not exist.
    #[error("{}", .0.not_found())]
    NotFound(Thing),
    /// A name or an id is taken.
    #[error("{}", .0.exists())]
    Exists(Thing),
    /// The state of something else does not allow the change.
    #[error("{0}")]
    Conflict(String),
    /// A policy forbids it, or the caller lacks a role.
    #[error("{0}")]
    Denied(String),
    /// The caller did not prove who it is.
    #[error("{0}")]
    Unauthenticated(String),
    /// Postgres, the artifact store, NATS or another dependency cannot be reached; the request may be
    /// repeated.
    #[error("{0}")]
    Unavailable(String),
    /// A defect, or a damaged file.
    #[error("{0}")]
    Internal(String),
}

/// Something that a client names and that does not exist, or exists already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    /// By id.
    Experiment(String),
    ExperimentNamed(String),
    ExperimentTag {
        key: String,
        experiment: String,
    },
    /// By id.
    Run(String),
    RunTag {
        key: String,
        run: String,
    },
    /// By name.
    Model(String),
    /// `version` as the client wrote it.
    Version {
        model: String,
        version: String,
    },
    /// The newest version of a model that has none.
    LatestVersion {
        model: String,
    },
    Alias {
        model: String,
        alias: String,
    },
    /// By id.
    LoggedModel(String),
    LoggedModelTag {
        key: String,
        model_id: String,
    },
    /// Anything else: the whole sentence.
    Other(String),
}

impl fmt::Display for Thing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Experiment(id) => write!(formatter, "experiment {id}"),
            Self::ExperimentNamed(name) => write!(formatter, "experiment '{name}'"),
            Self::ExperimentTag { key, experiment } => {
                write!(formatter, "tag '{key}' of experiment {experiment}")
            }
            Self::Run(id) => write!(formatter, "run {id}"),
            Self::RunTag { key, run } => write!(formatter, "tag '{key}' of run {run}"),
            Self::Model(name) => write!(formatter, "registered model '{name}'"),
            Self::Version { model, version } => write!(formatter, "version {version} of model '{model}'"),
            Self::LatestVersion { model } => write!(formatter, "version of model '{model}'"),
            Self::Alias { model, alias } => write!(formatter, "alias '{alias}' of model '{model}'"),
            Self::LoggedModel(id) => write!(formatter, "logged model {id}"),
            Self::LoggedModelTag { key, model_id } => {
                write!(formatter, "tag '{key}' of logged model {model_id}")
            }
            Self::Other(sentence) => formatter.write_str(sentence),
        }
    }
}

impl Thing {
    /// The sentence for something that does not exist.
    pub(crate) fn not_found(&self) -> String {
        match self {
            Self::Other(sentence) => sentence.clone(),
            Self::Alias { model, alias } => format!("model {model} has no alias {alias}"),
            thing => format!("{thing} not found"),
        }
    }

    /// The sentence for something that exists already.
    pub(crate) fn exists(&self) -> String {
        match self {
            Self::Other(sentence) => sentence.clone(),
            thing => format!("{thing} already exists"),
        }
    }
}

impl Error {
    /// A value that breaks a rule.
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    /// Something that does not exist, in a whole sentence.
    pub(crate) fn not_found(sentence: impl Into<String>) -> Self {
        Self::NotFound(Thing::Other(sentence.into()))
    }

    /// A dependency that cannot be reached.
    pub(crate) fn unavailable(what: &str) -> Self {
        Self::Unavailable(format!("{what} does not answer; try again"))
    }

    /// Nothing may be deleted: which versions are in use is not known yet.
    pub(crate) fn deployments_unknown() -> Self {
        Self::Unavailable(
            "it is not known yet which versions deployments serve, because NATS has been unreachable since \
             the registry started; try again later, or force the deletion as an administrator (force=true)"
                .to_owned(),
        )
    }

    /// A file whose bytes are others than those that were stored.
    pub(crate) fn damaged(path: &str) -> Self {
        Self::Internal(format!(
            "The bytes of the artifact '{path}' in the artifact store are damaged; restore its bucket from a \
             backup, or log the file again"
        ))
    }

    /// A defect; only the log has the cause.
    pub(crate) fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::Internal("the server failed on this request; its log has the cause".to_owned())
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid { field: invalid.field, message: invalid.message }
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::invalid("filter", format!("{} (at position {})", error.message, error.at))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) {
            tracing::warn!(%error, "Postgres is unreachable");
            return Self::unavailable("the database");
        }
        let Some(database) = error.as_database_error() else {
            return Self::internal(format!("database: {error}"));
        };
        refused_by_postgres(database).unwrap_or_else(|| Self::internal(format!("database: {error}")))
    }
}

/// What Postgres rejects because of a value of the request. Use cases check values first and name the field;
/// this is the net below them, so that a value or a race that none of them foresaw is answered with 4xx.
/// Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn refused_by_postgres(error: &dyn DatabaseError) -> Option<Error> {
    let invalid = |message: &str| Error::invalid(WHOLE_REQUEST, message);
    let code = error.code()?;
    Some(match &*code {
        // character_not_in_repertoire, untranslatable_character: a NUL character, which Postgres cannot
        // store.
        "22021" | "22P05" => invalid("Invalid value: text must not contain the NUL character (U+0000)"),
        // numeric_value_out_of_range, datetime_field_overflow.
        "22003" | "22008" => invalid("Invalid value: a number is out of range"),
        "23503" => {
            let (field, thing) = referenced(error.constraint().unwrap_or_default());
            Error::not_found(format!("Invalid value for parameter '{field}': there is no such {thing}"))
        }
        "23505" => {
            let thing = error.table().unwrap_or("row").trim_end_matches('s').replace('_', " ");
            let detail = error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::detail);
            Error::Conflict(match detail.and_then(duplicate_key) {
                Some(key) => format!(
                    "there is a {thing} with {key} already; another request created it at the same time"
                ),
                None => format!("another request created the same {thing} at the same time; read it again"),
            })
        }
        "23514" => invalid(&format!(
            "Invalid value: it does not satisfy the constraint {}",
            error.constraint().unwrap_or_default()
        )),
        "22001" => invalid("Invalid value: a text is too long"),
        // program_limit_exceeded: a row that does not fit its index, which is a key or a name of thousands of
        // characters.
        "54000" => invalid("Invalid value: a name, key or id is too long to be indexed"),
        _ => return None,
    })
}

/// Columns that clients know under another name, or not at all.
const COLUMN_NAMES: [(&str, &str); 5] =
    [("model_key", ""), ("run_key", ""), ("dataset_key", ""), ("webhook_key", ""), ("one", "")];

/// Fields and values of a violated unique key, e.g. `name 'churn'`, from Postgres' detail `Key (name)=(churn)
/// already exists.`; the text around the parentheses is in the language of the server.
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

/// The request's field behind a foreign key, and what it refers to. Postgres names a foreign key
/// `<table>_<columns>_fkey`.
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

/// What reading the bytes of an artifact came to. A row whose bytes are gone is no defect of the request and
/// no reason to try again: the answer names the file.
pub(crate) fn of_file(path: &str, error: slipway_artifact_store::Error) -> Error {
    use slipway_artifact_store::Error as Store;
    match error {
        Store::NotFound { key } => {
            tracing::error!(path, key, "object of an artifact missing from the artifact store");
            Error::not_found(format!(
                "The bytes of the artifact '{path}' are missing from the artifact store; restore its bucket \
                 from a backup, or log the file again"
            ))
        }
        Store::Digest { key, expected, actual } => {
            tracing::error!(path, key, expected, actual, "object of an artifact damaged");
            Error::damaged(path)
        }
        other => other.into(),
    }
}

impl From<slipway_artifact_store::Error> for Error {
    fn from(error: slipway_artifact_store::Error) -> Self {
        use slipway_artifact_store::Error as Store;
        match error {
            Store::Source(reason) => Self::invalid("body", format!("the upload was interrupted: {reason}")),
            Store::TooLarge { .. } => Self::invalid("body", error.to_string()),
            Store::NotFound { key } => {
                tracing::error!(key, "object missing from the artifact store");
                Self::not_found(format!("The object '{key}' is missing from the artifact store"))
            }
            error if error.is_transient() => {
                tracing::warn!(%error, "artifact store unreachable");
                Self::unavailable("the artifact store")
            }
            error => Self::internal(error),
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
