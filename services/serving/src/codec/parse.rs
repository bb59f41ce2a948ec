//! Elements of a tensor out of JSON text, in one pass and without a tree in between. Strict: a value that its
//! type cannot hold is refused.

use slipway_inference::{Data, Datatype};

use super::element::{INFINITY, NAN, NEGATIVE_INFINITY};
use super::nesting;

/// Longest value that a message repeats.
const MAX_QUOTED_CHARS: usize = 40;

/// Reads JSON values, flat or nested, as elements of `datatype`. The text is valid JSON. The error is about
/// the values only; the caller adds the input's name.
pub(super) fn parse_elements(datatype: Datatype, text: &str) -> Result<Data, String> {
    nesting::check(text)?;
    let values = Values { text };
    let misfit = |position: usize, value: &str, expected: &str| {
        let value: String = value.chars().take(MAX_QUOTED_CHARS).collect();
        format!("element {position} is {value}; {datatype} expects {expected}")
    };
    let raw = match datatype {
        Datatype::Bytes => return strings(values, misfit),
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(format!("{datatype} data cannot be sent as JSON; send it as binary data"));
        }
        Datatype::Bool => read(values, misfit, |value| match value {
            "true" => Ok([1]),
            "false" => Ok([0]),
            _ => Err("true or false"),
        }),
        Datatype::Int8 => whole(values, misfit, i8::to_le_bytes, "a whole number from -128 to 127"),
        Datatype::Int16 => whole(values, misfit, i16::to_le_bytes, "a whole number from -32768 to 32767"),
        Datatype::Int32 => whole(values, misfit, i32::to_le_bytes, "a whole number of 32 bits"),
        Datatype::Int64 => whole(values, misfit, i64::to_le_bytes, "a whole number of 64 bits"),
        Datatype::Uint8 => whole(values, misfit, u8::to_le_bytes, "a whole number from 0 to 255"),
        Datatype::Uint16 => whole(values, misfit, u16::to_le_bytes, "a whole number from 0 to 65535"),
        Datatype::Uint32 => whole(values, misfit, u32::to_le_bytes, "a whole number from 0 to 4294967295"),
        Datatype::Uint64 => {
            whole(values, misfit, u64::to_le_bytes, "a whole number from 0 to 18446744073709551615")
        }
        Datatype::Fp32 => read(values, misfit, |value| {
            let number = match special(value) {
                #[expect(clippy::cast_possible_truncation, reason = "it is NaN or infinite")]
                Some(special) => special as f32,
                None => value.parse::<f32>().map_err(|_| NUMBER)?,
            };
            let overflowed = number.is_infinite() && !value.starts_with('"');
            if overflowed { Err("a number below 3.5e38") } else { Ok(number.to_le_bytes()) }
        }),
        Datatype::Fp64 => read(values, misfit, |value| {
            let number = match special(value) {
                Some(special) => special,
                None => value.parse::<f64>().map_err(|_| NUMBER)?,
            };
            let overflowed = number.is_infinite() && !value.starts_with('"');
            if overflowed { Err("a number below 1.8e308") } else { Ok(number.to_le_bytes()) }
        }),
    };
    Ok(Data::Raw(raw?.into()))
}

const NUMBER: &str = "a number, null, or one of \"NaN\", \"Infinity\", \"-Infinity\"";

/// What is no JSON number and still a number. A missing value, `null`, is NaN, as data frames have it.
fn special(value: &str) -> Option<f64> {
    let word = match value.as_bytes().first()? {
        b'n' => return Some(f64::NAN),
        b'"' => value.trim_matches('"'),
        _ => return None,
    };
    match word {
        NAN => Some(f64::NAN),
        INFINITY => Some(f64::INFINITY),
        NEGATIVE_INFINITY => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn whole<T: std::str::FromStr, const WIDTH: usize>(
    values: Values<'_>,
    misfit: impl Fn(usize, &str, &str) -> String,
    bytes: fn(T) -> [u8; WIDTH],
    expected: &'static str,
) -> Result<Vec<u8>, String> {
    read(values, misfit, |value| value.parse::<T>().map(bytes).map_err(|_| expected))
}

fn read<const WIDTH: usize>(
    values: Values<'_>,
    misfit: impl Fn(usize, &str, &str) -> String,
    element: impl Fn(&str) -> Result<[u8; WIDTH], &'static str>,
) -> Result<Vec<u8>, String> {
    let mut raw = Vec::new();
    for (position, value) in values.enumerate() {
        let bytes = element(value).map_err(|expected| misfit(position, value, expected))?;
        raw.extend_from_slice(&bytes);
    }
    Ok(raw)
}

fn strings(values: Values<'_>, misfit: impl Fn(usize, &str, &str) -> String) -> Result<Data, String> {
    let mut strings = Vec::new();
    for (position, value) in values.enumerate() {
        let plain = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let text = match plain {
            Some(text) if !text.contains('\\') => Some(text.to_owned()),
            Some(_) => serde_json::from_str(value).ok(),
            None => None,
        };
        strings.push(text.ok_or_else(|| misfit(position, value, "a string"))?);
    }
    Ok(Data::Strings(strings))
}

/// The values of nested arrays, each as its text.
pub(super) struct Values<'text> {
    pub(super) text: &'text str,
}

impl<'text> Iterator for Values<'text> {
    type Item = &'text str;

    fn next(&mut self) -> Option<&'text str> {
        let bytes = self.text.as_bytes();
        let start = bytes.iter().position(|byte| !is_between(byte))?;
        let value = bytes.get(start..).unwrap_or_default();
        let length = match value.first() {
            Some(b'"') => string_length(value),
            // An object is no element of anything; where it ends does not matter.
            Some(b'{') => value.len(),
            _ => value.iter().position(is_between).unwrap_or(value.len()),
        };
        let (value, rest) = self.text.get(start..)?.split_at_checked(length)?;
        self.text = rest;
        Some(value)
    }
}

/// Whether a byte stands between values of nested arrays.
pub(super) const fn is_between(byte: &u8) -> bool {
    matches!(byte, b'[' | b']' | b',' | b' ' | b'\n' | b'\r' | b'\t')
}

/// Length of the string that begins here, with its quotes.
pub(super) fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}
