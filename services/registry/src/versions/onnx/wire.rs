//! Protobuf's wire format, read as a stream: what is not asked for is skipped.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

use super::{Fault, malformed};

/// A description of one value, or a name, is this long at most.
const MAX_FIELD_BYTES: u64 = 1024 * 1024;

pub(super) const VARINT: u64 = 0;
const FIXED64: u64 = 1;
pub(super) const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// Protobuf's wire format, from a stream.
pub(super) struct Wire<R> {
    pub(super) source: R,
    /// Bytes read so far.
    pub(super) at: u64,
}

impl<R: AsyncBufRead + Unpin> Wire<R> {
    pub(super) async fn tag(&mut self, end: u64) -> Result<(u64, u64), Fault> {
        let tag = self.varint(end).await?;
        if tag >> 3 == 0 {
            return Err(malformed("it is not a protobuf message, so it is no ONNX model"));
        }
        Ok((tag >> 3, tag & 7))
    }

    async fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.source.fill_buf().await?.first().ok_or_else(|| malformed("it ends too early"))?;
        self.source.consume(1);
        self.at += 1;
        Ok(byte)
    }

    pub(super) async fn varint(&mut self, end: u64) -> Result<u64, Fault> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at >= end {
                return Err(malformed("it ends within a number"));
            }
            let byte = self.byte().await?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number in it is too long, so it is no ONNX model"))
    }

    /// Reads a length and says where what follows ends; that has to be within its parent.
    pub(super) async fn enter(&mut self, end: u64) -> Result<u64, Fault> {
        let length = self.varint(end).await?;
        self.at.checked_add(length).filter(|inner| *inner <= end).ok_or_else(|| {
            malformed("a part of it is longer than the whole: it was cut off, or is no ONNX model")
        })
    }

    pub(super) async fn bytes(&mut self, end: u64) -> Result<Vec<u8>, Fault> {
        let inner = self.enter(end).await?;
        let length = inner - self.at;
        if length > MAX_FIELD_BYTES {
            return Err(malformed(format!(
                "a description in it has {length} bytes, more than {MAX_FIELD_BYTES}"
            )));
        }
        self.take(inner).await
    }

    /// Everything up to `inner`, of which the caller knows that it is little.
    pub(super) async fn take(&mut self, inner: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        while self.at < inner {
            bytes.push(self.byte().await?);
        }
        Ok(bytes)
    }

    pub(super) async fn skip(&mut self, kind: u64, end: u64) -> Result<(), Fault> {
        let inner = match kind {
            VARINT => return self.varint(end).await.map(drop),
            LENGTH => self.enter(end).await?,
            FIXED64 | FIXED32 => {
                let inner = self.at + if kind == FIXED64 { 8 } else { 4 };
                if inner > end {
                    return Err(malformed("it ends within a number"));
                }
                inner
            }
            _ => return Err(malformed("it is not a protobuf message, so it is no ONNX model")),
        };
        self.pass(inner).await
    }

    /// Passes over everything up to `inner`.
    pub(super) async fn pass(&mut self, inner: u64) -> Result<(), Fault> {
        while self.at < inner {
            let available = self.source.fill_buf().await?.len();
            if available == 0 {
                return Err(malformed("it ends too early"));
            }
            let step = usize::try_from(inner - self.at).map_or(available, |left| left.min(available));
            self.source.consume(step);
            self.at += step as u64;
        }
        Ok(())
    }
}
