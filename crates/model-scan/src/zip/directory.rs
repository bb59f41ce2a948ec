//! The central directory of a zip archive, held against the local headers. Python, torch's reader and
//! unpackers look at different ones of the two, so they have to agree.

use std::io;

use crate::{input::Input, path, report::Code, scanner::Scanner};

/// The whole central directory; a hundred thousand members with usual names take a tenth of it.
const MAX_DIRECTORY_BYTES: u64 = 64 * 1024 * 1024;
const END_BYTES: usize = 22;
const MAX_COMMENT_BYTES: usize = u16::MAX as usize;
const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const LOCATOR_BYTES: u64 = 20;
const END_64_BYTES: u64 = 56;
const ENTRY_BYTES: u64 = 46;
const LOCAL_BYTES: usize = 30;
/// A data descriptor with its signature and 64-bit sizes.
const MAX_DESCRIPTOR_BYTES: u64 = 24;
/// General purpose bit: sizes come after the data.
const FLAG_DESCRIPTOR: u16 = 0x0008;
/// General purpose bits that say how a member is read: encrypted, sizes after the data, name in UTF-8.
const FLAGS_COMPARED: u16 = 0x0001 | FLAG_DESCRIPTOR | 0x0800;
const EXTRA_ZIP64: u16 = 0x0001;
const EXTRA_UNICODE_PATH: u16 = 0x7075;
const SATURATED_32: u64 = u32::MAX as u64;

/// Where a member's content lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// A member, as the directory lists it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) size: u64,
    pub(super) external_attributes: u32,
    packed: u64,
    header: u64,
    /// None where the local header could not be read.
    pub(super) data: Option<Extent>,
}

impl Entry {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    pub(super) fn is_directory(&self) -> bool {
        self.name.ends_with(b"/") && self.size == 0
    }
}

/// The end record, with 64-bit numbers where the archive has them.
#[derive(Debug)]
struct End {
    /// Of the record itself, or of the 64-bit one before it.
    at: u64,
    entries: u64,
    directory_bytes: u64,
    directory_offset: u64,
    /// What is wrong with it.
    faults: Vec<String>,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16_at(bytes, at)) | u64::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u32_at(bytes, at) | u32_at(bytes, at + 4) << 32
}

/// Whether a reader that looks for a directory at the end of the file finds one.
pub(crate) fn has_directory(input: &mut Input<'_>) -> io::Result<bool> {
    let Some(end) = find_end(input)? else { return Ok(false) };
    let Some(start) = end.at.checked_sub(end.directory_bytes) else { return Ok(false) };
    Ok(input.peek(start, 4)? == b"PK\x01\x02")
}

fn find_end(input: &mut Input<'_>) -> io::Result<Option<End>> {
    let length = input.length();
    let tail_from = length.saturating_sub((END_BYTES + MAX_COMMENT_BYTES) as u64);
    let tail = input.peek(tail_from, END_BYTES + MAX_COMMENT_BYTES)?;
    let found: Vec<usize> = (0..(tail.len() + 1).saturating_sub(END_BYTES))
        .filter(|at| tail[*at..].starts_with(END_SIGNATURE))
        .collect();
    let Some(&last) = found.last() else { return Ok(None) };
    let ends_file = |at: usize| at + END_BYTES + usize::from(u16_at(&tail, at + 20)) == tail.len();
    let record = &tail[last..];
    let at = tail_from + last as u64;
    let mut end = End {
        at,
        entries: u64::from(u16_at(record, 10)),
        directory_bytes: u32_at(record, 12),
        directory_offset: u32_at(record, 16),
        faults: Vec::new(),
    };
    if !ends_file(last) {
        end.faults
            .push("its end record does not end with the file, so readers may take another one".to_owned());
    }
    if found.iter().filter(|at| ends_file(**at)).count() > 1 {
        end.faults.push("two end records end with the file, so readers may take either".to_owned());
    }
    let disks = [u16_at(record, 4), u16_at(record, 6)];
    if disks.iter().any(|disk| !matches!(disk, 0 | 0xffff)) || u16_at(record, 8) != u16_at(record, 10) {
        end.faults.push("it is a part of an archive on several disks".to_owned());
    }
    read_end_64(input, &mut end)?;
    Ok(Some(end))
}

