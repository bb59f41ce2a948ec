//! Compressed streams: inflated into a temporary file under the policy's limits, then looked at as a file of its own.

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
    path, pickle,
    policy::FREE_INFLATED_BYTES,
    report::{Code, Format},
    scanner::{Place, Role, Scanner},
};

/// Inflated content is kept in memory up to this much.
const SPOOL_MEMORY_BYTES: usize = 1024 * 1024;
/// What an LZMA or xz decoder may take; `xz -9` asks for 65 MiB.
const MAX_DECODER_KIB: u32 = 160 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
/// A stream that gave this much before it broke was one, and not text that begins alike.
const MIN_CERTAIN_BYTES: u64 = 4_096;

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
    let mut inflated = decode(scanner, format, input, place.path)?;
    if format == Format::Zlib && matches!(inflated, Inflated::Broken(..)) {
        inflated = inflate_bytewise(scanner, input, place.path)?;
    }
    let name = inner_name(path::file_name(place.name));
    let path = path::inside(place.path, name);
    match inflated {
        Inflated::Refused => Ok(format),
        Inflated::Whole(mut file, _) => {
            let inner = Place { path: &path, name, depth: place.depth + 1, role: Role::File };
            scanner.examine(&mut Input::new(&mut file)?, inner)?;
            Ok(format)
        }
        Inflated::Broken(mut file, length, why) => {
            let is_weak = matches!(format, Format::Zlib | Format::Lzma) && length < MIN_CERTAIN_BYTES;
            if is_weak && !begins_as_pickle(scanner, &mut file, &path)? {
                // Two or three bytes tell these kinds, so it may well be text.
                return Ok(Format::Other);
            }
            let detail = format!("after {length} bytes its compressed content breaks off: {why}");
            scanner.find(Code::CannotBeFollowed, place.path, detail);
            Ok(format)
        }
    }
}

/// Whether a loader that reads a stream bit by bit would have run something before it breaks.
fn begins_as_pickle(scanner: &mut Scanner<'_>, file: &mut SpooledTempFile, path: &str) -> io::Result<bool> {
    let mut input = Input::new(file)?;
    let head = input.peek(0, 2)?;
    Ok(pickle::has_magic(&head) || pickle::try_scan(scanner, &mut input, path)?)
}

/// The name of what `gzip` and its like packed.
fn inner_name(name: &str) -> &str {
    [".gz", ".bz2", ".xz", ".lzma", ".z", ".zlib"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

fn decode(
    scanner: &mut Scanner<'_>,
    format: Format,
    input: &mut Input<'_>,
    path: &str,
) -> io::Result<Inflated> {
    let length = input.length();
    let (inflated, left) = match format {
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
        _ => match LzmaReader::new_mem_limit(&mut *input, MAX_DECODER_KIB, None) {
            Ok(mut decoder) => {
                decoder.set_defer_errors(true);
                let inflated = inflate(scanner, &mut decoder, length, path)?;
                let (input, unread) = decoder.into_parts();
                (inflated, input.remaining() + unread.len() as u64)
            }
            Err(error) => {
                let detail = format!("its LZMA stream cannot be read: {error}");
                scanner.find(Code::CannotBeFollowed, path, detail);
                (Inflated::Refused, 0)
            }
        },
    };
    if matches!(inflated, Inflated::Whole(..)) && left > 0 {
        scanner.find(
            Code::TrailingBytes,
            path,
            format!("{left} bytes follow the end of the compressed stream"),
        );
    }
    Ok(inflated)
}

/// Inflates a broken zlib stream as far as it goes. The decoder is given one byte at a time, because with more it keeps
/// what it has to itself when it fails.
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

/// Copies what a decoder gives into a temporary file, as long as the limits allow.
fn inflate(
    scanner: &mut Scanner<'_>,
    decoder: &mut dyn Read,
    packed: u64,
    path: &str,
) -> io::Result<Inflated> {
    let mut file = match &scanner.policy.spool_dir {
        Some(folder) => tempfile::spooled_tempfile_in(SPOOL_MEMORY_BYTES, folder),
        None => tempfile::spooled_tempfile(SPOOL_MEMORY_BYTES),
    };
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
