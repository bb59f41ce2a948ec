//! Tar archives: ustar, pax and GNU headers as Python's `Lib/tarfile.py` and POSIX.1-2001 describe them. What
//! needs more than names and sizes, such as sparse files, is not followed.

use std::io;

use crate::{
    input::Input,
    path,
    report::Code,
    scanner::{Place, Role, Scanner},
};

const BLOCK_BYTES: u64 = 512;
/// Of a long name or the records of a pax header.
const MAX_HEADER_BYTES: u64 = 1024 * 1024;

/// What headers before a member say about it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Whether a block is the header of a tar member, by its checksum: the sum of all bytes, with its own field
/// as spaces.
pub(crate) fn is_header(block: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let Some(block) = block.get(..512) else { return false };
    let Some(stated) = number(&block[CHECKSUM]).and_then(|sum| i64::try_from(sum).ok()) else {
        return false;
    };
    // Some old programs added the bytes as signed numbers, and readers accept that.
    let sum = |value: fn(u8) -> i64| -> i64 {
        let bytes = block.iter().enumerate();
        bytes.map(|(at, byte)| if CHECKSUM.contains(&at) { 32 } else { value(*byte) }).sum()
    };
    stated != 0 && (stated == sum(i64::from) || stated == sum(|byte| i64::from(byte.cast_signed())))
}

/// A numeric field: octal up to a NUL or a space, or a big-endian number of GNU tar.
pub(crate) fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first().map(|(first, rest)| (*first, rest)) {
        return rest
            .iter()
            .try_fold(0_u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    // Python's `int` reads more than other programs do.
    let text = std::str::from_utf8(text).ok()?.trim().replace('_', "");
    let text = text.strip_prefix("0o").unwrap_or(&text);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Looks at every member of an archive.
pub(crate) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<()> {
    let mut names = path::Names::default();
    let mut extended = Extended::default();
    loop {
        let at = input.position();
        let Some(block) = input.array::<{ BLOCK_BYTES as usize }>()? else {
            let detail = format!("at byte {at} it ends without the block of zeros that ends a tar archive");
            scanner.find(Code::CannotBeFollowed, place.path, detail);
            return Ok(());
        };
        if block.iter().all(|byte| *byte == 0) {
            return check_rest(scanner, input, place.path);
        }
        let size = number(&block[124..136]);
        let (true, Some(size)) = (is_header(&block), size) else {
            let detail = format!("the block at byte {at} is no header of a tar member");
            scanner.find(Code::CannotBeFollowed, place.path, detail);
            return Ok(());
        };
        let kind = block[156];
        if matches!(kind, b'L' | b'x' | b'K' | b'g') {
            if !read_extended(scanner, input, place.path, kind, size, &mut extended)? {
                return Ok(());
            }
            continue;
        }
        let extended = std::mem::take(&mut extended);
        let name = extended.name.unwrap_or_else(|| header_name(&block));
        let size = extended.size.unwrap_or(size);
        if !scan_member(scanner, input, place, &mut names, kind, &name, size)? {
            return Ok(());
        }
    }
}

/// After the first block of zeros there is nothing but more of them.
fn check_rest(scanner: &mut Scanner<'_>, input: &mut Input<'_>, path: &str) -> io::Result<()> {
    while let Some(byte) = input.byte()? {
        if byte != 0 {
            let detail =
                format!("at byte {} something follows the end of the tar archive", input.position() - 1);
            scanner.find(Code::TrailingBytes, path, detail);
            return Ok(());
        }
    }
    Ok(())
}

/// The name in the header, with its prefix where it is no absolute one itself.
fn header_name(block: &[u8; BLOCK_BYTES as usize]) -> Vec<u8> {
    let (name, prefix) = (text(&block[..100]), text(&block[345..500]));
    let is_posix = &block[257..263] == b"ustar\0";
    if is_posix && !prefix.is_empty() && !name.starts_with(b"/") {
        return [prefix, b"/", name].concat();
    }
    name.to_vec()
}

/// Reads a long name or pax records; false, with a finding, where they cannot be followed.
fn read_extended(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    path: &str,
    kind: u8,
    size: u64,
    extended: &mut Extended,
) -> io::Result<bool> {
    if size > MAX_HEADER_BYTES {
        let detail = format!("a header of a tar member has {size} bytes; {MAX_HEADER_BYTES} is the limit");
        scanner.find(Code::LimitExceeded, path, detail);
        return Ok(false);
    }
    let Some(content) = input.take_bytes(size, MAX_HEADER_BYTES as usize)? else {
        scanner.find(Code::CannotBeFollowed, path, "it ends inside a header");
        return Ok(false);
    };
    input.skip(size.next_multiple_of(BLOCK_BYTES) - size);
    let understood = match kind {
        b'L' => extended.name.replace(text(&content).to_vec()).is_none(),
        // The target of a link, and the link is refused.
        b'K' => true,
        _ => read_records(&content, kind == b'g', extended).is_some(),
    };
    if !understood {
        let detail = "an extended header gives a name twice, a sparse file, or records that are none of pax";
        scanner.find(Code::CannotBeFollowed, path, detail);
    }
    Ok(understood)
}

/// Reads records `"<length> <key>=<value>\n"`.
fn read_records(mut content: &[u8], global: bool, extended: &mut Extended) -> Option<()> {
    while !content.is_empty() && content[0] != 0 {
        let space = content.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&content[..space]).ok()?.parse().ok()?;
        let record = content.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" | b"size" if global => return None,
            b"path" if extended.name.is_some() => return None,
            b"path" => extended.name = Some(value.to_vec()),
            b"size" => extended.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
            _ if key.starts_with(b"GNU.sparse") => return None,
            _ => {}
        }
        content = &content[length..];
    }
    Some(())
}

/// Looks at one member; false where the archive cannot be followed further.
fn scan_member(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    place: Place<'_>,
    names: &mut path::Names,
    kind: u8,
    name: &[u8],
    size: u64,
) -> io::Result<bool> {
    let shown = String::from_utf8_lossy(name);
    let path = path::inside(place.path, &shown);
    let is_plain = matches!(kind, b'0' | 0 | b'7');
    let is_directory = kind == b'5' || (kind == 0 && name.ends_with(b"/"));
    names.check(scanner, place.path, name, is_directory);
    if !scanner.count_member(place.path) {
        return Ok(false);
    }
    match kind {
        b'1' | b'2' => scanner.find(Code::MemberIsLink, &path, "it is a link; a file was expected"),
        b'3' | b'4' | b'6' => {
            scanner.find(Code::MemberIsSpecial, &path, "it is a device or a pipe; a file was expected");
        }
        _ if is_plain || is_directory => {}
        _ => {
            let detail = format!("it is of type 0x{kind:02x}, which is not followed");
            scanner.find(Code::CannotBeFollowed, &path, detail);
            return Ok(false);
        }
    }
    if size > input.remaining() || ((!is_plain || is_directory) && size > 0) {
        let detail = format!("{size} bytes do not fit it; {} are left in the archive", input.remaining());
        scanner.find(Code::CannotBeFollowed, &path, detail);
        return Ok(false);
    }
    if is_plain && !is_directory {
        let member = Place { path: &path, name: &shown, depth: place.depth + 1, role: Role::File };
        let start = input.position();
        scanner.examine(&mut input.section(start, size), member)?;
        input.skip(size.next_multiple_of(BLOCK_BYTES));
    }
    Ok(true)
}
