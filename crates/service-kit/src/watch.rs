//! Files that may change while the process runs: certificates, tokens.
//!
//! Their content is compared, not their dates: a Kubernetes Secret changes by a swapped link, and dates are
//! too coarse for a file that is written twice in a second.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often they are looked at.
const POLL_INTERVAL_MS: u64 = 1_000;
/// No file that is watched is longer.
pub const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What the files hold, in their order; or the first reason why one cannot be read.
pub type Contents = Result<Vec<Vec<u8>>, String>;

/// Reads all of them.
///
/// # Errors
/// One is not there, may not be read, or is over [`MAX_FILE_BYTES`]; the message names it.
pub fn read(paths: &[PathBuf]) -> Contents {
    let one = |path: &PathBuf| read_one(path).map_err(|error| format!("{}: {error}", path.display()));
    paths.iter().map(one).collect()
}

fn read_one(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Looks at the files each second and hands over what they hold whenever that is not what it was, beginning
/// with `known`; a reason why they cannot be read counts as content. Ends with the shutdown.
pub async fn watch(
    paths: Vec<PathBuf>,
    known: Vec<Vec<u8>>,
    shutdown: CancellationToken,
    mut changed: impl FnMut(&Contents) + Send,
) {
    let mut known: Contents = Ok(known);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)) => {}
        }
        let paths = paths.clone();
        // A disk that hangs must not hold up requests.
        let Ok(now) = tokio::task::spawn_blocking(move || read(&paths)).await else { continue };
        if now != known {
            changed(&now);
            known = now;
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_swapped_link_a_second_writing_and_a_missing_file_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", "one"), ("v2", "two")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("file"), text).unwrap();
        }
        std::os::unix::fs::symlink("v1", at("data")).unwrap();
        let paths = vec![at("data").join("file")];
        let (told, mut news) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let known = read(&paths).unwrap();
        assert_eq!(known, [b"one"]);
        let watching = tokio::spawn(watch(paths, known, shutdown.clone(), move |now| {
            let _ = told.send(now.clone());
        }));
        std::os::unix::fs::symlink("v2", at("next")).unwrap();
        std::fs::rename(at("next"), at("data")).unwrap();
        assert_eq!(news.recv().await.unwrap().unwrap(), [b"two"]);
        std::fs::write(at("v2/file"), "six").unwrap();
        assert_eq!(news.recv().await.unwrap().unwrap(), [b"six"]);
        std::fs::remove_file(at("v2/file")).unwrap();
        assert!(news.recv().await.unwrap().unwrap_err().contains("data/file"));
        std::fs::write(at("v2/file"), "six").unwrap();
        assert_eq!(news.recv().await.unwrap().unwrap(), [b"six"]);
        shutdown.cancel();
        watching.await.unwrap();
    }
}
