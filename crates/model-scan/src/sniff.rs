//! The kind of a file, by its first bytes.

use std::io;

use crate::{compressed, input::Input, pickle, report::Format, safetensors, scanner::Role, tar};

/// Number of first bytes that determine the kind of a file; one block of a tar archive.
pub(crate) const HEAD_BYTES: usize = 512;

/// Bytes that a file of a kind begins with. Those of other archives come from their specifications.
const MAGIC: &[(&[u8], Format)] = &[
    (b"PK\x03\x04", Format::Zip),
    (b"PK\x05\x06", Format::Zip),
    (b"\x93NUMPY", Format::Npy),
    (b"\x89HDF\r\n\x1a\n", Format::Hdf5),
    (b"\x1f\x8b\x08", Format::Gzip),
    (b"\xfd7zXZ\x00", Format::Xz),
    (b"\x7fELF", Format::Executable),
    (b"\xfe\xed\xfa\xce", Format::Executable),
    (b"\xfe\xed\xfa\xcf", Format::Executable),
    (b"\xce\xfa\xed\xfe", Format::Executable),
    (b"\xcf\xfa\xed\xfe", Format::Executable),
    (b"\xca\xfe\xba\xbe", Format::Executable),
    (b"\xca\xfe\xba\xbf", Format::Executable),
    (b"MZ", Format::Executable),
    (b"#!", Format::Script),
    (b"\x28\xb5\x2f\xfd", Format::OtherArchive),
    (b"\x04\x22\x4d\x18", Format::OtherArchive),
    (b"7z\xbc\xaf\x27\x1c", Format::OtherArchive),
    (b"Rar!\x1a\x07", Format::OtherArchive),
    (b"!<arch>\n", Format::OtherArchive),
    (b"\x1f\x9d", Format::OtherArchive),
    (b"LZIP", Format::OtherArchive),
    (b"\x89LZO\x00", Format::OtherArchive),
    (b"\xff\x06\x00\x00sNaPpY", Format::OtherArchive),
];
/// Frames of Zstandard and LZ4 that a reader skips, up to the last digit of their first byte.
const SKIPPABLE_FRAME: &[u8] = b"\x2a\x4d\x18";

/// The kind of a file. What the first bytes only hint at is tried by those who read it.
pub(crate) fn sniff(head: &[u8], input: &mut Input<'_>, role: Role) -> io::Result<Format> {
    let format = sniff_content(head, input)?;
    let is_possible = match role {
        Role::Numbers => is_certain(format),
        Role::Weights => is_certain(format) || compressed::is_followed(format),
        _ => true,
    };
    Ok(if is_possible { format } else { Format::Other })
}

fn sniff_content(head: &[u8], input: &mut Input<'_>) -> io::Result<Format> {
    if let Some((_, format)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Ok(*format);
    }
    if pickle::has_magic(head) {
        return Ok(Format::Pickle);
    }
    if tar::is_header(head) {
        return Ok(Format::Tar);
    }
    if matches!(head, [0x50..=0x5f, rest @ ..] if rest.starts_with(SKIPPABLE_FRAME)) {
        return Ok(Format::OtherArchive);
    }
    if head.get(4..8) == Some(b"TFL3") {
        return Ok(Format::Tensorflow);
    }
    if is_bytecode(head) {
        return Ok(Format::PythonBytecode);
    }
    if head.starts_with(b"BZh") && matches!(head.get(3), Some(b'1'..=b'9')) {
        return Ok(Format::Bzip2);
    }
    if is_zlib(head) || compressed::old_joblib_stream(head).is_some() {
        return Ok(Format::Zlib);
    }
    if safetensors::is_likely(head, input.length()) {
        return Ok(Format::Safetensors);
    }
    if compressed::is_lzma_header(head) {
        return Ok(Format::Lzma);
    }
    Ok(if is_onnx(head, input.length()) { Format::Onnx } else { Format::Other })
}

/// Two bytes of RFC 1950: method 8 with any window, and a check that makes them a multiple of 31.
pub(crate) fn is_zlib(head: &[u8]) -> bool {
    matches!(head, [cmf @ (0x08 | 0x18 | 0x28 | 0x38 | 0x48 | 0x58 | 0x68 | 0x78), flags, ..]
        if (u16::from(*cmf) << 8 | u16::from(*flags)).is_multiple_of(31))
}

/// Whether the signature of a format is long enough not to occur by accident in numbers.
pub(crate) fn is_certain(format: Format) -> bool {
    matches!(format, Format::Zip | Format::Npy | Format::Hdf5 | Format::Xz | Format::Tar)
}

pub(crate) fn begins_as_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// Compiled Python 3: a version, a line end, and flags (PEP 552).
fn is_bytecode(head: &[u8]) -> bool {
    matches!(head, [_, 0x0c..=0x0f, b'\r', b'\n', 0..=3, 0, 0, 0, ..])
}

/// The top fields of onnx.proto3's `ModelProto` in the order that every writer keeps: the IR version, then a
/// field that follows it.
fn is_onnx(head: &[u8], length: u64) -> bool {
    let [0x08, version @ 1..=0x7f, tag, rest @ ..] = head else { return false };
    if *version > 32 {
        return false;
    }
    // producer_name, producer_version, domain, model_version, doc_string, graph, opset_import,
    // metadata_props.
    match tag {
        0x12 | 0x1a | 0x22 | 0x32 | 0x3a | 0x42 | 0x72 => {
            let mut size = 0_u64;
            for (index, byte) in rest.iter().take(5).enumerate() {
                size |= u64::from(byte & 0x7f) << (7 * index);
                if byte & 0x80 == 0 {
                    return size <= length;
                }
            }
            false
        }
        0x28 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn kind(bytes: &[u8]) -> Format {
        let mut source = Cursor::new(bytes.to_vec());
        let mut input = Input::new(&mut source).unwrap();
        let head = input.peek(0, HEAD_BYTES).unwrap();
        sniff(&head, &mut input, Role::File).unwrap()
    }

    #[test]
    fn first_bytes_tell_the_kind() {
        assert_eq!(kind(b"\x80\x04N."), Format::Pickle);
        assert_eq!(kind(b"\x7fELF\x02"), Format::Executable);
        assert_eq!(kind(b"#!/bin/sh\n"), Format::Script);
        assert_eq!(kind(b"\xcb\x0d\r\n\0\0\0\0rest"), Format::PythonBytecode);
        assert_eq!(kind(b"\x08\x0a\x12\x07pytorch:\x00"), Format::Onnx);
        assert_eq!(kind(b"# A model card\n"), Format::Other);
        assert_eq!(kind(b""), Format::Other);
    }
}
