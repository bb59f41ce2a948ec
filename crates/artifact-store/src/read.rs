//! Reading, listing and verifying objects.

use std::path::Path;

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use futures::Stream;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::{ArtifactStore, Error};

/// An object on its way.
#[derive(Debug)]
pub struct Download {
    /// Length as the store says.
    pub size_bytes: u64,
    body: ByteStream,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Object key.
    pub key: String,
    /// Length.
    pub size_bytes: u64,
}

impl Download {
    /// The bytes as they come.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
        futures::stream::unfold(self.body, |mut body| async move {
            let next = body.next().await?;
            Some((next.map_err(std::io::Error::other), body))
        })
    }
}

impl ArtifactStore {
    /// Opens an object.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store is unreachable.
    pub async fn get(&self, key: &str) -> Result<Download, Error> {
        self.open(key, None).await
    }

    /// Opens a part of an object: the bytes from `first` to `last`, both counted from 0 and included.
    ///
    /// # Errors
    /// As [`Self::get`]; a range outside of the object is refused.
    pub async fn get_range(&self, key: &str, first: u64, last: u64) -> Result<Download, Error> {
        self.open(key, Some(format!("bytes={first}-{last}"))).await
    }

    async fn open(&self, key: &str, range: Option<String>) -> Result<Download, Error> {
        match self.client.get_object().bucket(&self.bucket).key(key).set_range(range).send().await {
            Ok(object) => Ok(Download {
                size_bytes: object.content_length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0),
                body: object.body,
            }),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_no_such_key()) => {
                Err(Error::NotFound { key: key.to_owned() })
            }
            Err(error) => Err(Error::store("read an object", error)),
        }
    }

    /// A small object in memory.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `limit_bytes`; otherwise as [`Self::get`].
    pub async fn get_bytes(&self, key: &str, limit_bytes: u64) -> Result<Bytes, Error> {
        let mut download = self.get(key).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = download.body.next().await {
            let chunk = chunk.map_err(|error| Error::Store {
                action: "read an object",
                reason: error.to_string(),
                refused: false,
            })?;
            if (bytes.len() + chunk.len()) as u64 > limit_bytes {
                return Err(Error::TooLarge { key: key.to_owned(), limit_bytes });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Writes an object to a file and verifies its SHA-256 (lower-case hex) on the way. The file is not
    /// there, or it is whole and right: it is written under another name next to it and renamed.
    ///
    /// # Errors
    /// [`Error::Digest`] for damaged bytes; otherwise as [`Self::get`], or the disk fails.
    pub async fn download_verified(&self, key: &str, sha256: &str, target: &Path) -> Result<(), Error> {
        let part = target.with_extension(format!("part-{}", std::process::id()));
        let outcome = self.download_part(key, sha256, &part).await;
        match outcome {
            Ok(()) => Ok(tokio::fs::rename(&part, target).await?),
            Err(error) => {
                // Best effort: a left-over part is overwritten by the next try.
                let _ = tokio::fs::remove_file(&part).await;
                Err(error)
            }
        }
    }

    async fn download_part(&self, key: &str, sha256: &str, part: &Path) -> Result<(), Error> {
        let mut download = self.get(key).await?;
        let mut file = tokio::fs::File::create(part).await?;
        let mut hasher = Sha256::new();
        while let Some(chunk) = download.body.next().await {
            let chunk = chunk.map_err(|error| Error::Store {
                action: "read an object",
                reason: error.to_string(),
                refused: false,
            })?;
            hasher.update(&chunk);
            file.write_all(&chunk).await?;
        }
        slipway_runtime::file::finish(&mut file).await?;
        let actual = hex::encode(hasher.finalize());
        if actual == sha256 {
            Ok(())
        } else {
            Err(Error::Digest { key: key.to_owned(), expected: sha256.to_owned(), actual })
        }
    }

    /// Length of an object; `None` where there is none.
    ///
    /// # Errors
    /// The store is unreachable or refuses.
    pub async fn size_bytes(&self, key: &str) -> Result<Option<u64>, Error> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(head) => {
                Ok(Some(head.content_length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0)))
            }
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => Ok(None),
            Err(error) => Err(Error::store("read the metadata of an object", error)),
        }
    }

    /// Everything under a prefix, in key order, at most `limit` objects.
    ///
    /// # Errors
    /// The store is unreachable or refuses.
    pub async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<ObjectInfo>, Error> {
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let page = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(prefix)
                .set_continuation_token(token)
                .send()
                .await
                .map_err(|error| Error::store("list objects", error))?;
            for object in page.contents.unwrap_or_default() {
                let size_bytes = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                if let Some(key) = object.key {
                    found.push(ObjectInfo { key, size_bytes });
                }
                if found.len() >= limit {
                    return Ok(found);
                }
            }
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}
