//! Tar archives, member by member: ustar with the long names and sizes of pax and GNU, as POSIX.1-2001
//! describes them.

use std::io::{self, Read};

const BLOCK_BYTES: usize = 512;
/// Of a long name, or the records of a pax header.
const MAX_EXTENDED_BYTES: u64 = 1024 * 1024;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    /// A device, a pipe, or what only one program knows.
    Other,
}

/// A member. Its content is read from the archive next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) size_bytes: u64,
}

/// Reads an archive.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    /// Bytes of the current member, and after them those up to the next block, that were not read.
    rest_bytes: u64,
    padding_bytes: u64,
}

/// What headers before a member say about it.
#[derive(Default)]
struct Extended {
    path: Option<String>,
    size_bytes: Option<u64>,
    is_sparse: bool,
}

impl<R: Read> Reader<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { input, rest_bytes: 0, padding_bytes: 0 }
    }

    /// The next member; `None` at the end of the archive. What was not read of the one before is skipped.
    ///
    /// # Errors
    /// It cannot be read, or is no archive.
    pub(super) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut extended = Extended::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size_bytes = number(&header[124..136])?;
            self.expect(size_bytes)?;
            match header[156] {
                b'L' => extended.path = Some(name(self.extended()?)?),
                b'x' => records(&self.extended()?, &mut extended)?,
                // Long targets of links, and what counts for all members: neither has a path or a size.
                b'K' | b'g' => {}
                flag => {
                    let path = match extended.path {
                        Some(path) => path,
                        None => name(path_of(&header))?,
                    };
                    if let Some(size_bytes) = extended.size_bytes {
                        self.expect(size_bytes)?;
                    }
                    let kind = match flag {
                        _ if extended.is_sparse => Kind::Other,
                        b'0' | 0 | b'7' if path.ends_with('/') => Kind::Folder,
                        b'0' | 0 | b'7' => Kind::File,
                        b'1' | b'2' => Kind::Link,
                        b'5' => Kind::Folder,
                        _ => Kind::Other,
                    };
                    return Ok(Some(Member { path, kind, size_bytes: self.rest_bytes }));
                }
            }
        }
    }

    /// Reads from the content of the current member; 0 at its end.
    ///
    /// # Errors
    /// The archive ends before.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.rest_bytes).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(invalid("the archive ends within a file"));
        }
        self.rest_bytes -= count as u64;
        Ok(count)
    }

    fn expect(&mut self, size_bytes: u64) -> io::Result<()> {
        let blocks = size_bytes.checked_next_multiple_of(BLOCK_BYTES as u64);
        let blocks = blocks.ok_or_else(|| invalid("a member is larger than any file"))?;
        (self.rest_bytes, self.padding_bytes) = (size_bytes, blocks - size_bytes);
        Ok(())
    }

    fn skip(&mut self) -> io::Result<()> {
        let bytes = self.rest_bytes.saturating_add(self.padding_bytes);
        let skipped = io::copy(&mut (&mut self.input).take(bytes), &mut io::sink())?;
        (self.rest_bytes, self.padding_bytes) = (0, 0);
        if skipped == bytes { Ok(()) } else { Err(invalid("the archive ends within a file")) }
    }

    /// The next header; `None` at the end, which is a block of zeros, or that of the input.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK_BYTES]>> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.input.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(invalid("the archive ends within a header")),
                count => filled += count,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The checksum counts as spaces itself.
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| match at {
                148..156 => 32,
                _ => u64::from(*byte),
            })
            .sum();
        if number(&block[148..156])? == sum { Ok(Some(block)) } else { Err(invalid("it is no tar archive")) }
    }

    fn extended(&mut self) -> io::Result<Vec<u8>> {
        if self.rest_bytes > MAX_EXTENDED_BYTES {
            return Err(invalid("a header of the archive has more than 1 MiB"));
        }
        let mut content = Vec::new();
        (&mut self.input).take(self.rest_bytes).read_to_end(&mut content)?;
        self.rest_bytes -= content.len() as u64;
        if self.rest_bytes == 0 { Ok(content) } else { Err(invalid("the archive ends within a header")) }
    }
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// Octal digits, or a big-endian number of GNU tar.
fn number(field: &[u8]) -> io::Result<u64> {
    let problem = || invalid("a header of the archive has no valid number");
    if let Some((0x80, rest)) = field.split_first().map(|(first, rest)| (*first, rest)) {
        let next = |value: u64, byte: &u8| value.checked_mul(256)?.checked_add(u64::from(*byte));
        return rest.iter().try_fold(0, next).ok_or_else(problem);
    }
    let text = std::str::from_utf8(until_nul(field)).map_err(|_| problem())?.trim();
    if text.is_empty() { Ok(0) } else { u64::from_str_radix(text, 8).map_err(|_| problem()) }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn path_of(header: &[u8; BLOCK_BYTES]) -> Vec<u8> {
    let (name, prefix) = (until_nul(&header[..100]), until_nul(&header[345..500]));
    let is_posix = &header[257..263] == b"ustar\0";
    if prefix.is_empty() || !is_posix { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn name(bytes: Vec<u8>) -> io::Result<String> {
    let bytes = until_nul(&bytes).to_vec();
    String::from_utf8(bytes).map_err(|_| invalid("the archive has a file whose name is not UTF-8"))
}

/// Reads `LENGTH KEY=VALUE\n`, again and again.
fn records(content: &[u8], extended: &mut Extended) -> io::Result<()> {
    let problem = || invalid("a pax header of the archive cannot be read");
    let mut rest = content;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(problem)?;
        let length = std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let length = length.filter(|length| *length > space && *length <= rest.len()).ok_or_else(problem)?;
        let record = rest[space + 1..length].strip_suffix(b"\n").ok_or_else(problem)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(problem)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extended.path = Some(name(value.to_vec())?),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                extended.size_bytes = Some(size.ok_or_else(problem)?);
            }
            _ if key.starts_with(b"GNU.sparse.") => extended.is_sparse = true,
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn members(archive: &[u8]) -> io::Result<Vec<(Member, Vec<u8>)>> {
        let mut reader = Reader::new(archive);
        let mut all = Vec::new();
        while let Some(member) = reader.next()? {
            let (mut content, mut buffer) = (Vec::new(), [0; 7]);
            loop {
                match reader.read(&mut buffer)? {
                    0 => break,
                    count => content.extend_from_slice(&buffer[..count]),
                }
            }
            all.push((member, content));
        }
        Ok(all)
    }

    fn archive(format: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("m/{}/{}", "d".repeat(120), "n".repeat(150));
        std::fs::create_dir_all(folder.path().join(&long).parent().unwrap()).unwrap();
        std::fs::write(folder.path().join(&long), [7; 1_000]).unwrap();
        std::fs::write(folder.path().join("m/empty"), b"").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("m/link")).unwrap();
        let mut tar = Command::new("tar");
        tar.args([&format!("--format={format}"), "--sort=name", "-c", "m"]).current_dir(folder.path());
        let output = tar.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn members_of_every_format_are_read_with_their_long_names() {
        for format in ["gnu", "pax"] {
            let found = members(&archive(format)).unwrap();
            let kinds: Vec<(Kind, usize)> =
                found.iter().map(|(member, content)| (member.kind, content.len())).collect();
            assert_eq!(
                kinds,
                [(Kind::Folder, 0), (Kind::Folder, 0), (Kind::File, 1_000), (Kind::File, 0), (Kind::Link, 0)],
                "{format}"
            );
            let long = &found[2].0.path;
            assert!(long.ends_with(&"n".repeat(150)) && long.starts_with("m/ddd"), "{format}: {long}");
            assert_eq!(found[3].0.path, "m/empty", "{format}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_archive_is_an_error() {
        let whole = archive("gnu");
        let found = members(&whole).unwrap();
        assert_eq!(members(&[]).unwrap(), []);
        for length in (1..whole.len()).step_by(100).filter(|length| !length.is_multiple_of(512)) {
            // The end of an archive is followed by empty blocks.
            match members(&whole[..length]) {
                Ok(members) => assert_eq!(members, found, "{length}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}"),
            }
        }
        assert!(members(&[1; 1_024]).unwrap_err().to_string().contains("no valid number"));
        let mut changed = whole;
        changed[0] ^= 1;
        assert_eq!(members(&changed).unwrap_err().to_string(), "it is no tar archive");
    }
}
