//! Checks the bytes of blobs.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::manifest::Blob;
use crate::imports::stream::Bytestream;

struct Checked {
    bytes: Bytestream,
    hasher: Sha256,
    seen_bytes: u64,
    digest: String,
    size_bytes: u64,
}

/// The same bytes, followed by an error unless they are those of the blob. More bytes than it has are not
/// passed on.
pub(super) fn verified(bytes: Bytestream, blob: &Blob) -> Bytestream {
    let checked = Checked {
        bytes,
        hasher: Sha256::new(),
        seen_bytes: 0,
        digest: blob.digest.clone(),
        size_bytes: blob.size_bytes,
    };
    stream::try_unfold(Some(checked), next).boxed()
}

async fn next(checked: Option<Checked>) -> Result<Option<(Bytes, Option<Checked>)>, String> {
    let Some(mut checked) = checked else { return Ok(None) };
    let Some(chunk) = checked.bytes.next().await.transpose()? else {
        return match checked.problem() {
            Some(problem) => Err(problem),
            None => Ok(None),
        };
    };
    checked.hasher.update(&chunk);
    checked.seen_bytes += chunk.len() as u64;
    if checked.seen_bytes > checked.size_bytes {
        return Err(format!(
            "the registry answers with more than the {} bytes of {}",
            checked.size_bytes, checked.digest
        ));
    }
    Ok(Some((chunk, Some(checked))))
}

impl Checked {
    fn problem(self) -> Option<String> {
        let Self { hasher, seen_bytes, digest, size_bytes, .. } = self;
        if seen_bytes != size_bytes {
            return Some(format!("expected {size_bytes} bytes of {digest}, got {seen_bytes}"));
        }
        let found = format!("sha256:{}", hex::encode(hasher.finalize()));
        (found != digest).then(|| format!("expected the bytes of {digest}, got those of {found}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn other_bytes_than_those_of_the_digest_are_an_error() {
        let blob =
            Blob { digest: format!("sha256:{}", hex::encode(Sha256::digest(b"abcdef"))), size_bytes: 6 };
        let read = async |chunks: &[&'static [u8]]| {
            let chunks: Vec<Result<Bytes, String>> =
                chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
            let mut checked = verified(stream::iter(chunks).boxed(), &blob);
            let mut all = Vec::new();
            while let Some(chunk) = checked.next().await {
                all.extend_from_slice(&chunk?);
            }
            Ok::<_, String>(all)
        };
        assert_eq!(read(&[b"abc", b"def"]).await, Ok(b"abcdef".to_vec()));
        assert!(read(&[b"abc", b"deg"]).await.unwrap_err().contains("got those of sha256:"));
        assert!(read(&[b"abc"]).await.unwrap_err().contains("expected 6 bytes"));
        assert!(read(&[b"abc", b"defg"]).await.unwrap_err().contains("more than the 6 bytes"));
    }
}
