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

const MIB: u64 = 1024 * 1024;
/// Parts of one upload that gather or are on their way hold no more, unless a single part is larger.
const UPLOAD_BYTES: u64 = 24 * MIB;
/// S3 takes no smaller parts, but for the last one.
const MIN_PART_BYTES: u64 = 5 * MIB;
/// Size of a part if the length of the object is unknown.
const PART_BYTES: u64 = 8 * MIB;
/// Parts on their way next to the first of each upload, over all uploads.
pub(crate) const MAX_PARTS_AHEAD: usize = 16;

/// How an object is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    part_bytes: usize,
    /// Parts on their way at once.
    at_once: usize,
}

impl Cut {
    /// All parts have one size, because some stores ask for that: the smallest with which the object has few
    /// enough parts, so that many are on their way in little memory.
    fn of(length_bytes: Option<u64>) -> Self {
        let part_bytes = length_bytes.map_or(PART_BYTES, |length_bytes| {
            length_bytes.div_ceil(MAX_PARTS.unsigned_abs().into()).next_multiple_of(MIB).max(MIN_PART_BYTES)
        });
        let at_once = (UPLOAD_BYTES / part_bytes).saturating_sub(1).max(1);
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self { part_bytes: size(part_bytes), at_once: size(at_once) }
    }
}

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Length.
    pub size_bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

impl ArtifactStore {
    /// Stores a stream and hashes it on the way. Up to one part is one request; what is longer is a multipart
    /// upload, aborted where the stream or the store fails: there is never half an object. `length_bytes`,
    /// where it is known, decides the size of parts; that the stream is as long is not asked.
    ///
    /// # Errors
    /// The source is interrupted, or the store refuses.
    pub async fn put_stream<S, E>(
        &self,
        key: &str,
        mut source: S,
        length_bytes: Option<u64>,
    ) -> Result<Stored, Error>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let cut = Cut::of(length_bytes);
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
                    if buffer.len() == cut.part_bytes {
                        if upload.is_none() {
                            upload = Some(Multipart::begin(self, key, cut).await?);
                        }
                        if let Some(upload) = upload.as_mut() {
                            let full =
                                std::mem::replace(&mut buffer, BytesMut::with_capacity(cut.part_bytes));
                            upload.part(full.freeze()).await?;
                        }
                    }
                    buffer.extend_from_slice(&rest.split_to(rest.len().min(cut.part_bytes - buffer.len())));
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

    /// Stores bytes only where there is no such object yet (`If-None-Match: *`). `false` where there is one:
    /// somebody else won.
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
    cut: Cut,
    begun: i32,
    sending: FuturesUnordered<Sending<'store>>,
    stored: Vec<CompletedPart>,
}

type Sending<'store> = Pin<Box<dyn Future<Output = Result<CompletedPart, Error>> + Send + 'store>>;

impl<'store> Multipart<'store> {
    async fn begin(store: &'store ArtifactStore, key: &str, cut: Cut) -> Result<Self, Error> {
        let upload_id = store.begin_parts(key).await?;
        let (sending, stored) = (FuturesUnordered::new(), Vec::new());
        Ok(Self { store, key: key.to_owned(), upload_id, cut, begun: 0, sending, stored })
    }

    /// Sends a part. Returns at once while there is room to send ahead; the parts before it go on only while
    /// this, or [`Self::meanwhile`], is awaited.
    async fn part(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.begun += 1;
        let number = self.begun;
        if number > MAX_PARTS {
            let limit_bytes = self.cut.part_bytes as u64 * u64::from(MAX_PARTS.unsigned_abs());
            return Err(Error::TooLarge { key: self.key.clone(), limit_bytes });
        }
        let permit = loop {
            if self.sending.is_empty() {
                break None;
            }
            if self.sending.len() < self.cut.at_once
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
            tracing::warn!(key = %self.key, %error, "interrupted upload could not be aborted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_small_as_the_length_allows_and_hold_little_memory() {
        let cut = |length| {
            let cut = Cut::of(length);
            (cut.part_bytes as u64 / MIB, cut.at_once)
        };
        assert_eq!(cut(None), (8, 2));
        assert_eq!(cut(Some(0)), (5, 3));
        assert_eq!(cut(Some(50_000 * MIB)), (5, 3));
        assert_eq!(cut(Some(50_000 * MIB + 1)), (6, 3));
        // S3's largest object.
        assert_eq!(cut(Some(5 * MIB * MIB)), (525, 1));
        for length in [1, 7 * MIB, 60_000 * MIB, 900_000 * MIB] {
            let parts = length.div_ceil(Cut::of(Some(length)).part_bytes as u64);
            assert!(parts <= u64::from(MAX_PARTS.unsigned_abs()), "{length}: {parts} parts");
        }
    }
}
