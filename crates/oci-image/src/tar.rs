//! The tar format, as far as images need it: ustar headers with GNU's long names.

use std::io::{Read, Write};

/// Headers and contents are filled up to blocks.
const BLOCK: usize = 512;
/// Longer names are in an entry of their own.
const NAME_BYTES: usize = 100;
const LONG_NAME: u8 = b'L';
const LONG_LINK: u8 = b'K';
const LONG_ENTRY: &str = "././@LongLink";

/// What an entry is.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'entry> {
    /// A regular file of this size in bytes. Its content follows the header.
    File(u64),
    /// A symbolic link and its target.
    Link(&'entry str),
    Folder,
}

/// What is in the header of an entry.
pub(crate) struct Entry<'entry> {
    pub(crate) name: &'entry str,
    pub(crate) mode: u32,
    /// Number of the user and of the group.
    pub(crate) owner: u32,
    pub(crate) kind: Kind<'entry>,
}

/// Writes entries without times and names of owners, so that the same input makes the same bytes.
pub(crate) struct Writer<W: Write> {
    output: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output }
    }

    /// Writes an entry that has no content, or whose content is `content`.
    pub(crate) fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn Read) -> std::io::Result<()> {
        let Entry { name, mode, owner, kind } = *entry;
        self.long(LONG_NAME, name)?;
        let (flag, link, bytes) = match kind {
            Kind::File(bytes) => (b'0', "", bytes),
            Kind::Link(target) => (b'2', target, 0),
            Kind::Folder => (b'5', "", 0),
        };
        self.long(LONG_LINK, link)?;
        self.output.write_all(&header(&Header { name, mode, owner, flag, link, bytes }))?;
        let copied = std::io::copy(&mut content.take(bytes), &mut self.output)?;
        if copied != bytes {
            return Err(std::io::Error::other(format!("{name} became shorter while it was read")));
        }
        self.fill(bytes)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> std::io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        Ok(self.output)
    }

    fn long(&mut self, flag: u8, text: &str) -> std::io::Result<()> {
        if text.len() <= NAME_BYTES {
            return Ok(());
        }
        let bytes = text.len() as u64 + 1;
        let (name, mode, owner, link) = (LONG_ENTRY, 0o644, 0, "");
        self.output.write_all(&header(&Header { name, mode, owner, flag, link, bytes }))?;
        self.output.write_all(text.as_bytes())?;
        self.output.write_all(&[0])?;
        self.fill(bytes)
    }

    fn fill(&mut self, bytes: u64) -> std::io::Result<()> {
        let rest = (bytes % BLOCK as u64) as usize;
        if rest == 0 { Ok(()) } else { self.output.write_all(&[0; BLOCK][rest..]) }
    }
}

struct Header<'entry> {
    name: &'entry str,
    mode: u32,
    owner: u32,
    flag: u8,
    link: &'entry str,
    bytes: u64,
}

/// See tar(5).
fn header(entry: &Header<'_>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |offset: usize, bytes: &[u8]| block[offset..offset + bytes.len()].copy_from_slice(bytes);
    let cut = |text: &str| text.bytes().take(NAME_BYTES).collect::<Vec<u8>>();
    put(0, &cut(entry.name));
    put(100, format!("{:07o}\0", entry.mode).as_bytes());
    put(108, format!("{0:07o}\0{0:07o}\0", entry.owner).as_bytes());
    put(124, format!("{:011o}\0", entry.bytes).as_bytes());
    put(136, b"00000000000\x00");
    // The checksum counts its own field as spaces.
    put(148, b"        ");
    put(156, &[entry.flag]);
    put(157, &cut(entry.link));
    put(257, b"ustar  \0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_reads_files_links_folders_and_long_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive.tar");
        let long = format!("folder/{}", "n".repeat(150));
        let mut writer = Writer::new(std::fs::File::create(&path).unwrap());
        let mut put = |name: &str, mode, kind, mut content: &[u8]| {
            writer.entry(&Entry { name, mode, owner: 65532, kind }, &mut content).unwrap();
        };
        put("folder", 0o755, Kind::Folder, b"");
        put(&long, 0o640, Kind::File(3), b"abc");
        put("folder/link", 0o777, Kind::Link(&long), b"");
        writer.finish().unwrap();
        let unpacked =
            Command::new("tar").arg("--extract").arg("--file").arg(&path).current_dir(&folder).output();
        let unpacked = unpacked.unwrap();
        assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
        assert_eq!(std::fs::read_to_string(folder.path().join(&long)).unwrap(), "abc");
        assert_eq!(std::fs::read_link(folder.path().join("folder/link")).unwrap().to_str(), Some(&*long));
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let mut writer = Writer::new(Vec::new());
        let entry = Entry { name: "file", mode: 0o644, owner: 0, kind: Kind::File(4) };
        let error = writer.entry(&entry, &mut &b"abc"[..]).unwrap_err();
        assert!(error.to_string().contains("file became shorter"), "{error}");
    }
}
