//! Bytes that do not pass through us: signed addresses with which a client speaks to the store itself.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use crate::{ArtifactStore, Error, failure};

/// S3 allows this many parts of one object.
pub const MAX_PARTS: i32 = 10_000;

/// A part that a client stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedPart {
    /// Counted from 1.
    pub number: i32,
    /// What the store answered to the part, quotes and all.
    pub etag: String,
}

fn signing(valid: Duration) -> Result<PresigningConfig, Error> {
    PresigningConfig::expires_in(valid).map_err(|error| Error::Store {
        action: "sign an address",
        reason: error.to_string(),
        refused: false,
    })
}

impl ArtifactStore {
    /// An address at which anybody may read the object, whole or by ranges, until it expires.
    ///
    /// # Errors
    /// The time is longer than S3 allows (a week).
    pub async fn presigned_get(&self, key: &str, valid: Duration) -> Result<String, Error> {
        let request = self.signer.get_object().bucket(&self.bucket).key(key);
        let signed = request.presigned(signing(valid)?).await;
        signed.map(|signed| signed.uri().to_owned()).map_err(|error| Error::store("sign an address", error))
    }

    /// An address at which anybody may store the object by one PUT until it expires.
    ///
    /// # Errors
    /// The time is longer than S3 allows (a week).
    pub async fn presigned_put(&self, key: &str, valid: Duration) -> Result<String, Error> {
        let request = self.signer.put_object().bucket(&self.bucket).key(key);
        let signed = request.presigned(signing(valid)?).await;
        signed.map(|signed| signed.uri().to_owned()).map_err(|error| Error::store("sign an address", error))
    }

    /// Begins an upload in parts; its id at the store.
    ///
    /// # Errors
    /// The store is unreachable or refuses.
    pub async fn begin_parts(&self, key: &str) -> Result<String, Error> {
        let begun = self.client.create_multipart_upload().bucket(&self.bucket).key(key).send().await;
        let begun = begun.map_err(|error| Error::store("begin an upload", error))?;
        begun.upload_id.ok_or_else(|| Error::Store {
            refused: false,
            action: "begin an upload",
            reason: "the response has no upload id".to_owned(),
        })
    }

    /// An address at which anybody may store part `number` of an upload until it expires.
    ///
    /// # Errors
    /// The time is longer than S3 allows (a week).
    pub async fn presigned_part(
        &self,
        key: &str,
        upload_id: &str,
        number: i32,
        valid: Duration,
    ) -> Result<String, Error> {
        let request = self.signer.upload_part().bucket(&self.bucket).key(key);
        let request = request.upload_id(upload_id).part_number(number);
        let signed = request.presigned(signing(valid)?).await;
        signed.map(|signed| signed.uri().to_owned()).map_err(|error| Error::store("sign an address", error))
    }

    /// Makes one object of the parts.
    ///
    /// # Errors
    /// [`Error::Parts`] where the store does not have these parts; or it is unreachable.
    pub async fn complete_parts(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[UploadedPart],
    ) -> Result<(), Error> {
        let parts = parts
            .iter()
            .map(|part| CompletedPart::builder().part_number(part.number).e_tag(&part.etag).build())
            .collect();
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(key);
        let request = request
            .upload_id(upload_id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build());
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().is_client_error()) => {
                Err(Error::Parts { reason: failure::details(&error) })
            }
            Err(error) => Err(Error::store("complete an upload", error)),
        }
    }

    /// Deletes an upload and its parts; one that is gone is no error.
    ///
    /// # Errors
    /// The store is unreachable.
    pub async fn abort_parts(&self, key: &str, upload_id: &str) -> Result<(), Error> {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(key);
        match request.upload_id(upload_id).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_no_such_upload()) => Ok(()),
            Err(error) => Err(Error::store("abort an upload", error)),
        }
    }

    /// Aborts multipart uploads under a prefix that were started before `before`: what a process left that
    /// was killed. How many.
    ///
    /// # Errors
    /// The store is unreachable or refuses.
    pub async fn abort_parts_before(&self, prefix: &str, before: SystemTime) -> Result<usize, Error> {
        self.abort_parts_where(prefix, |begun| begun.is_some_and(|begun| begun < before)).await
    }

    /// Aborts all multipart uploads under a prefix to which nobody uploads any more. How many.
    ///
    /// # Errors
    /// The store is unreachable or refuses.
    pub async fn abort_parts_under(&self, prefix: &str) -> Result<usize, Error> {
        self.abort_parts_where(prefix, |_| true).await
    }

    /// Aborts multipart uploads under a prefix; `is_over` is given the time at which one was started, where
    /// the store says it.
    async fn abort_parts_where(
        &self,
        prefix: &str,
        is_over: impl Fn(Option<SystemTime>) -> bool,
    ) -> Result<usize, Error> {
        let (mut aborted, mut key_marker, mut id_marker) = (0, None, None);
        loop {
            let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(prefix);
            let request = request.set_key_marker(key_marker).set_upload_id_marker(id_marker);
            let page = request.send().await.map_err(|error| Error::store("list uploads", error))?;
            for upload in page.uploads.unwrap_or_default() {
                let begun = upload.initiated.and_then(|begun| SystemTime::try_from(begun).ok());
                if let (true, Some(key), Some(id)) = (is_over(begun), upload.key, upload.upload_id) {
                    self.abort_parts(&key, &id).await?;
                    aborted += 1;
                }
            }
            if page.is_truncated != Some(true) {
                return Ok(aborted);
            }
            (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
        }
    }
}
