//! safetensors files: a header in JSON, then the tensors' bytes, by the rules of the format's README and of
//! its reference implementation.

use std::{collections::HashSet, fmt, io};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::{
    input::Input,
    path,
    report::Code,
    scanner::{Place, Scanner},
};

/// The reference implementation's own bound.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const LENGTH_BYTES: u64 = 8;
/// Tensors beyond the first few broken ones are not named.
const MAX_NAMED_TENSORS: usize = 10;

/// The bits of an element, by the names that the README gives the types.
const DTYPE_BITS: &[(&str, u64)] = &[
    ("BOOL", 8),
    ("BF16", 16),
    ("C64", 64),
    ("F16", 16),
    ("F32", 32),
    ("F4", 4),
    ("F64", 64),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("F8_E4M3", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2", 8),
    ("F8_E5M2FNUZ", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("I32", 32),
    ("I64", 64),
    ("I8", 8),
    ("U16", 16),
    ("U32", 32),
    ("U64", 64),
    ("U8", 8),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header's tensors in its own order, with what JSON readers would pass over.
struct Header {
    tensors: Vec<(String, Tensor)>,
}

/// Whether a file begins with a length that could be a header's, and the header's brace.
pub(crate) fn is_likely(head: &[u8], length: u64) -> bool {
    length > LENGTH_BYTES && head.get(8) == Some(&b'{') && head.get(4..8) == Some(&[0; 4])
}

/// Holds the header against its rules and the file.
pub(crate) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<()> {
    let length = input.array()?.map(u64::from_le_bytes);
    let left = input.remaining();
    let Some(length) = length.filter(|length| *length <= MAX_HEADER_BYTES && *length <= left) else {
        let detail =
            format!("its header is longer than the {left} bytes that follow, or than {MAX_HEADER_BYTES}");
        scanner.find(Code::SafetensorsHeader, place.path, detail);
        return Ok(());
    };
    let bytes = input.take_bytes(length, MAX_HEADER_BYTES as usize)?.unwrap_or_default();
    let header: Header = match serde_json::from_slice(&bytes) {
        Ok(header) => header,
        Err(error) => {
            scanner.find(
                Code::SafetensorsHeader,
                place.path,
                format!("its header breaks the format's rules: {error}"),
            );
            return Ok(());
        }
    };
    check_tensors(scanner, place.path, header.tensors, input.remaining());
    Ok(())
}

fn check_tensors(scanner: &mut Scanner<'_>, path: &str, mut tensors: Vec<(String, Tensor)>, data_bytes: u64) {
    tensors.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut named = 0;
    let mut end = 0;
    for (name, tensor) in &tensors {
        let (from, to) = tensor.data_offsets;
        let fault = match tensor_bytes(tensor) {
            Err(why) => Some(why),
            Ok(bytes) if from.checked_add(bytes) != Some(to) => {
                Some(format!("its shape takes {bytes} bytes, its offsets are {from} and {to}"))
            }
            Ok(_) if from != end => {
                Some(format!("it begins at byte {from} where the one before it ends at {end}"))
            }
            Ok(_) => None,
        };
        end = to;
        if let Some(fault) = fault {
            named += 1;
            if named <= MAX_NAMED_TENSORS {
                scanner.find(
                    Code::SafetensorsTensor,
                    path,
                    format!("tensor `{}`: {fault}", path::shown(name)),
                );
            }
        }
    }
    if end != data_bytes {
        let detail = format!("its tensors end at byte {end} of the data, which have {data_bytes}");
        scanner.find(Code::SafetensorsTensor, path, detail);
    }
}

fn tensor_bytes(tensor: &Tensor) -> Result<u64, String> {
    let known = DTYPE_BITS.iter().find(|(name, _)| *name == tensor.dtype);
    let (_, bits) = known.ok_or_else(|| format!("its dtype `{}` is unknown", path::shown(&tensor.dtype)))?;
    let bits = tensor.shape.iter().try_fold(*bits, |bits, side| bits.checked_mul(*side));
    let bits = bits.ok_or_else(|| "its shape is larger than any file".to_owned())?;
    if bits % 8 == 0 {
        Ok(bits / 8)
    } else {
        Err(format!("its elements take {bits} bits, which are no whole bytes"))
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut seen = HashSet::new();
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("`{}` is there twice", path::shown(&name))));
            }
            if name == "__metadata__" {
                map.next_value::<Texts>()?;
            } else {
                tensors.push((name, map.next_value()?));
            }
        }
        Ok(Header { tensors })
    }
}

/// The metadata: strings by strings, of which nothing is kept.
struct Texts;

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::collections::HashMap::<String, Text>::deserialize(deserializer).map(|_| Texts)
    }
}

struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|_| Text)
    }
}
