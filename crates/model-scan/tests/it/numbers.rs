//! Arrays of numpy and tensors of safetensors: every type and shape adds up with the bytes that are there.

use slipway_model_scan::{Code, Format, LoaderCode, Report, Verdict};

use crate::{assert_safe, codes, scan_bytes};

/// An array file as `numpy.lib.format` writes it.
fn npy(version: u8, descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n");
    npy_of(version, header.as_bytes(), data)
}

fn npy_of(version: u8, header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = [b"\x93NUMPY".as_slice(), &[version, 0]].concat();
    if version == 1 {
        bytes.extend((header.len() as u16).to_le_bytes());
    } else {
        bytes.extend((header.len() as u32).to_le_bytes());
    }
    [bytes.as_slice(), header, data].concat()
}

#[test]
fn arrays_of_every_type_take_the_bytes_that_they_say() {
    for (descr, bytes) in [
        ("'|b1'", 1_usize),
        ("'|i1'", 1),
        ("'<i2'", 2),
        ("'>i4'", 4),
        ("'<i8'", 8),
        ("'<u8'", 8),
        ("'<f2'", 2),
        ("'<f4'", 4),
        ("'=f8'", 8),
        ("'<f16'", 16),
        ("'<c8'", 8),
        ("'<c16'", 16),
        ("'<M8[ns]'", 8),
        ("'<m8[25s]'", 8),
        ("'|S7'", 7),
        ("'|a7'", 7),
        ("'|V3'", 3),
        ("'<U5'", 20),
        ("'|S0'", 0),
        ("[('x', '<f4'), ('y', '|S3')]", 7),
        ("[('x', '<f4', (2, 3))]", 24),
        ("[('x', [('a', '|i1'), ('b', '<i2')])]", 3),
        ("('<i4', (2,))", 8),
    ] {
        for version in 1..=3 {
            let sound = npy(version, descr, "(3, 2)", &vec![7; bytes * 6]);
            let report = scan_bytes("x.npy", &sound);
            assert_safe(&report);
            assert_eq!((report.format, report.code), (Format::Npy, LoaderCode::None), "{descr}");
            let longer = [sound.as_slice(), b"!"].concat();
            assert_eq!(codes(&scan_bytes("x.npy", &longer)), [Code::TrailingBytes].into(), "{descr}");
            if bytes > 0 {
                let shorter = &sound[..sound.len() - 1];
                assert_eq!(codes(&scan_bytes("x.npy", shorter)), [Code::CannotBeFollowed].into(), "{descr}");
            }
        }
    }
}

#[test]
fn shapes_are_numbers_that_do_not_overflow() {
    for (shape, elements) in
        [("()", 1), ("(4,)", 4), ("(2, 2)", 4), ("(2L, 2L)", 4), ("(0, 7)", 0), ("(7, 0)", 0)]
    {
        assert_safe(&scan_bytes("x.npy", &npy(1, "'|i1'", shape, &vec![0; elements])));
    }
    for shape in [
        "(-1,)",
        "('a',)",
        "None",
        "(1.5,)",
        "(99999999999999999999,)",
        "(4294967296, 4294967296, 4294967296)",
        "(True,)",
    ] {
        let report = scan_bytes("x.npy", &npy(1, "'|i1'", shape, &[0; 8]));
        assert_eq!(codes(&report), [Code::CannotBeFollowed].into(), "{shape}: {report:#?}");
        assert_eq!(report.verdict, Verdict::Unsafe);
    }
}

#[test]
fn headers_that_are_no_plain_literal_are_refused() {
    for header in [
        "",
        "{",
        "{}",
        "[]",
        "{'descr': '<f8', 'fortran_order': False}",
        "{'descr': '<f8', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<f8', 'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': __import__('os').system('id'), 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f8' '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '\\x3cf8', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)} + 1",
        "{'descr': '<z8', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f99', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f-8', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': 8, 'fortran_order': False, 'shape': (1,)}",
    ] {
        let report = scan_bytes("x.npy", &npy_of(1, header.as_bytes(), &[0; 8]));
        assert_eq!(codes(&report), [Code::CannotBeFollowed].into(), "{header}: {report:#?}");
    }
    for version in [0, 4, 255] {
        let report = scan_bytes("x.npy", &npy(version, "'<f8'", "(1,)", &[0; 8]));
        assert_ne!(report.verdict, Verdict::Safe, "version {version}: {report:#?}");
    }
    let lied = [b"\x93NUMPY\x02\x00\xff\xff\xff\x7f".as_slice(), b"{}"].concat();
    assert_eq!(
        codes(&scan_bytes("x.npy", &lied)),
        [Code::CannotBeFollowed].into(),
        "a length beyond the file"
    );
}

/// An array of objects is a pickle, whatever the rest of its type is.
#[test]
fn objects_in_arrays_are_followed() {
    let evil = b"cos\nsystem\n(S'id'\ntR.";
    for descr in [
        "'|O'",
        "'O'",
        "'|O8'",
        "[('x', '|O')]",
        "[('x', '<f4'), ('y', [('z', '|O', (2,))])]",
        "('|O', (2,))",
    ] {
        let report = scan_bytes("x.npy", &npy(1, descr, "(1,)", evil));
        assert!(codes(&report).contains(&Code::DangerousGlobal), "{descr}: {report:#?}");
        assert_eq!((report.verdict, report.code), (Verdict::Unsafe, LoaderCode::Present), "{descr}");
        assert_safe(&scan_bytes("x.npy", &npy(1, descr, "(1,)", b"\x80\x04]N\x85a.")));
    }
}

