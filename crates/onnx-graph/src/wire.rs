//! Protobuf's wire format, read as a stream: fields that are not needed are skipped.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

use super::{Fault, malformed};

/// Longest description of a value, and longest name, in bytes.
const MAX_FIELD_BYTES: u64 = 1024 * 1024;

pub(crate) const VARINT: u64 = 0;
pub(crate) const FIXED64: u64 = 1;
pub(crate) const LENGTH: u64 = 2;
pub(crate) const FIXED32: u64 = 5;

/// Bytes that can be skipped.
pub(crate) trait Source: BufRead {
    /// Skips `bytes`, which are known to be within the stream.
    fn pass(&mut self, bytes: u64) -> Result<(), Fault>;
}

/// A stream, which has to be read to be skipped.
pub(crate) struct Stream<R>(pub(crate) R);

/// A file, in which weights are jumped over.
pub(crate) struct Seekable(pub(crate) BufReader<File>);

impl<R: BufRead> io::Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: BufRead> BufRead for Stream<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.0.consume(bytes);
    }
}

impl<R: BufRead> Source for Stream<R> {
    fn pass(&mut self, bytes: u64) -> Result<(), Fault> {
        let mut left = bytes;
        while left > 0 {
            let available = self.0.fill_buf()?.len();
            if available == 0 {
                return Err(malformed("it ends too early"));
            }
            let step = usize::try_from(left).map_or(available, |left| left.min(available));
            self.0.consume(step);
            left -= step as u64;
        }
        Ok(())
    }
}

impl io::Read for Seekable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for Seekable {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.0.consume(bytes);
    }
}

impl Source for Seekable {
    fn pass(&mut self, bytes: u64) -> Result<(), Fault> {
        let step = i64::try_from(bytes).map_err(|_| malformed("a part of it is longer than any file"))?;
        Ok(self.0.seek_relative(step)?)
    }
}

/// Protobuf's wire format, from a stream.
pub(crate) struct Wire<R> {
    pub(crate) source: R,
    /// Bytes read so far.
    pub(crate) at: u64,
}

impl<R: Source> Wire<R> {
    pub(crate) fn tag(&mut self, end: u64) -> Result<(u64, u64), Fault> {
        let tag = self.varint(end)?;
        // Other readers cut longer tags off, and would see another field.
        if tag >> 3 == 0 || tag > u64::from(u32::MAX) {
            return Err(malformed("it is not a protobuf message, so it is no ONNX model"));
        }
        Ok((tag >> 3, tag & 7))
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.source.fill_buf()?.first().ok_or_else(|| malformed("it ends too early"))?;
        self.source.consume(1);
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn varint(&mut self, end: u64) -> Result<u64, Fault> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at >= end {
                return Err(malformed("it ends within a number"));
            }
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number in it is too long, so it is no ONNX model"))
    }

    /// A number of 32 bits: as protobuf does, the upper ones are cut off.
    pub(crate) fn int32(&mut self, end: u64) -> Result<i32, Fault> {
        #[expect(clippy::cast_possible_truncation, reason = "protobuf defines it so")]
        Ok((self.varint(end)? as u32).cast_signed())
    }

    /// Four bytes, as floats have them.
    pub(crate) fn fixed32(&mut self, end: u64) -> Result<[u8; 4], Fault> {
        let mut bytes = [0; 4];
        for byte in &mut bytes {
            if self.at >= end {
                return Err(malformed("it ends within a number"));
            }
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    /// Reads a length and returns where that many bytes end, which has to be within their parent.
    pub(crate) fn enter(&mut self, end: u64) -> Result<u64, Fault> {
        let length = self.varint(end)?;
        self.at.checked_add(length).filter(|inner| *inner <= end).ok_or_else(|| {
            malformed("a part of it is longer than the whole: it was cut off, or is no ONNX model")
        })
    }

    pub(crate) fn bytes(&mut self, end: u64) -> Result<Vec<u8>, Fault> {
        let inner = self.enter(end)?;
        let length = inner - self.at;
        if length > MAX_FIELD_BYTES {
            return Err(malformed(format!(
                "a description in it has {length} bytes, more than {MAX_FIELD_BYTES}"
            )));
        }
        self.take(inner)
    }

    pub(crate) fn text(&mut self, end: u64) -> Result<String, Fault> {
        Ok(String::from_utf8_lossy(&self.bytes(end)?).into_owned())
    }

    /// Everything up to `inner`, of which the caller knows that it is short.
    pub(crate) fn take(&mut self, inner: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        while self.at < inner {
            let available = self.source.fill_buf()?;
            if available.is_empty() {
                return Err(malformed("it ends too early"));
            }
            let step =
                usize::try_from(inner - self.at).map_or(available.len(), |left| left.min(available.len()));
            bytes.extend_from_slice(&available[..step]);
            self.source.consume(step);
            self.at += step as u64;
        }
        Ok(bytes)
    }

    pub(crate) fn skip(&mut self, kind: u64, end: u64) -> Result<(), Fault> {
        let inner = match kind {
            VARINT => return self.varint(end).map(drop),
            LENGTH => self.enter(end)?,
            FIXED64 | FIXED32 => {
                let inner = self.at + if kind == FIXED64 { 8 } else { 4 };
                if inner > end {
                    return Err(malformed("it ends within a number"));
                }
                inner
            }
            _ => return Err(malformed("it is not a protobuf message, so it is no ONNX model")),
        };
        self.pass(inner)
    }

    /// Passes over everything up to `inner`.
    pub(crate) fn pass(&mut self, inner: u64) -> Result<(), Fault> {
        if inner > self.at {
            self.source.pass(inner - self.at)?;
            self.at = inner;
        }
        Ok(())
    }
}
