//! Artifacts in S3: streamed both ways, hashed while they pass, with bounded memory.

mod authorities;
mod config;
mod direct;
mod failure;
mod list;
mod read;
mod write;

use std::sync::Arc;

pub use authorities::substitutes as substitute_authorities;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
pub use config::S3Config;
pub use direct::{MAX_PARTS, UploadedPart};
pub use list::{Listed, path_within};
pub use read::{Download, ObjectInfo};
use tokio::sync::Semaphore;
pub use write::Stored;

/// A bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    client: Client,
    /// Signs addresses for others, who may reach the store by another name.
    signer: Client,
    bucket: String,
    /// Parts that uploads send beyond the first of each, over all of them: what bounds their memory.
    ahead: Arc<Semaphore>,
}

/// What can go wrong with the artifact store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("there is no object `{key}`")]
    NotFound {
        /// Its key.
        key: String,
    },
    /// The bytes are not what their digest says.
    #[error("the object `{key}` is damaged: expected SHA-256 {expected}, got {actual}")]
    Digest {
        /// Its key.
        key: String,
        /// Lower-case hex.
        expected: String,
        /// Lower-case hex.
        actual: String,
    },
    /// The object is longer than the caller takes.
    #[error("the object `{key}` has more than {limit_bytes} bytes")]
    TooLarge {
        /// Its key.
        key: String,
        /// The caller's limit.
        limit_bytes: u64,
    },
    /// The store does not have the parts that an object is to be made of.
    #[error("the parts of the upload do not match: {reason}")]
    Parts {
        /// What came back.
        reason: String,
    },
    /// The bytes to be stored stopped coming.
    #[error("the upload was interrupted: {0}")]
    Source(String),
    /// The store refused, failed or did not answer.
    #[error("the artifact store could not {action}: {reason}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// What came back.
        reason: String,
        /// Whether the store answered, and denies access or has no such bucket: its configuration has to
        /// change first.
        refused: bool,
    },
    /// A local file could not be written or read.
    #[error("local file: {0}")]
    File(#[from] std::io::Error),
}

impl Error {
    /// The text for clients and reasons is short; where the store is, and what it said, is in the log.
    fn store<E>(action: &'static str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let (reason, details) = (failure::reason(&error), failure::details(&error));
        let refused = failure::is_refusal(&error);
        tracing::warn!(action, reason, details, "the artifact store rejected the request");
        Self::Store { action, reason, refused }
    }

    /// Whether it may go well a little later: the store is unreachable or overloaded.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Store { .. })
    }

    /// Whether the store denies access or has no such bucket.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Store { refused: true, .. })
    }
}

impl ArtifactStore {
    /// Name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Another bucket of the same store.
    #[must_use]
    pub fn in_bucket(&self, bucket: &str) -> Self {
        Self { bucket: bucket.to_owned(), ..self.clone() }
    }

    /// Makes the bucket where there is none.
    ///
    /// # Errors
    /// The store is unreachable or refuses.
    pub async fn ensure_bucket(&self) -> Result<(), Error> {
        if self.client.head_bucket().bucket(&self.bucket).send().await.is_ok() {
            return Ok(());
        }
        match self.client.create_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let ours = error.as_service_error().is_some_and(|error| {
                    error.is_bucket_already_owned_by_you() || error.is_bucket_already_exists()
                });
                if ours { Ok(()) } else { Err(Error::store("make the bucket", error)) }
            }
        }
    }
}
