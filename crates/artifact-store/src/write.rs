//! Storing objects.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};

use crate::{ArtifactStore, Error};

/// Size of one part of a long object; also what one upload holds in memory at most, twice over.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// S3 allows this many parts.
const MAX_PARTS: i32 = 10_000;

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Length.
    pub size_bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

impl ArtifactStore {
    /// Stores a stream of unknown length and hashes it on the way. Up to one part is one request; what is longer is a
    /// multipart upload, aborted where the stream or the store fails: there is never half an object.
    ///
    /// # Errors
    /// The source breaks off, or the store refuses.
    pub async fn put_stream<S, E>(&self, key: &str, mut source: S) -> Result<Stored, Error>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let mut hasher = Sha256::new();
        let mut size_bytes = 0u64;
        let mut buffer = BytesMut::new();
        let mut upload: Option<Multipart<'_>> = None;
        let outcome = async {
            while let Some(chunk) = source.next().await {
                let chunk = chunk.map_err(|error| Error::Source(error.to_string()))?;
                hasher.update(&chunk);
                size_bytes += chunk.len() as u64;
                buffer.extend_from_slice(&chunk);
                while buffer.len() > PART_BYTES {
                    if upload.is_none() {
                        upload = Some(Multipart::begin(self, key).await?);
                    }
                    if let Some(upload) = upload.as_mut() {
                        upload.part(buffer.split_to(PART_BYTES).freeze()).await?;
                    }
                }
            }
            match upload.as_mut() {
                None => self.put_bytes(key, buffer.split().freeze()).await,
                Some(upload) => {
                    upload.part(buffer.split().freeze()).await?;
                    upload.complete().await
                }
            }
        }
        .await;
        if let Err(error) = outcome {
            if let Some(upload) = upload {
                upload.abort().await;
            }
            return Err(error);
        }
        Ok(Stored { size_bytes, sha256: hex::encode(hasher.finalize()) })
    }

    /// Stores bytes at hand; what was there is replaced.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put_bytes(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map(drop)
            .map_err(|error| Error::store("store an object", error))
    }

    /// Stores bytes only where there is no such object yet (`If-None-Match: *`). `false` where there is one: somebody else won.
    ///
    /// # Errors
    /// The store refuses for another reason.
    pub async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<bool, Error> {
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .if_none_match("*")
            .body(ByteStream::from(bytes))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(error)
                if error.raw_response().is_some_and(|raw| matches!(raw.status().as_u16(), 409 | 412)) =>
            {
                Ok(false)
            }
            Err(error) => Err(Error::store("store an object", error)),
        }
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.client
            .delete_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
            .map(drop)
            .map_err(|error| Error::store("remove an object", error))
    }
}

struct Multipart<'store> {
    store: &'store ArtifactStore,
    key: String,
    upload_id: String,
    parts: Vec<CompletedPart>,
}

impl<'store> Multipart<'store> {
    async fn begin(store: &'store ArtifactStore, key: &str) -> Result<Self, Error> {
        let begun = store
            .client
            .create_multipart_upload()
            .bucket(&store.bucket)
            .key(key)
            .send()
            .await
            .map_err(|error| Error::store("begin an upload", error))?;
        let upload_id = begun.upload_id.ok_or_else(|| Error::Store {
            action: "begin an upload",
            reason: "the answer has no upload id".to_owned(),
        })?;
        Ok(Self { store, key: key.to_owned(), upload_id, parts: Vec::new() })
    }

    async fn part(&mut self, bytes: Bytes) -> Result<(), Error> {
        let number = i32::try_from(self.parts.len()).unwrap_or(MAX_PARTS) + 1;
        if number > MAX_PARTS {
            return Err(Error::TooLarge {
                key: self.key.clone(),
                limit_bytes: PART_BYTES as u64 * MAX_PARTS as u64,
            });
        }
        let sent = self
            .store
            .client
            .upload_part()
            .bucket(&self.store.bucket)
            .key(&self.key)
            .upload_id(&self.upload_id)
            .part_number(number)
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map_err(|error| Error::store("store a part", error))?;
        self.parts.push(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build());
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), Error> {
        let parts =
            CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(&mut self.parts))).build();
        self.store
            .client
            .complete_multipart_upload()
            .bucket(&self.store.bucket)
            .key(&self.key)
            .upload_id(&self.upload_id)
            .multipart_upload(parts)
            .send()
            .await
            .map(drop)
            .map_err(|error| Error::store("complete an upload", error))
    }

    async fn abort(self) {
        let aborted = self
            .store
            .client
            .abort_multipart_upload()
            .bucket(&self.store.bucket)
            .key(&self.key)
            .upload_id(&self.upload_id)
            .send()
            .await;
        if let Err(error) = aborted {
            tracing::warn!(key = %self.key, error = %error, "an upload that broke off could not be aborted");
        }
    }
}
