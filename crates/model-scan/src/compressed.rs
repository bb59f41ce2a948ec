//! Compressed streams: inflated into a temporary file under the policy's limits, then looked at as a file of
//! its own.

use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};

use bzip2::read::MultiBzDecoder;
use flate2::{
    bufread,
    read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder},
};
use lzma_rust2::{LzmaReader, XzReader};
use tempfile::SpooledTempFile;

use crate::{
    input::Input,
    path,
    pickle::{self, Trial},
    policy::FREE_INFLATED_BYTES,
    report::{Code, Format},
    scanner::{Place, Role, Scanner},
};

/// Inflated content is kept in memory up to this much.
const SPOOL_MEMORY_BYTES: usize = 1024 * 1024;
/// What an LZMA or xz decoder may take; `xz -9` asks for 65 MiB.
const MAX_DECODER_KIB: u32 = 160 * 1024;
/// Of an LZMA file.
const MAX_LZMA_DICTIONARY_BYTES: u32 = 64 * 1024 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
/// A stream that gave this much before it broke was one, and not text that begins alike.
const MIN_CERTAIN_BYTES: u64 = 4_096;

/// `ZF` and what joblib pads the length to: the digits of 2⁶⁴ with `0x`.
const OLD_JOBLIB_HEADER_BYTES: usize = 21;
/// Properties, size of the dictionary, size of the content, and the first byte of the range coder.
const LZMA_HEADER_BYTES: usize = 14;
/// `(pb * 5 + lp) * 9 + lc` is below this.
const LZMA_PROPERTIES: u8 = 225;
/// liblzma refuses a larger one where it guesses the format.
const MAX_LZMA_CONTENT_BYTES: u64 = 1 << 38;

/// How a stream came out.
pub(crate) enum Inflated {
    /// All of it, rewound, with its length.
    Whole(SpooledTempFile, u64),
    /// What came before it broke, rewound, with its length and what the decoder said.
    Broken(SpooledTempFile, u64, String),
    /// A finding was made.
    Refused,
}

/// Looks at the content of a compressed stream.
pub(crate) fn scan(
    scanner: &mut Scanner<'_>,
    format: Format,
    input: &mut Input<'_>,
    place: Place<'_>,
) -> io::Result<Format> {
    let skipped = old_joblib_stream(&input.peek(0, OLD_JOBLIB_HEADER_BYTES + 3)?).unwrap_or(0);
    let length = input.length();
    let mut stream = input.section(skipped, length);
    let (mut inflated, left) = decode(scanner, format, &mut stream, place.path)?;
    if format == Format::Zlib && matches!(inflated, Inflated::Broken(..)) {
        inflated = inflate_bytewise(scanner, &mut stream, place.path)?;
    }
    let name = inner_name(path::file_name(place.name));
    let path = path::inside(place.path, name);
    // Two or three bytes tell some kinds, so it may well be text or numbers.
    let is_weak = |length: u64| {
        let is_weak = matches!(format, Format::Zlib | Format::Lzma) || place.role == Role::Weights;
        is_weak && skipped == 0 && length < MIN_CERTAIN_BYTES
    };
    match inflated {
        Inflated::Refused => {}
        Inflated::Whole(mut file, length) => {
            if left > 0 {
                if is_weak(length) && !begins_as_pickle(scanner, &mut file, &path)? {
                    return Ok(Format::Other);
                }
                let at = input.length() - left;
                let detail =
                    format!("from byte {at} on {left} bytes follow the end of the compressed stream");
                scanner.find(Code::TrailingBytes, place.path, detail);
            }
            let inner = Place { path: &path, name, depth: place.depth + 1, role: Role::File };
            scanner.examine(&mut Input::new(&mut file)?, inner)?;
        }
        Inflated::Broken(mut file, length, why) => {
            if is_weak(length) && !begins_as_pickle(scanner, &mut file, &path)? {
                return Ok(Format::Other);
            }
            let detail = format!("after {length} bytes its compressed content is truncated: {why}");
            scanner.find(Code::CannotBeFollowed, place.path, detail);
        }
    }
    Ok(format)
}

/// Whether a format is that of a compressed stream which is unpacked and looked into.
pub(crate) fn is_followed(format: Format) -> bool {
    matches!(format, Format::Gzip | Format::Zlib | Format::Bzip2 | Format::Xz | Format::Lzma)
}

/// Whether a file can begin as an LZMA stream of the format before xz: properties below 225, the size of a
/// dictionary and of the content, and the first byte of the range coder, which is always 0.
pub(crate) fn is_lzma_header(head: &[u8]) -> bool {
    let Some((header, _)) = head.split_first_chunk::<LZMA_HEADER_BYTES>() else { return false };
    let size = header[5..13].iter().rev().fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
    let is_size = size == u64::MAX || size < MAX_LZMA_CONTENT_BYTES;
    header[0] < LZMA_PROPERTIES && header[13] == 0 && is_size
}

/// Where the zlib stream begins in a file that joblib wrote before version 0.10: behind `ZF`, the length of
/// the content as hexadecimal digits padded to 19 bytes, with or without `0x`, and perhaps a space. joblib
/// reads the digits with Python's `int(…, 16)`, which takes signs, spaces and underscores too, so any header
/// is followed.
pub(crate) fn old_joblib_stream(head: &[u8]) -> Option<u64> {
    let rest = head.strip_prefix(b"ZF")?.get(OLD_JOBLIB_HEADER_BYTES - 2..)?;
    let space = usize::from(rest.first() == Some(&b' '));
    Some((OLD_JOBLIB_HEADER_BYTES + space) as u64)
}

