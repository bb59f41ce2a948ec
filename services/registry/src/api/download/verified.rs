//! A download that is hashed on its way out: damaged bytes end it before it is whole.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

/// Bytes that are hashed at a time, on a thread next to the one that passes them on.
const HASHED_AT_ONCE_BYTES: usize = 1024 * 1024;

/// Passes a stream on one chunk behind. The last chunk follows only when all bytes have that SHA-256
/// (lower-case hex); otherwise the stream ends with an error, so that no client takes the copy for whole.
pub(super) fn verified(
    source: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    sha256: String,
    blob_key: String,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let begin = State { source: Box::pin(source), hash: Hashing::default(), held: None, done: false };
    futures::stream::unfold(begin, move |mut state| {
        let (sha256, blob_key) = (sha256.clone(), blob_key.clone());
        async move {
            while !state.done {
                match state.source.next().await {
                    Some(Ok(chunk)) => {
                        if let Err(error) = state.hash.update(chunk.clone()).await {
                            state.done = true;
                            return Some((Err(error), state));
                        }
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
                        let found = match state.hash.finish().await {
                            Ok(found) => found,
                            Err(error) => return Some((Err(error), state)),
                        };
                        if found != sha256 {
                            tracing::error!(blob_key, sha256, found, "stored file damaged: download aborted");
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
    hash: Hashing,
    /// The chunk that waits for the next one, or for the verdict.
    held: Option<Bytes>,
    done: bool,
}

/// A hash that is taken next to the stream: while one stretch is hashed, the next one is read and sent. A
/// thread is taken for a stretch and not for the download, so that slow clients hold none.
#[derive(Default)]
struct Hashing {
    /// The hash of all before `gathered`; not here while `running` has it.
    hash: Sha256,
    running: Option<JoinHandle<Sha256>>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
}

impl Hashing {
    async fn update(&mut self, chunk: Bytes) -> Result<(), std::io::Error> {
        self.gathered_bytes += chunk.len();
        self.gathered.push(chunk);
        if self.gathered_bytes >= HASHED_AT_ONCE_BYTES {
            self.settle().await?;
            let (hash, chunks) = (std::mem::take(&mut self.hash), self.take());
            self.running = Some(tokio::task::spawn_blocking(move || updated(hash, &chunks)));
        }
        Ok(())
    }

    /// The hash of everything, in lower-case hex.
    async fn finish(&mut self) -> Result<String, std::io::Error> {
        self.settle().await?;
        let chunks = self.take();
        Ok(hex::encode(updated(std::mem::take(&mut self.hash), &chunks).finalize()))
    }

    async fn settle(&mut self) -> Result<(), std::io::Error> {
        if let Some(running) = self.running.take() {
            self.hash = running.await.map_err(std::io::Error::other)?;
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.gathered_bytes = 0;
        std::mem::take(&mut self.gathered)
    }
}

fn updated(mut hash: Sha256, chunks: &[Bytes]) -> Sha256 {
    for chunk in chunks {
        hash.update(chunk);
    }
    hash
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

    #[tokio::test]
    async fn what_is_hashed_in_stretches_is_judged_as_a_whole() {
        let chunk = "x".repeat(HASHED_AT_ONCE_BYTES / 3).leak();
        let chunks = [&*chunk; 10];
        let digest = hex::encode(Sha256::digest(chunks.concat()));
        let (text, whole) = read(&chunks, &digest).await;
        assert!(whole && text == chunks.concat());
        let mut damaged = chunks;
        damaged[4] = "y".repeat(HASHED_AT_ONCE_BYTES / 3).leak();
        let (text, whole) = read(&damaged, &digest).await;
        assert!(!whole && text.len() == 9 * chunk.len());
    }
}