/// The 64-bit end record, which stands before its locator, which stands before the end record.
fn read_end_64(input: &mut Input<'_>, end: &mut End) -> io::Result<()> {
    let Some(record_at) = end.at.checked_sub(LOCATOR_BYTES + END_64_BYTES) else { return Ok(()) };
    let bytes = input.peek(record_at, (LOCATOR_BYTES + END_64_BYTES) as usize)?;
    let (record, locator) = bytes.split_at(END_64_BYTES as usize);
    let saturated =
        end.entries == 0xffff || end.directory_bytes == SATURATED_32 || end.directory_offset == SATURATED_32;
    if !locator.starts_with(b"PK\x06\x07") {
        if saturated {
            end.faults.push(
                "it has more members or bytes than its end record can tell, and no 64-bit one".to_owned(),
            );
        }
        return Ok(());
    }
    if !record.starts_with(b"PK\x06\x06") || u64_at(record, 4) != END_64_BYTES - 12 {
        end.faults.push("its 64-bit end record is not where its locator follows it".to_owned());
        return Ok(());
    }
    let (entries, bytes, offset) = (u64_at(record, 32), u64_at(record, 40), u64_at(record, 48));
    let agree = |short: u64, long: u64, limit: u64| short == limit || short == long;
    if !agree(end.entries, entries, 0xffff)
        || !agree(end.directory_bytes, bytes, SATURATED_32)
        || !agree(end.directory_offset, offset, SATURATED_32)
    {
        end.faults.push("its two end records give different numbers".to_owned());
    }
    let prefix = record_at.checked_sub(bytes).and_then(|start| start.checked_sub(offset));
    if prefix.is_none_or(|prefix| prefix.checked_add(u64_at(locator, 8)) != Some(record_at)) {
        end.faults.push("its locator points to another place than that of the 64-bit end record".to_owned());
    }
    (end.at, end.entries, end.directory_bytes, end.directory_offset) = (record_at, entries, bytes, offset);
    Ok(())
}

/// Reads the directory and holds it against the local headers; none where it cannot be read at all.
pub(super) fn read(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    path: &str,
) -> io::Result<Option<Vec<Entry>>> {
    let Some(end) = find_end(input)? else {
        scanner.find(
            Code::CannotBeFollowed,
            path,
            "it begins as a zip archive, but has no directory at its end",
        );
        return Ok(None);
    };
    for fault in &end.faults {
        scanner.find(Code::ZipDirectoryMismatch, path, fault.clone());
    }
    let start = end.at.checked_sub(end.directory_bytes);
    let Some((start, prefix)) =
        start.and_then(|start| Some((start, start.checked_sub(end.directory_offset)?)))
    else {
        scanner.find(Code::CannotBeFollowed, path, "its directory would begin before the file does");
        return Ok(None);
    };
    if end.directory_bytes > MAX_DIRECTORY_BYTES {
        let detail =
            format!("its directory has {} bytes; {MAX_DIRECTORY_BYTES} is the limit", end.directory_bytes);
        scanner.find(Code::LimitExceeded, path, detail);
        return Ok(None);
    }
    let begins_file = input.peek(0, 2)? == b"PK";
    if begins_file && prefix != 0 {
        let detail = format!("the offsets of its directory are wrong by {prefix} bytes");
        scanner.find(Code::ZipDirectoryMismatch, path, detail);
    }
    let Some(mut entries) = read_entries(scanner, input, (start, end.directory_bytes), prefix)? else {
        scanner.find(Code::CannotBeFollowed, path, "an entry of its directory is broken");
        return Ok(None);
    };
    if entries.len() as u64 != end.entries {
        let detail = format!("its directory lists {} members, its end record {}", entries.len(), end.entries);
        scanner.find(Code::ZipDirectoryMismatch, path, detail);
    }
    for entry in &mut entries {
        compare_local(scanner, input, path, entry, start)?;
    }
    check_extents(scanner, path, &entries, start, begins_file.then_some(0));
    Ok(Some(entries))
}

fn read_entries(
    scanner: &Scanner<'_>,
    input: &mut Input<'_>,
    (start, length): (u64, u64),
    prefix: u64,
) -> io::Result<Option<Vec<Entry>>> {
    let mut directory = input.section(start, length);
    let mut entries = Vec::new();
    while directory.remaining() > 0 && entries.len() as u64 <= scanner.policy.limits.members {
        let Some(fixed) = directory.take_bytes(ENTRY_BYTES, ENTRY_BYTES as usize)? else { return Ok(None) };
        if !fixed.starts_with(b"PK\x01\x02") {
            return Ok(None);
        }
        let lengths = [28, 30, 32].map(|at| u64::from(u16_at(&fixed, at)));
        let Some(name) = directory.take_bytes(lengths[0], u16::MAX.into())? else { return Ok(None) };
        let Some(extra) = directory.take_bytes(lengths[1], u16::MAX.into())? else { return Ok(None) };
        if !directory.skip(lengths[2]) {
            return Ok(None);
        }
        let mut numbers = [u32_at(&fixed, 24), u32_at(&fixed, 20), u32_at(&fixed, 42)];
        if !widen(&extra, &mut numbers) || !same_unicode_path(&extra, &name) || u16_at(&fixed, 34) != 0 {
            return Ok(None);
        }
        let Some(header) = numbers[2].checked_add(prefix) else { return Ok(None) };
        entries.push(Entry {
            name,
            flags: u16_at(&fixed, 8),
            method: u16_at(&fixed, 10),
            size: numbers[0],
            packed: numbers[1],
            external_attributes: u32_at(&fixed, 38) as u32,
            header,
            data: None,
        });
    }
    Ok(Some(entries))
}

/// The extra fields with this id; none where the extra data are broken.
fn extra_field(mut extra: &[u8], id: u16) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    // Up to three bytes are padding that some writers leave.
    while extra.len() >= 4 {
        let length = usize::from(u16_at(extra, 2));
        let content = extra.get(4..4 + length)?;
        if u16_at(extra, 0) == id {
            found.push(content);
        }
        extra = &extra[4 + length..];
    }
    Some(found)
}

