//! Reading the files of a checkpoint.

use std::io::SeekFrom;
use std::path::Path;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use reqwest::header::RANGE;
use reqwest::{Response, StatusCode};
use slipway_domain::training::ManifestFile;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, mpsc};

use super::digest::Running;
use super::{Error, Objects, PARALLEL_PARTS, Range, Refusal, local, succeeded, time_for, tried};

const ACTION: &str = "read a file";
/// Larger files are fetched in ranges of this size, side by side.
const RANGE_BYTES: u64 = 16 * 1024 * 1024;

/// A file that is fetched.
#[derive(Debug, Clone, Copy)]
struct Fetched<'file> {
    /// Object key prefix of the upload that it belongs to.
    prefix: &'file str,
    file: &'file ManifestFile,
    target: &'file Path,
}

impl Objects {
    /// URLs of files of the checkpoint with this prefix, in order.
    pub(crate) async fn sign_downloads(
        &self,
        prefix: &str,
        files: &[&ManifestFile],
    ) -> Result<Vec<String>, Error> {
        let paths = files.iter().map(|file| file.path.clone()).collect();
        Ok(self.launcher.sign_downloads(prefix, paths).await?)
    }

    /// Writes a file and compares it with its digest on the way. What a failure leaves of it is for the
    /// caller to remove.
    pub(crate) async fn get_file(
        &self,
        prefix: &str,
        url: &str,
        file: &ManifestFile,
        target: &Path,
    ) -> Result<(), Error> {
        let fetched = Fetched { prefix, file, target };
        File::create(target).await?.set_len(file.size_bytes).await?;
        let (written, ready) = mpsc::channel(PARALLEL_PARTS);
        let (actual, ()) =
            tokio::try_join!(digest_of(target, ready), self.get_ranges(fetched, url, written))?;
        if actual == file.sha256 { Ok(()) } else { Err(damaged(file, actual)) }
    }

    /// Fetches all ranges of a file and tells of each, in order.
    async fn get_ranges(
        &self,
        fetched: Fetched<'_>,
        url: &str,
        written: mpsc::Sender<Range>,
    ) -> Result<(), Error> {
        let size_bytes = fetched.file.size_bytes;
        // Once it has expired, all later ranges use the one that replaced it.
        let url = &Mutex::new(url.to_owned());
        let gets: Vec<_> = (0..size_bytes.max(1))
            .step_by(RANGE_BYTES as usize)
            .map(|start| Range { start, bytes: RANGE_BYTES.min(size_bytes - start) })
            .map(|range| self.get_range(fetched, range, url).boxed())
            .collect();
        let mut gets = futures::stream::iter(gets).buffered(PARALLEL_PARTS);
        while let Some(range) = gets.try_next().await? {
            // Nobody listens any more where the digest has failed, and that is what is reported.
            let _ = written.send(range).await;
        }
        Ok(())
    }

    async fn get_range(
        &self,
        fetched: Fetched<'_>,
        range: Range,
        url: &Mutex<String>,
    ) -> Result<Range, Error> {
        let sign_again = || async move {
            let mut urls = self.sign_downloads(fetched.prefix, &[fetched.file]).await?;
            let signed = urls.pop().unwrap_or_default();
            signed.clone_into(&mut *url.lock().await);
            Ok(signed)
        };
        let signed = url.lock().await.clone();
        tried(signed, sign_again, |url| async move { self.try_get(&url, fetched, range).await }).await
    }

    async fn try_get(&self, url: &str, fetched: Fetched<'_>, range: Range) -> Result<Range, Refusal> {
        let _permit = self.requests.acquire().await.map_err(|error| local(std::io::Error::other(error)))?;
        let mut request = self.http.get(url).timeout(time_for(range.bytes));
        if range.bytes < fetched.file.size_bytes {
            request =
                request.header(RANGE, format!("bytes={}-{}", range.start, range.start + range.bytes - 1));
        }
        let sent = request.send().await.map_err(|error| Refusal::unanswered(ACTION, error))?;
        let refused = |status, error| Err(Refusal { status: Some(status), error });
        match sent.status() {
            status @ StatusCode::NOT_FOUND => {
                refused(status, Error::NotFound { path: fetched.file.path.clone() })
            }
            status @ StatusCode::RANGE_NOT_SATISFIABLE => {
                let reason = format!("fewer than {} bytes", fetched.file.size_bytes);
                refused(status, damaged(fetched.file, reason))
            }
            _ => write(succeeded(ACTION, sent).await?, fetched, range).await,
        }
    }
}

/// Writes what a response carries to its place.
async fn write(mut response: Response, fetched: Fetched<'_>, range: Range) -> Result<Range, Refusal> {
    let status = response.status();
    let mut target = File::options().write(true).open(fetched.target).await.map_err(local)?;
    target.seek(SeekFrom::Start(range.start)).await.map_err(local)?;
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await.map_err(|error| Refusal::unanswered(ACTION, error))? {
        bytes += chunk.len() as u64;
        if bytes > range.bytes {
            let reason = format!("more than {} bytes", fetched.file.size_bytes);
            return Err(Refusal { status: Some(status), error: damaged(fetched.file, reason) });
        }
        target.write_all(&chunk).await.map_err(local)?;
    }
    // Not to the disk: after a crash of the machine, the next attempt fetches it again.
    target.flush().await.map_err(local)?;
    Ok(range)
}

/// SHA-256 of a file whose ranges are ready in order, lower-case hex.
async fn digest_of(target: &Path, mut ready: mpsc::Receiver<Range>) -> Result<String, Error> {
    let mut running = Running::default();
    while let Some(range) = ready.recv().await {
        let target = target.to_owned();
        let read = tokio::task::spawn_blocking(move || running.read_range(&target, range));
        running = read.await.map_err(std::io::Error::other)??;
    }
    Ok(running.hex())
}

fn damaged(file: &ManifestFile, actual: String) -> Error {
    Error::Digest { path: file.path.clone(), expected: file.sha256.clone(), actual }
}