/// Whether a loader that reads a stream bit by bit would have run something before it breaks.
fn begins_as_pickle(scanner: &mut Scanner<'_>, file: &mut SpooledTempFile, path: &str) -> io::Result<bool> {
    let mut input = Input::new(file)?;
    let head = input.peek(0, 2)?;
    Ok(pickle::has_magic(&head) || pickle::try_scan(scanner, &mut input, path)? == Trial::Acts)
}

/// The name of what `gzip` and its like packed.
fn inner_name(name: &str) -> &str {
    [".gz", ".bz2", ".xz", ".lzma", ".z", ".zlib"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// Unpacks a stream; the second number is that of the bytes that follow it.
fn decode(
    scanner: &mut Scanner<'_>,
    format: Format,
    input: &mut Input<'_>,
    path: &str,
) -> io::Result<(Inflated, u64)> {
    let length = input.length();
    Ok(match format {
        Format::Gzip => (inflate(scanner, &mut MultiGzDecoder::new(&mut *input), length, path)?, 0),
        Format::Bzip2 => (inflate(scanner, &mut MultiBzDecoder::new(&mut *input), length, path)?, 0),
        Format::Zlib => {
            let mut decoder = ZlibDecoder::new(&mut *input);
            let inflated = inflate(scanner, &mut decoder, length, path)?;
            (inflated, length.saturating_sub(decoder.total_in()))
        }
        Format::Xz => {
            let mut decoder = XzReader::new_mem_limit(&mut *input, true, MAX_DECODER_KIB);
            (inflate(scanner, &mut decoder, length, path)?, 0)
        }
        _ => match lzma(&mut *input) {
            Ok(mut decoder) => {
                decoder.set_defer_errors(true);
                let inflated = inflate(scanner, &mut decoder, length, path)?;
                let (input, unread) = decoder.into_parts();
                (inflated, input.remaining() + unread.len() as u64)
            }
            Err(error) => (Inflated::Broken(spool(scanner), 0, error.to_string()), 0),
        },
    })
}

/// A decoder of a whole LZMA file. Its dictionary is as large as the header says up to a limit, because what
/// a file really refers back to is seldom as far away as that; where it is, the stream breaks there.
fn lzma<'i, 'a>(input: &'i mut Input<'a>) -> io::Result<LzmaReader<&'i mut Input<'a>>> {
    let mut header = [0; LZMA_HEADER_BYTES - 1];
    input.read_exact(&mut header)?;
    let [properties, d0, d1, d2, d3, size @ ..] = header;
    let dictionary = u32::from_le_bytes([d0, d1, d2, d3]).min(MAX_LZMA_DICTIONARY_BYTES);
    LzmaReader::new_with_props(input, u64::from_le_bytes(size), properties, dictionary, None)
}

/// Inflates a broken zlib stream as far as it goes. The decoder is given one byte at a time, because with
/// more it keeps what it has to itself when it fails.
fn inflate_bytewise(scanner: &mut Scanner<'_>, input: &mut Input<'_>, path: &str) -> io::Result<Inflated> {
    input.seek(0);
    let length = input.length();
    let mut decoder = bufread::ZlibDecoder::new(BufReader::with_capacity(1, input));
    inflate(scanner, &mut decoder, length, path)
}

/// Inflates the raw deflate stream of a zip member; the second number is that of the bytes it was read from.
pub(crate) fn inflate_member(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    path: &str,
) -> io::Result<(Inflated, u64)> {
    let length = input.length();
    let mut decoder = DeflateDecoder::new(input);
    let inflated = inflate(scanner, &mut decoder, length, path)?;
    Ok((inflated, decoder.total_in()))
}

/// A temporary file, which stays in memory while it is small.
fn spool(scanner: &Scanner<'_>) -> SpooledTempFile {
    match &scanner.policy.spool_dir {
        Some(folder) => tempfile::spooled_tempfile_in(SPOOL_MEMORY_BYTES, folder),
        None => tempfile::spooled_tempfile(SPOOL_MEMORY_BYTES),
    }
}

/// Copies what a decoder gives into a temporary file, as long as the limits allow.
fn inflate(
    scanner: &mut Scanner<'_>,
    decoder: &mut dyn Read,
    packed: u64,
    path: &str,
) -> io::Result<Inflated> {
    let mut file = spool(scanner);
    let limits = &scanner.policy.limits;
    let (mut chunk, mut length) = (vec![0; CHUNK_BYTES], 0_u64);
    loop {
        let count = match decoder.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                file.seek(SeekFrom::Start(0))?;
                return Ok(Inflated::Broken(file, length, error.to_string()));
            }
        };
        length += count as u64;
        scanner.counts.inflated_bytes += count as u64;
        if scanner.counts.inflated_bytes > limits.inflated_bytes {
            let detail = format!(
                "all compressed content together inflates to more than {} bytes",
                limits.inflated_bytes
            );
            scanner.find(Code::InflateTotal, path, detail);
            return Ok(Inflated::Refused);
        }
        if length > FREE_INFLATED_BYTES && length / limits.inflate_ratio > packed {
            let detail =
                format!("{packed} bytes inflate to more than {} times as many", limits.inflate_ratio);
            scanner.find(Code::InflateRatio, path, detail);
            return Ok(Inflated::Refused);
        }
        file.write_all(&chunk[..count])?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(Inflated::Whole(file, length))
}
