//! Bounded reading of a file or a part of it: nothing here allocates by a length that the file claims.

use std::io::{self, Read, Seek, SeekFrom};

const BUFFER_BYTES: usize = 64 * 1024;

/// What a scan reads from.
pub(crate) trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// A window on a source, with its own position.
pub(crate) struct Input<'a> {
    source: &'a mut dyn Source,
    /// Where the window begins in the source.
    base: u64,
    length: u64,
    /// Of the next byte, within the window.
    position: u64,
    buffer: Vec<u8>,
    /// Of the buffer's first byte, within the window.
    buffered_from: u64,
}

/// What a line held, up to a bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its first bytes, without the end of the line.
    pub(crate) kept: Vec<u8>,
    /// Whether these are all of its bytes.
    pub(crate) whole: bool,
}

impl<'a> Input<'a> {
    pub(crate) fn new(source: &'a mut dyn Source) -> io::Result<Self> {
        let length = source.seek(SeekFrom::End(0))?;
        Ok(Self { source, base: 0, length, position: 0, buffer: Vec::new(), buffered_from: 0 })
    }

    /// The bytes from `start`, `length` of them at most.
    pub(crate) fn section(&mut self, start: u64, length: u64) -> Input<'_> {
        let start = start.min(self.length);
        let length = length.min(self.length - start);
        let base = self.base + start;
        Input { source: &mut *self.source, base, length, position: 0, buffer: Vec::new(), buffered_from: 0 }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.length - self.position
    }

    pub(crate) fn seek(&mut self, position: u64) {
        self.position = position.min(self.length);
    }

    /// Goes over `count` bytes; false, and to the end, where there are fewer.
    pub(crate) fn skip(&mut self, count: u64) -> bool {
        let enough = count <= self.remaining();
        self.position = self.position.saturating_add(count).min(self.length);
        enough
    }

    /// What is buffered from the current position; empty at the end only.
    fn available(&mut self) -> io::Result<&[u8]> {
        let end = self.buffered_from + self.buffer.len() as u64;
        if !(self.buffered_from..end).contains(&self.position) {
            let wanted = self.remaining().min(BUFFER_BYTES as u64);
            self.buffer.clear();
            self.buffered_from = self.position;
            self.source.seek(SeekFrom::Start(self.base + self.position))?;
            (&mut *self.source).take(wanted).read_to_end(&mut self.buffer)?;
            if (self.buffer.len() as u64) < wanted {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file became shorter while it was read",
                ));
            }
        }
        Ok(&self.buffer[(self.position - self.buffered_from) as usize..])
    }

    /// The next byte, if there is one.
    pub(crate) fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.available()?.first().copied();
        self.position += u64::from(byte.is_some());
        Ok(byte)
    }

    /// The next `N` bytes; none where there are fewer.
    pub(crate) fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut array = [0; N];
        if self.remaining() < N as u64 {
            return Ok(None);
        }
        self.read_exact(&mut array)?;
        Ok(Some(array))
    }

    /// The next `count` bytes, of which `keep` are kept; none where there are fewer.
    pub(crate) fn take_bytes(&mut self, count: u64, keep: usize) -> io::Result<Option<Vec<u8>>> {
        if count > self.remaining() {
            return Ok(None);
        }
        let kept = count.min(keep as u64);
        let mut bytes = vec![0; kept as usize];
        self.read_exact(&mut bytes)?;
        self.skip(count - kept);
        Ok(Some(bytes))
    }

    /// Up to `count` bytes at `offset`, without moving.
    pub(crate) fn peek(&mut self, offset: u64, count: usize) -> io::Result<Vec<u8>> {
        let position = self.position;
        self.seek(offset);
        let count = self.remaining().min(count as u64);
        let mut bytes = vec![0; count as usize];
        self.read_exact(&mut bytes)?;
        self.position = position;
        Ok(bytes)
    }

    /// The bytes up to the next line feed, which is read too; none at the end. A last line without a feed
    /// loses its last byte instead, as in CPython, which takes whatever stands there for the feed.
    pub(crate) fn line(&mut self, keep: usize) -> io::Result<Option<Line>> {
        let mut line = Line { kept: Vec::new(), whole: true };
        let mut length = 0_usize;
        loop {
            let available = self.available()?;
            if available.is_empty() {
                line.kept.truncate(length.saturating_sub(1).min(keep));
                return Ok((length > 0).then_some(line));
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let bytes = &available[..end.unwrap_or(available.len())];
            let fitting = bytes.len().min(keep - line.kept.len());
            line.kept.extend_from_slice(&bytes[..fitting]);
            line.whole &= fitting == bytes.len();
            length += bytes.len();
            self.position += bytes.len() as u64 + u64::from(end.is_some());
            if end.is_some() {
                return Ok(Some(line));
            }
        }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.available()?;
        let count = available.len().min(into.len());
        into[..count].copy_from_slice(&available[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_section_reads_its_own_bytes_and_leaves_the_outer_position() {
        let mut source = Cursor::new(b"0123456789".to_vec());
        let mut input = Input::new(&mut source).unwrap();
        input.skip(2);
        let mut section = input.section(4, 3);
        assert_eq!(section.take_bytes(3, 8).unwrap().unwrap(), b"456");
        assert_eq!(section.byte().unwrap(), None);
        assert_eq!(input.byte().unwrap(), Some(b'2'));
        assert_eq!(input.section(8, u64::MAX).length(), 2);
    }

    #[test]
    fn a_claimed_length_beyond_the_end_is_no_allocation() {
        let mut source = Cursor::new(b"abc".to_vec());
        let mut input = Input::new(&mut source).unwrap();
        assert_eq!(input.take_bytes(u64::MAX, usize::MAX).unwrap(), None);
        assert!(!input.skip(u64::MAX));
        assert_eq!(input.remaining(), 0);
    }

    #[test]
    fn a_line_ends_at_its_feed_and_keeps_what_fits() {
        let mut source = Cursor::new(b"long line\nx\nrest".to_vec());
        let mut input = Input::new(&mut source).unwrap();
        assert_eq!(input.line(4).unwrap().unwrap(), Line { kept: b"long".to_vec(), whole: false });
        assert_eq!(input.line(4).unwrap().unwrap(), Line { kept: b"x".to_vec(), whole: true });
        assert_eq!(input.line(4).unwrap().unwrap(), Line { kept: b"res".to_vec(), whole: true });
        assert_eq!(input.line(4).unwrap(), None);
    }
}
