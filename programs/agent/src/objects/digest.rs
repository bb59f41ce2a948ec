//! SHA-256 of files.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{READ_BYTES, Range};

/// A digest in progress.
#[derive(Debug, Default)]
pub(super) struct Running {
    hasher: Sha256,
    bytes: u64,
}

impl Running {
    /// Hashes the rest of a reader.
    fn read(&mut self, mut reader: impl io::Read) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.hasher.update(&buffer[..read]);
            self.bytes += read as u64;
        }
    }

    /// Hashes a range of a file after what was hashed before.
    pub(super) fn read_range(mut self, path: &Path, range: Range) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(range.start))?;
        self.read(file.take(range.bytes))?;
        Ok(self)
    }

    /// The digest, lower-case hex.
    pub(super) fn hex(self) -> String {
        hex::encode(self.hasher.finalize())
    }
}

/// SHA-256 of a file, lower-case hex, and its length.
pub(super) fn digest(path: &Path) -> io::Result<(String, u64)> {
    let mut running = Running::default();
    running.read(File::open(path)?)?;
    let bytes = running.bytes;
    Ok((running.hex(), bytes))
}
