//! XGBoost models in UBJSON (draft 12), as `src/common/json.cc` of XGBoost writes them: numbers are
//! big-endian, and arrays of numbers have a type and a length.

use std::io;

use crate::{
    input::Input,
    path,
    report::Code,
    scanner::{Place, Scanner},
};

const MAX_DEPTH: usize = 64;
/// Longest key.
const MAX_KEY_BYTES: usize = 4_096;
/// Entries of the document itself.
const TOP_KEYS: &[&str] = &["learner", "version", "config", "Config"];

type Read<T> = io::Result<Result<T, String>>;

/// Takes the value out of a result, or gives the fault back.
macro_rules! sound {
    ($value:expr) => {
        match $value? {
            Ok(value) => value,
            Err(fault) => return Ok(Err(fault)),
        }
    };
}

/// Reads a model to its end.
pub(super) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<()> {
    let mut keys = Vec::new();
    let marker = input.byte()?.unwrap_or_default();
    let read = value(input, marker, 0, &mut keys)?;
    let at = input.position();
    let fault = match read {
        Err(why) => Some(why),
        Ok(()) if input.remaining() > 0 => Some(format!("{} bytes follow the model", input.remaining())),
        Ok(()) => keys
            .iter()
            .find(|key| !TOP_KEYS.contains(&key.as_str()))
            .map(|key| format!("its entry `{}` is none of an XGBoost model", path::shown(key))),
    };
    let fault =
        fault.or_else(|| (!keys.iter().any(|key| key == "learner")).then(|| "it has no learner".to_owned()));
    if let Some(why) = fault {
        let detail = format!("at byte {at} it is not understood as an XGBoost model: {why}");
        scanner.find(Code::NotUnderstood, place.path, detail);
    }
    Ok(())
}

/// Goes over a value that begins with a marker. Keys of the outermost map are kept.
fn value(input: &mut Input<'_>, marker: u8, depth: usize, keys: &mut Vec<String>) -> Read<()> {
    if depth > MAX_DEPTH {
        return Ok(Err(format!("it is nested more than {MAX_DEPTH} deep")));
    }
    match marker {
        b'S' | b'H' => {
            let length = sound!(length(input));
            skip(input, length)
        }
        b'[' => array(input, depth, keys),
        b'{' => map(input, depth, keys),
        other => match width(other) {
            Some(bytes) => skip(input, bytes),
            None => Ok(Err(format!("0x{other:02x} begins no value"))),
        },
    }
}

fn array(input: &mut Input<'_>, depth: usize, keys: &mut Vec<String>) -> Read<()> {
    let mut marker = sound!(byte(input));
    let mut of = None;
    if marker == b'$' {
        of = Some(sound!(byte(input)));
        marker = sound!(byte(input));
        if marker != b'#' {
            return Ok(Err("an array with a type has no length".to_owned()));
        }
    }
    if marker == b'#' {
        let count = sound!(length(input));
        if let Some(bytes) = of.and_then(width) {
            return match count.checked_mul(bytes) {
                Some(bytes) => skip(input, bytes),
                None => Ok(Err("an array is longer than any file".to_owned())),
            };
        }
        // Every item takes a byte at least.
        if count > input.remaining() {
            return Ok(Err("an array is longer than the file".to_owned()));
        }
        for _ in 0..count {
            let marker = match of {
                Some(marker) => marker,
                None => sound!(byte(input)),
            };
            sound!(value(input, marker, depth + 1, keys));
        }
        return Ok(Ok(()));
    }
    while marker != b']' {
        sound!(value(input, marker, depth + 1, keys));
        marker = sound!(byte(input));
    }
    Ok(Ok(()))
}

fn map(input: &mut Input<'_>, depth: usize, keys: &mut Vec<String>) -> Read<()> {
    loop {
        let marker = sound!(byte(input));
        if marker == b'}' {
            return Ok(Ok(()));
        }
        let length = sound!(number(input, marker));
        let key = match input.take_bytes(length, MAX_KEY_BYTES)? {
            Some(key) if length <= MAX_KEY_BYTES as u64 => String::from_utf8_lossy(&key).into_owned(),
            _ => return Ok(Err("a key is too long".to_owned())),
        };
        if depth == 0 {
            if keys.contains(&key) {
                return Ok(Err(format!("the key `{}` is there twice", path::shown(&key))));
            }
            keys.push(key);
        }
        let marker = sound!(byte(input));
        sound!(value(input, marker, depth + 1, keys));
    }
}

fn byte(input: &mut Input<'_>) -> Read<u8> {
    Ok(input.byte()?.ok_or_else(|| "it ends too early".to_owned()))
}

fn skip(input: &mut Input<'_>, bytes: u64) -> Read<()> {
    Ok(if input.skip(bytes) { Ok(()) } else { Err("it ends too early".to_owned()) })
}

/// A length, with its marker before it.
fn length(input: &mut Input<'_>) -> Read<u64> {
    let marker = sound!(byte(input));
    number(input, marker)
}

/// A whole number of the type that a marker names.
fn number(input: &mut Input<'_>, marker: u8) -> Read<u64> {
    let Some(bytes) =
        width(marker).filter(|_| matches!(marker, b'i' | b'U' | b'I' | b'u' | b'l' | b'm' | b'L' | b'M'))
    else {
        return Ok(Err(format!("0x{marker:02x} begins no length")));
    };
    let Some(digits) = input.take_bytes(bytes, 8)? else { return Ok(Err("it ends too early".to_owned())) };
    let is_negative =
        marker.is_ascii_lowercase() && marker != b'u' && marker != b'm' || matches!(marker, b'I' | b'L');
    if is_negative && digits.first().is_some_and(|first| first & 0x80 != 0) {
        return Ok(Err("a length is negative".to_owned()));
    }
    Ok(Ok(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit))))
}

/// The bytes that a value of a type takes behind its marker.
fn width(marker: u8) -> Option<u64> {
    Some(match marker {
        b'Z' | b'N' | b'T' | b'F' => 0,
        b'i' | b'U' | b'C' | b'B' => 1,
        b'I' | b'u' => 2,
        b'l' | b'm' | b'd' => 4,
        b'L' | b'M' | b'D' => 8,
        _ => return None,
    })
}