#[test]
fn several_arrays_stand_one_behind_the_other() {
    let one = npy(1, "'<f4'", "(2,)", &[0; 8]);
    let objects = npy(1, "'|O'", "(1,)", b"cos\nsystem\n(S'id'\ntR.");
    assert_safe(&scan_bytes("x.npy", &[one.clone(), one.clone()].concat()));
    let report = scan_bytes("x.npy", &[one.clone(), one, objects].concat());
    assert!(codes(&report).contains(&Code::DangerousGlobal), "{report:#?}");
}

fn safetensors(header: &str, data: usize) -> Report {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    scan_bytes("model.safetensors", &bytes)
}

fn tensor(dtype: &str, shape: &str, from: usize, to: usize) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

#[test]
fn tensors_of_every_type_take_the_bytes_that_they_say() {
    for (dtype, bits) in [
        ("BOOL", 8),
        ("U8", 8),
        ("I8", 8),
        ("F8_E4M3", 8),
        ("F8_E5M2", 8),
        ("F8_E8M0", 8),
        ("U16", 16),
        ("I16", 16),
        ("F16", 16),
        ("BF16", 16),
        ("U32", 32),
        ("I32", 32),
        ("F32", 32),
        ("U64", 64),
        ("I64", 64),
        ("F64", 64),
        ("C64", 64),
        ("F4", 4),
        ("F6_E2M3", 6),
        ("F6_E3M2", 6),
    ] {
        let bytes = bits * 8 / 8;
        let header = format!(r#"{{"w":{}}}"#, tensor(dtype, "[2,4]", 0, bytes));
        let report = safetensors(&header, bytes);
        assert_safe(&report);
        assert_eq!((report.format, report.code), (Format::Safetensors, LoaderCode::None), "{dtype}");
        for wrong in [bytes - 1, bytes + 1] {
            let header = format!(r#"{{"w":{}}}"#, tensor(dtype, "[2,4]", 0, wrong));
            let report = safetensors(&header, wrong);
            assert_eq!(codes(&report), [Code::SafetensorsTensor].into(), "{dtype} of {wrong}: {report:#?}");
        }
    }
    // Four bits three times are no whole bytes.
    let report = safetensors(&format!(r#"{{"w":{}}}"#, tensor("F4", "[3]", 0, 2)), 2);
    assert_eq!(codes(&report), [Code::SafetensorsTensor].into());
}

#[test]
fn tensors_neither_overlap_nor_leave_holes_in_any_order() {
    let header = |offsets: [(usize, usize); 3]| {
        let tensors = offsets.map(|(from, to)| tensor("F32", "[2]", from, to));
        format!(r#"{{"c":{},"a":{},"b":{}}}"#, tensors[0], tensors[1], tensors[2])
    };
    assert_safe(&safetensors(&header([(16, 24), (0, 8), (8, 16)]), 24));
    for (why, offsets, data) in [
        ("they overlap", [(0, 8), (4, 12), (12, 20)], 20),
        ("two are the same", [(0, 8), (0, 8), (8, 16)], 16),
        ("there is a hole", [(0, 8), (9, 17), (17, 25)], 25),
        ("the first bytes are nobody's", [(8, 16), (16, 24), (24, 32)], 32),
        ("bytes are left", [(0, 8), (8, 16), (16, 24)], 25),
        ("bytes are missing", [(0, 8), (8, 16), (16, 24)], 23),
        ("an end is before its begin", [(8, 0), (8, 16), (16, 24)], 24),
    ] {
        let report = safetensors(&header(offsets), data);
        assert_eq!(codes(&report), [Code::SafetensorsTensor].into(), "{why}: {report:#?}");
    }
}

#[test]
fn of_many_broken_tensors_the_first_ones_are_named() {
    let tensors: Vec<String> =
        (0..100).map(|at| format!(r#""t{at}":{}"#, tensor("F32", "[1]", 0, 5))).collect();
    let report = safetensors(&format!("{{{}}}", tensors.join(",")), 5);
    assert!(report.findings.len() < 20, "{}", report.findings.len());
    assert_eq!(report.verdict, Verdict::Unsafe);
}

#[test]
fn a_header_that_readers_could_read_differently_is_refused() {
    let good = tensor("F32", "[1]", 0, 4);
    for (why, header) in [
        ("a tensor twice", format!(r#"{{"a":{good},"a":{good}}}"#)),
        (
            "a field twice",
            r#"{"a":{"dtype":"F32","dtype":"I8","shape":[1],"data_offsets":[0,4]}}"#.to_owned(),
        ),
        ("metadata twice", format!(r#"{{"__metadata__":{{}},"__metadata__":{{}},"a":{good}}}"#)),
        (
            "a further field",
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"code":"x"}}"#.to_owned(),
        ),
        ("a missing field", r#"{"a":{"dtype":"F32","shape":[1]}}"#.to_owned()),
        ("metadata that is no text", format!(r#"{{"__metadata__":{{"a":[1]}},"a":{good}}}"#)),
        ("three offsets", r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#.to_owned()),
        ("a negative offset", r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#.to_owned()),
        ("a fraction", r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#.to_owned()),
        ("a second value", format!(r#"{{"a":{good}}} {{}}"#)),
    ] {
        let report = safetensors(&header, 4);
        assert_eq!(codes(&report), [Code::SafetensorsHeader].into(), "{why}: {report:#?}");
        assert_eq!(report.verdict, Verdict::Unsafe, "{why}");
    }
}
