//! References to files of weights (`TensorProto.external_data`).
//!
//! ONNX Runtime opens the file that `location` names, maps `length` bytes of it from `offset` on, and reads
//! them as the tensor. Some locations name no file: there `offset` is an address in the memory of the
//! process. So only plain paths within the model's folder pass, and only ranges that are as long as the
//! tensor and lie within the file.

use std::collections::BTreeMap;

use prost::Message;

/// Longest location, in bytes.
const MAX_LOCATION_BYTES: usize = 1024;
/// Part of the locations that ONNX Runtime takes for an address in memory, in lower case:
/// `*/_ORT_MEM_ADDR_/*`, and in later versions also `*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*`
/// (`core/framework/tensorprotoutils.h`).
const ADDRESS: &str = "mem_addr";
/// Begins the components of locations that ONNX Runtime may give a meaning to, in lower case.
const RESERVED: &str = "_ort_";

/// Where the elements of a tensor lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Path within the model's folder, in normal form.
    pub(crate) location: String,
    /// First byte.
    pub(crate) offset: u64,
    /// Length, where the reference states one.
    pub(crate) length: Option<u64>,
}

/// The entries of a reference while they are read.
#[derive(Debug, Default)]
pub(crate) struct Entries(BTreeMap<String, String>);

impl Entries {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a `StringStringEntryProto`.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        let StringEntry { key, value } = StringEntry::decode(bytes)
            .map_err(|error| format!("its reference to a file of weights does not parse: {error}"))?;
        let key = key.unwrap_or_default();
        if !matches!(key.as_str(), "location" | "offset" | "length" | "checksum") {
            return Err(format!(
                "its reference to a file of weights has the key '{}'; expected location, offset, length or \
                 checksum",
                shown(&key)
            ));
        }
        match self.0.insert(key, value.unwrap_or_default()) {
            None => Ok(()),
            Some(_) => Err("its reference to a file of weights has a key twice".to_owned()),
        }
    }

    /// The reference that the entries make.
    pub(crate) fn reference(&self) -> Result<Reference, String> {
        let text = |key: &str| self.0.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let location = text("location").ok_or("its weights lie in a file, but no location is given")?;
        let number = |key: &str| text(key).map(|digits| parse(key, digits)).transpose();
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        Ok(Reference { location: normalise(location)?, offset, length: length.filter(|bytes| *bytes > 0) })
    }
}

impl Reference {
    /// The end of the range of a tensor of `bytes` bytes in the file.
    pub(crate) fn end(&self, bytes: u64) -> Result<u64, String> {
        if let Some(length) = self.length.filter(|length| *length != bytes) {
            return Err(format!(
                "its weights in '{}' have a length of {length} bytes; its shape and type take {bytes}",
                self.location
            ));
        }
        // Offsets are signed in the runtime.
        let end = self.offset.checked_add(bytes).filter(|end| i64::try_from(*end).is_ok());
        end.ok_or_else(|| {
            format!("its weights in '{}' begin at {}, beyond any file", self.location, self.offset)
        })
    }
}

/// A number of decimal digits alone: signs and spaces are read differently by different readers.
fn parse(key: &str, digits: &str) -> Result<u64, String> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| digits.parse().ok()).flatten();
    number.ok_or_else(|| {
        format!("the {key} of its weights is '{}'; expected a whole number of bytes from 0", shown(digits))
    })
}

/// A location as a path within the model's folder, without `.` components.
fn normalise(location: &str) -> Result<String, String> {
    let refused = |why: &str| Err(format!("its weights lie at '{}', and {why}", shown(location)));
    if location.len() > MAX_LOCATION_BYTES {
        return refused("that is longer than 1024 bytes");
    }
    let lower = location.to_lowercase();
    let reserved = lower.split('/').any(|part| part.starts_with(RESERVED));
    if reserved || lower.contains(ADDRESS) || location.contains('*') {
        return refused("that name is reserved: ONNX Runtime takes it for an address in memory");
    }
    if location.contains('\\') || location.contains(char::is_control) {
        return refused("backslashes and control characters are not allowed in it");
    }
    let drive = location.as_bytes().get(1) == Some(&b':');
    if location.starts_with('/') || drive || location.contains("://") {
        return refused("expected a path relative to the model's folder");
    }
    let mut parts = Vec::new();
    for part in location.split('/') {
        match part {
            "." => {}
            "" => return refused("a component of that path is empty"),
            ".." => return refused("'..' is not allowed in it"),
            part => parts.push(part),
        }
    }
    if parts.is_empty() { refused("that is no file") } else { Ok(parts.join("/")) }
}

