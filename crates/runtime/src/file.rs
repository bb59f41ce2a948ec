//! Files that are written through tokio.

use std::io;

use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

/// Waits until everything that was written to `file` is on the disk.
///
/// `File::sync_all` alone does not say whether the last write has failed, e.g. because the disk is full:
/// `write_all` has returned before the write is done.
///
/// # Errors
/// A write has failed, or the disk does.
pub async fn finish(file: &mut File) -> io::Result<()> {
    file.flush().await?;
    #[expect(clippy::disallowed_methods, reason = "after the flush")]
    file.sync_all().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_write_is_not_taken_for_a_success() {
        let mut file = File::options().write(true).open("/dev/full").await.unwrap();
        file.write_all(b"does not fit").await.unwrap();
        assert_eq!(finish(&mut file).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
