//! Storing objects.

use std::pin::{Pin, pin};
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};

use crate::{ArtifactStore, Error, MAX_PARTS};

/// Size of one part of a long object; an upload holds one that gathers, one on its way, and those sent ahead.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts of one upload on their way at once.
const MAX_PARTS_AHEAD_EACH: usize = 2;
/// Parts on their way beside the first of each upload, over all uploads.
pub(crate) const MAX_PARTS_AHEAD: usize = 16;

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
            loop {
                let chunk = match upload.as_mut() {
                    None => source.next().await,
                    Some(upload) => upload.meanwhile(source.next()).await?,
                };
                let Some(chunk) = chunk else { break };
                let chunk = chunk.map_err(|error| Error::Source(error.to_string()))?;
                hasher.update(&chunk);
                size_bytes += chunk.len() as u64;
                let mut rest = chunk;
                while !rest.is_empty() {
                    if buffer.len() == PART_BYTES {
                        if upload.is_none() {
                            upload = Some(Multipart::begin(self, key).await?);
                        }
                        if let Some(upload) = upload.as_mut() {
                            let full = std::mem::replace(&mut buffer, BytesMut::with_capacity(PART_BYTES));
                            upload.part(full.freeze()).await?;
                        }
                    }
                    buffer.extend_from_slice(&rest.split_to(rest.len().min(PART_BYTES - buffer.len())));
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

/// An upload in parts, a few of which are on their way while the next one gathers.
struct Multipart<'store> {
    store: &'store ArtifactStore,
    key: String,
    upload_id: String,
    begun: i32,
    sending: FuturesUnordered<Sending<'store>>,
    stored: Vec<CompletedPart>,
}

type Sending<'store> = Pin<Box<dyn Future<Output = Result<CompletedPart, Error>> + Send + 'store>>;

impl<'store> Multipart<'store> {
    async fn begin(store: &'store ArtifactStore, key: &str) -> Result<Self, Error> {
        let upload_id = store.begin_parts(key).await?;
        let (sending, stored) = (FuturesUnordered::new(), Vec::new());
        Ok(Self { store, key: key.to_owned(), upload_id, begun: 0, sending, stored })
    }

    /// Sends a part. Returns at once while there is room to send ahead; the parts before it go on only while this, or
    /// [`Self::meanwhile`], is awaited.
    async fn part(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.begun += 1;
        let number = self.begun;
        if number > MAX_PARTS {
            let limit_bytes = PART_BYTES as u64 * MAX_PARTS.unsigned_abs() as u64;
            return Err(Error::TooLarge { key: self.key.clone(), limit_bytes });
        }
        let permit = loop {
            if self.sending.is_empty() {
                break None;
            }
            if self.sending.len() < MAX_PARTS_AHEAD_EACH
                && let Ok(permit) = Arc::clone(&self.store.ahead).try_acquire_owned()
            {
                break Some(permit);
            }
            self.one_stored().await?;
        };
        let request = self.store.client.upload_part().bucket(&self.store.bucket).key(&self.key);
        let request = request.upload_id(&self.upload_id).part_number(number).body(ByteStream::from(bytes));
        self.sending.push(Box::pin(async move {
            let sent = request.send().await;
            drop(permit);
            let sent = sent.map_err(|error| Error::store("store a part", error))?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
        }));
        Ok(())
    }

    async fn one_stored(&mut self) -> Result<(), Error> {
        if let Some(part) = self.sending.next().await {
            self.stored.push(part?);
        }
        Ok(())
    }

    /// Waits for `next` while the parts on their way go on.
    async fn meanwhile<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Error> {
        let mut next = pin!(next);
        loop {
            tokio::select! {
                item = &mut next => return Ok(item),
                Some(part) = self.sending.next() => self.stored.push(part?),
            }
        }
    }

    async fn complete(&mut self) -> Result<(), Error> {
        while !self.sending.is_empty() {
            self.one_stored().await?;
        }
        self.stored.sort_by_key(|part| part.part_number);
        let parts =
            CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(&mut self.stored))).build();
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
        // Parts still under way would be stored after the upload is gone.
        drop(self.sending);
        if let Err(error) = self.store.abort_parts(&self.key, &self.upload_id).await {
            tracing::warn!(key = %self.key, %error, "an upload that broke off could not be aborted");
        }
    }
}
