//! Storing the files of a checkpoint.

use std::io::SeekFrom;
use std::path::Path;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use reqwest::header::{CONTENT_LENGTH, ETAG};
use reqwest::{Body, Response};
use slipway_api::proto::launcher::{UploadFile, UploadTarget};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::{
    Error, FILES_OF_A_CALL, Objects, PARALLEL_FILES, PARALLEL_PARTS, READ_BYTES, Range, Refusal,
    digest::digest, local, succeeded, time_for, tried,
};

/// Parts for which one call obtains URLs.
const PARTS_OF_A_CALL: u32 = 32;
const ACTION: &str = "store a file";

/// A file to be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'file> {
    /// Path within the checkpoint.
    pub(crate) path: &'file str,
    /// Where it lies.
    pub(crate) file: &'file Path,
    pub(crate) size_bytes: u64,
}

impl Objects {
    /// Stores files under a prefix; their SHA-256 digests, lower-case hex, in their order.
    pub(crate) async fn put_files(&self, prefix: &str, files: &[Source<'_>]) -> Result<Vec<String>, Error> {
        let mut digests = Vec::with_capacity(files.len());
        for files in files.chunks(FILES_OF_A_CALL) {
            let wanted = files.iter().map(wanted).collect();
            let targets = self.launcher.begin_uploads(prefix, wanted).await?;
            let puts: Vec<_> = files
                .iter()
                .zip(targets)
                .map(|(file, target)| self.put_file(prefix, *file, target).boxed())
                .collect();
            let stored: Vec<String> =
                futures::stream::iter(puts).buffered(PARALLEL_FILES).try_collect().await?;
            digests.extend(stored);
        }
        if digests.len() == files.len() {
            return Ok(digests);
        }
        Err(Error::Store { action: ACTION, reason: "the launcher did not sign a URL for each".to_owned() })
    }

    /// The digest is made of the file in one pass of its own, because its parts are sent side by side. Bytes
    /// that change in between do not match it when they are restored.
    async fn put_file(&self, prefix: &str, file: Source<'_>, target: UploadTarget) -> Result<String, Error> {
        let path = file.file.to_owned();
        let digest = tokio::task::spawn_blocking(move || digest(&path));
        let digest = async { digest.await.map_err(std::io::Error::other)?.map_err(Error::from) };
        let stored = async {
            if target.upload_id.is_empty() {
                self.put_whole(prefix, file, target.url).await
            } else {
                self.put_parts(prefix, file, &target).await
            }
        };
        let done = tokio::try_join!(digest, stored);
        let ((digest, size_bytes), ()) = done.map_err(|error| named(file, error))?;
        if size_bytes != file.size_bytes {
            return Err(changed(file));
        }
        Ok(digest)
    }

    async fn put_whole(&self, prefix: &str, file: Source<'_>, url: String) -> Result<(), Error> {
        let range = Range { start: 0, bytes: file.size_bytes };
        let sign_again = || async move {
            let mut targets = self.launcher.begin_uploads(prefix, vec![wanted(&file)]).await?;
            Ok(targets.pop().map(|target| target.url).unwrap_or_default())
        };
        self.put_range(file, range, url, sign_again).await.map(drop)
    }

    async fn put_parts(&self, prefix: &str, file: Source<'_>, target: &UploadTarget) -> Result<(), Error> {
        let (upload_id, part_bytes) = (&target.upload_id, target.part_bytes.max(1));
        let parts = u32::try_from(file.size_bytes.div_ceil(part_bytes)).unwrap_or(u32::MAX);
        let mut etags = Vec::new();
        for first in (1..=parts).step_by(PARTS_OF_A_CALL as usize) {
            let count = PARTS_OF_A_CALL.min(parts - first + 1);
            let urls = self.launcher.sign_parts(prefix, file.path, upload_id, first, count).await?;
            let puts: Vec<_> = (first..)
                .zip(urls)
                .map(|(number, url)| {
                    let start = u64::from(number - 1) * part_bytes;
                    let range = Range { start, bytes: part_bytes.min(file.size_bytes - start) };
                    self.put_part(prefix, file, upload_id, number, range, url).boxed()
                })
                .collect();
            let stored: Vec<String> =
                futures::stream::iter(puts).buffered(PARALLEL_PARTS).try_collect().await?;
            etags.extend(stored);
        }
        Ok(self.launcher.complete_upload(prefix, file.path, upload_id, etags).await?)
    }

    /// Stores one part; its ETag.
    async fn put_part(
        &self,
        prefix: &str,
        file: Source<'_>,
        upload_id: &str,
        part: u32,
        range: Range,
        url: String,
    ) -> Result<String, Error> {
        let sign_again = || async move {
            let mut urls = self.launcher.sign_parts(prefix, file.path, upload_id, part, 1).await?;
            Ok(urls.pop().unwrap_or_default())
        };
        let response = self.put_range(file, range, url, sign_again).await?;
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        etag.map(str::to_owned)
            .ok_or_else(|| Error::Store { action: ACTION, reason: "the response has no ETag".to_owned() })
    }

    /// Stores a range of a file.
    async fn put_range<F, R>(
        &self,
        file: Source<'_>,
        range: Range,
        url: String,
        sign_again: F,
    ) -> Result<Response, Error>
    where
        F: Fn() -> R,
        R: Future<Output = Result<String, Error>>,
    {
        tried(url, sign_again, |url| async move { self.try_range(&url, file, range).await }).await
    }

    async fn try_range(&self, url: &str, file: Source<'_>, range: Range) -> Result<Response, Refusal> {
        let _permit = self.requests.acquire().await.map_err(|error| local(std::io::Error::other(error)))?;
        let mut opened = File::open(file.file).await.map_err(local)?;
        if opened.metadata().await.map_err(local)?.len() != file.size_bytes {
            return Err(Refusal { status: None, error: changed(file) });
        }
        opened.seek(SeekFrom::Start(range.start)).await.map_err(local)?;
        let bytes = ReaderStream::with_capacity(opened.take(range.bytes), READ_BYTES);
        let request = self.http.put(url).header(CONTENT_LENGTH, range.bytes).timeout(time_for(range.bytes));
        let sent = request.body(Body::wrap_stream(bytes)).send().await;
        succeeded(ACTION, sent.map_err(|error| Refusal::unanswered(ACTION, error))?).await
    }
}

fn wanted(file: &Source<'_>) -> UploadFile {
    UploadFile { path: file.path.to_owned(), size_bytes: file.size_bytes }
}

/// The error with the path of the file, where it is one of this machine.
fn named(file: Source<'_>, error: Error) -> Error {
    match error {
        Error::File(error) => std::io::Error::new(error.kind(), format!("`{}`: {error}", file.path)).into(),
        error => error,
    }
}

fn changed(file: Source<'_>) -> Error {
    Error::Changed { path: file.path.to_owned() }
}