/// Replaces saturated numbers by those of the 64-bit extra field, which holds just these, in order.
fn widen(extra: &[u8], numbers: &mut [u64]) -> bool {
    let Some(fields) = extra_field(extra, EXTRA_ZIP64) else { return false };
    let mut rest = match fields.as_slice() {
        [] => return true,
        [field] => *field,
        _ => return false,
    };
    for number in numbers.iter_mut().filter(|number| **number == SATURATED_32) {
        if rest.len() < 8 {
            return false;
        }
        *number = u64_at(rest, 0);
        rest = &rest[8..];
    }
    true
}

/// Newer readers take a member's name from this extra field, older ones do not.
fn same_unicode_path(extra: &[u8], name: &[u8]) -> bool {
    extra_field(extra, EXTRA_UNICODE_PATH)
        .is_some_and(|fields| fields.iter().all(|field| field.get(5..).is_some_and(|path| path == name)))
}

fn compare_local(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    archive: &str,
    entry: &mut Entry,
    directory: u64,
) -> io::Result<()> {
    let path = path::inside(archive, &entry.text());
    let fixed = input.peek(entry.header, LOCAL_BYTES)?;
    if fixed.len() < LOCAL_BYTES || !fixed.starts_with(b"PK\x03\x04") {
        scanner.find(Code::ZipDirectoryMismatch, &path, "there is no local header where the directory says");
        return Ok(());
    }
    let lengths = [u16_at(&fixed, 26), u16_at(&fixed, 28)].map(usize::from);
    let variable = input.peek(entry.header + LOCAL_BYTES as u64, lengths[0] + lengths[1])?;
    let start = entry.header + (LOCAL_BYTES + lengths[0] + lengths[1]) as u64;
    if start.checked_add(entry.packed).is_none_or(|end| end > directory) {
        scanner.find(Code::ZipDirectoryMismatch, &path, "its content would reach into the directory");
        return Ok(());
    }
    let (name, extra) = variable.split_at(lengths[0].min(variable.len()));
    if name != entry.name {
        let local = path::shown(&String::from_utf8_lossy(name));
        let detail = format!("its local header calls it `{local}`, so readers may disagree about its name");
        scanner.find(Code::ZipDirectoryMismatch, &path, detail);
    }
    let (flags, method) = (u16_at(&fixed, 6), u16_at(&fixed, 8));
    if method != entry.method || (flags ^ entry.flags) & FLAGS_COMPARED != 0 {
        scanner.find(
            Code::ZipDirectoryMismatch,
            &path,
            "its local header gives another method or other flags",
        );
    }
    let mut sizes = [u32_at(&fixed, 22), u32_at(&fixed, 18)];
    let readable = widen(extra, &mut sizes) && same_unicode_path(extra, &entry.name);
    let later = flags & FLAG_DESCRIPTOR != 0 && sizes == [0, 0];
    if !readable || (!later && sizes != [entry.size, entry.packed]) {
        let detail = format!(
            "its local header gives it {} bytes packed in {}, the directory {} in {}",
            sizes[0], sizes[1], entry.size, entry.packed
        );
        scanner.find(Code::ZipDirectoryMismatch, &path, detail);
    }
    entry.data = Some(Extent { start, length: entry.packed });
    Ok(())
}

/// Members have to follow each other without overlap and without bytes between them that no one lists.
fn check_extents(
    scanner: &mut Scanner<'_>,
    path: &str,
    entries: &[Entry],
    directory: u64,
    begin: Option<u64>,
) {
    let mut placed: Vec<(u64, u64, u64)> = entries
        .iter()
        .filter_map(|entry| {
            let data = entry.data?;
            let descriptor = if entry.flags & FLAG_DESCRIPTOR != 0 { MAX_DESCRIPTOR_BYTES } else { 0 };
            Some((entry.header, data.start + data.length, descriptor))
        })
        .collect();
    placed.sort_unstable();
    let (Some(first), Some(last)) = (placed.first(), placed.last().copied()) else { return };
    if begin.is_some_and(|begin| first.0 != begin) {
        scanner.find(
            Code::ZipUnlistedBytes,
            path,
            format!("{} bytes stand before its first member", first.0),
        );
    }
    let next = placed.iter().skip(1).map(|place| place.0).chain([directory]);
    let mut overlap = false;
    let mut unlisted = None;
    for (place, next) in placed.iter().zip(next) {
        match next.checked_sub(place.1) {
            None => overlap = true,
            Some(gap) if gap > place.2 => unlisted = unlisted.or(Some((place.1, gap))),
            Some(_) => {}
        }
    }
    if overlap || last.1 > directory {
        scanner.find(Code::ZipOverlap, path, "its members share bytes; each was expected to have its own");
    }
    if let Some((at, gap)) = unlisted {
        let detail = format!("{gap} bytes at byte {at} belong to no member that its directory lists");
        scanner.find(Code::ZipUnlistedBytes, path, detail);
    }
}
