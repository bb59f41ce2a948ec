//! A layer as the blob of an image.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt as _;

use flate2::GzBuilder;
use sha2::{Digest as _, Sha256};

/// How the blob of a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all: faster to make and to import.
    #[default]
    None,
    /// As registries expect it.
    Gzip,
}

impl Compression {
    /// The media type of such a layer, below that of images.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::None => "layer.v1.tar",
            Self::Gzip => "layer.v1.tar+gzip",
        }
    }
}

/// A layer as a blob; it can be part of several images.
#[derive(Debug)]
pub struct SealedLayer {
    pub(crate) compression: Compression,
    /// SHA-256 of the blob.
    pub(crate) digest: String,
    /// SHA-256 of the archive before compression.
    pub(crate) diff_id: String,
    bytes: u64,
    blob: File,
}

impl SealedLayer {
    /// Size of the blob, in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes a blob of what `write` writes.
    pub(crate) fn of(
        compression: Compression,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> std::io::Result<Self> {
        let blob = Hashing::of(tempfile::tempfile()?);
        let (blob, diff_id) = match compression {
            Compression::None => {
                let mut archive = blob;
                write(&mut archive)?;
                let diff_id = archive.digest();
                (archive, diff_id)
            }
            Compression::Gzip => {
                // No time and no name of a file in the header.
                let gzip = GzBuilder::new().write(blob, flate2::Compression::best());
                let mut archive = Hashing::of(gzip);
                write(&mut archive)?;
                let diff_id = archive.digest();
                (archive.output.finish()?, diff_id)
            }
        };
        let digest = blob.digest();
        Ok(Self { compression, digest, diff_id, bytes: blob.bytes, blob: blob.output })
    }

    /// Its bytes, from the first one.
    pub(crate) const fn reader(&self) -> impl Read {
        BlobReader { blob: &self.blob, offset: 0 }
    }
}

/// Counts and hashes what is written.
struct Hashing<W> {
    output: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn of(output: W) -> Self {
        Self { output, hasher: Sha256::new(), bytes: 0 }
    }

    fn digest(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.output.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

/// Reads a file that several readers share.
struct BlobReader<'layer> {
    blob: &'layer File,
    offset: u64,
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.blob.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