/// Text of a file for a message: short, and without characters that a terminal would act on.
pub(crate) fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 100;
    let mut short: String = text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        short.push('…');
    }
    short
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
struct StringEntry {
    #[prost(string, optional, tag = "1")]
    key: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_within_the_folder_are_locations() {
        for (location, path) in [
            ("w.bin", "w.bin"),
            ("./w.bin", "w.bin"),
            ("a/b c/ä.data", "a/b c/ä.data"),
            ("a/./b", "a/b"),
            ("a_ort_b", "a_ort_b"),
        ] {
            assert_eq!(normalise(location).as_deref(), Ok(path));
        }
        for location in [
            "..",
            "../w",
            "a/../../w",
            "a/..",
            "/etc/passwd",
            "//w",
            "a//w",
            "w/",
            ".",
            "./",
            "C:w",
            "c:/w",
            "C:\\w",
            "a\\..\\w",
            "file:///etc/passwd",
            "http://h/w",
            "w\0",
            "w\n",
            "*/_ORT_MEM_ADDR_/*",
            "*",
            "a/*/w",
            "_ORT_MEM_ADDR_",
            "_ort_mem_addr_",
            "./*/_ORT_MEM_ADDR_/*",
            "a/_ORT_MEM_ADDR_/w",
            "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*",
            "x/_Ort_Anything_/y",
        ] {
            let refused = normalise(location).unwrap_err();
            assert!(refused.starts_with("its weights lie at"), "{location:?}: {refused}");
            assert!(!refused.contains(char::is_control), "{refused:?}");
        }
        assert!(normalise(&"a".repeat(2000)).is_err());
    }

    fn entries(given: &[(&str, &str)]) -> Result<Reference, String> {
        let mut entries = Entries::default();
        for (key, value) in given {
            let entry = StringEntry { key: Some((*key).into()), value: Some((*value).into()) };
            entries.push(&entry.encode_to_vec())?;
        }
        entries.reference()
    }

    #[test]
    fn numbers_are_digits_and_keys_are_known_and_come_once() {
        let plain = Reference { location: "w".into(), offset: 8, length: Some(4) };
        assert_eq!(entries(&[("location", "w"), ("offset", "8"), ("length", "4")]), Ok(plain.clone()));
        assert_eq!((plain.end(4), plain.end(5).is_err()), (Ok(12), true));
        let open = Reference { location: "w".into(), offset: 0, length: None };
        assert_eq!(entries(&[("location", "w"), ("length", "0"), ("checksum", "x")]), Ok(open));
        for refused in [
            &[("offset", "8")][..],
            &[("location", "")],
            &[("location", "w"), ("location", "w")],
            &[("location", "w"), ("prepacked_1", "key|0;8;0")],
            &[("location", "w"), ("basepath", "/")],
            &[("location", "w"), ("offset", "-8")],
            &[("location", "w"), ("offset", "+8")],
            &[("location", "w"), ("offset", " 8")],
            &[("location", "w"), ("length", "0x8")],
            &[("location", "w"), ("length", "99999999999999999999")],
        ] {
            assert!(entries(refused).is_err(), "{refused:?}");
        }
        let far = Reference { location: "w".into(), offset: u64::MAX - 1, length: None };
        assert!(far.end(4).is_err());
        let signed = Reference { location: "w".into(), offset: i64::MAX as u64, length: None };
        assert!(signed.end(4).is_err());
    }
}
