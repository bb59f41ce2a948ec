//! Reading the files of a checkpoint.

use std::path::Path;

use reqwest::StatusCode;
use sha2::{Digest as _, Sha256};
use slipway_domain::training::ManifestFile;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::{Error, Objects, Refusal, succeeded, time_for};

const ACTION: &str = "read a file";

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
    pub(crate) async fn get_file(&self, url: &str, file: &ManifestFile, target: &Path) -> Result<(), Error> {
        let sent = self.http.get(url).timeout(time_for(file.size_bytes)).send().await;
        let sent = sent.map_err(|error| Refusal::unanswered(ACTION, error).error)?;
        if sent.status() == StatusCode::NOT_FOUND {
            return Err(Error::NotFound { path: file.path.clone() });
        }
        let mut response = succeeded(ACTION, sent).await.map_err(|refusal| refusal.error)?;
        let mut written = File::create(target).await?;
        let (mut hasher, mut size_bytes) = (Sha256::new(), 0);
        while let Some(chunk) =
            response.chunk().await.map_err(|error| Refusal::unanswered(ACTION, error).error)?
        {
            size_bytes += chunk.len() as u64;
            if size_bytes > file.size_bytes {
                return Err(damaged(file, format!("more than {} bytes", file.size_bytes)));
            }
            hasher.update(&chunk);
            written.write_all(&chunk).await?;
        }
        slipway_runtime::file::finish(&mut written).await?;
        let actual = hex::encode(hasher.finalize());
        if actual == file.sha256 { Ok(()) } else { Err(damaged(file, actual)) }
    }
}

fn damaged(file: &ManifestFile, actual: String) -> Error {
    Error::Digest { path: file.path.clone(), expected: file.sha256.clone(), actual }
}
