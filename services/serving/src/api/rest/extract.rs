//! What a request names: a model, a version, and who calls.

use axum::Extension;
use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use slipway_domain::ensemble::is_version;

use crate::api::access::Caller;
use crate::failure::Failure;

/// Who calls, where tokens are asked for.
pub(super) type CalledBy = Option<Extension<Caller>>;

#[derive(Deserialize)]
struct ModelPath {
    name: String,
    version: Option<String>,
}

/// The model that a path names.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Model {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let ModelPath { name, version } = named(parts, state).await?;
        Ok(Self { name, version })
    }
}

/// What a path names. Its refusal is the protocol's, not the framework's text.
pub(super) async fn named<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<T, Failure> {
    let path = Path::<T>::from_request_parts(parts, state).await;
    path.map(|Path(path)| path)
        .map_err(|_rejection| Failure::invalid("the path does not name a model in UTF-8"))
}

impl Model {
    /// Refuses a version that is none.
    pub(super) fn checked(self) -> Result<Self, Failure> {
        match self.version.as_deref().filter(|version| !is_version(version)) {
            Some(version) => Err(Failure::not_found(format!(
                "'{version}' is no version of model '{}'; expected digits",
                self.name
            ))),
            None => Ok(self),
        }
    }
}
