//! A download that is hashed on its way out: damaged bytes end it before it is whole.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};

/// Passes a stream on one chunk behind. The last chunk follows only when all bytes have that SHA-256 (lower-case hex); otherwise the
/// stream ends with an error, so that no client takes the copy for whole.
pub(super) fn verified(
    source: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    sha256: String,
    blob_key: String,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let begin = State { source: Box::pin(source), hash: Sha256::new(), held: None, done: false };
    futures::stream::unfold(begin, move |mut state| {
        let (sha256, blob_key) = (sha256.clone(), blob_key.clone());
        async move {
            while !state.done {
                match state.source.next().await {
                    Some(Ok(chunk)) => {
                        state.hash.update(&chunk);
                        if let Some(before) = state.held.replace(chunk) {
                            return Some((Ok(before), state));
                        }
                    }
                    Some(Err(error)) => {
                        state.done = true;
                        return Some((Err(error), state));
                    }
                    None => {
                        state.done = true;
                        let found = hex::encode(state.hash.finalize_reset());
                        if found != sha256 {
                            tracing::error!(
                                blob_key,
                                sha256,
                                found,
                                "a stored file is damaged: its download is broken off"
                            );
                            return Some((Err(std::io::Error::other("the stored file is damaged")), state));
                        }
                        return state.held.take().map(|last| (Ok(last), state));
                    }
                }
            }
            None
        }
    })
}

struct State<S> {
    source: std::pin::Pin<Box<S>>,
    hash: Sha256,
    /// The chunk that waits for the next one, or for the verdict.
    held: Option<Bytes>,
    done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(chunks: &[&'static str], sha256: &str) -> (String, bool) {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        let stream = verified(futures::stream::iter(chunks), sha256.to_owned(), "key".to_owned());
        let read: Vec<_> = stream.collect().await;
        let text = read.iter().flatten().map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect();
        (text, read.iter().all(Result::is_ok))
    }

    #[tokio::test]
    async fn whole_files_pass_and_damaged_ones_lack_their_end() {
        let digest = |text: &str| hex::encode(Sha256::digest(text));
        assert_eq!(
            read(&["one ", "two ", "three"], &digest("one two three")).await,
            ("one two three".to_owned(), true)
        );
        assert_eq!(read(&[], &digest("")).await, (String::new(), true));
        let (text, whole) = read(&["one ", "twO ", "three"], &digest("one two three")).await;
        assert_eq!((text.as_str(), whole), ("one twO ", false));
        assert!(!read(&["one "], &digest("one two")).await.1, "cut off is damaged, too");
    }
}
