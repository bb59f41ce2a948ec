//! Arrays, safetensors, documents that name classes, and files that are no models.

use slipway_model_scan::{Code, Format, Policy, Report, Verdict, scan_path};

use crate::{assert_found, assert_safe, codes, fixture, folder, scan_bytes, scan_fixture};

#[test]
fn arrays_are_safe_and_objects_in_them_are_followed() {
    for (name, format) in [
        ("plain.npy", Format::Npy),
        ("object.npy", Format::Npy),
        ("plain.npz", Format::Npz),
        ("compressed.npz", Format::Npz),
        ("object.npz", Format::Npz),
    ] {
        let report = scan_fixture(name);
        assert_safe(&report);
        assert_eq!(report.format, format);
    }
    assert_eq!(scan_fixture("object.npz").counts.pickles, 1);
    let report = assert_found("evil.npz", Code::DangerousGlobal);
    assert_eq!(report.findings[0].path, "evil.npz!/weights.npy");
}

#[test]
fn bytes_after_an_array_are_refused() {
    let mut bytes = fixture("plain.npy");
    bytes.extend(b"more");
    assert_eq!(codes(&scan_bytes("x.npy", &bytes)), [Code::TrailingBytes].into());
    let cut = &fixture("plain.npy")[..200];
    assert_eq!(codes(&scan_bytes("x.npy", cut)), [Code::CannotBeFollowed].into());
}

#[test]
fn skops_types_are_held_against_the_list() {
    let report = scan_fixture("arrays.skops");
    assert_safe(&report);
    assert_eq!(report.format, Format::Skops);
    assert_safe(&scan_fixture("sklearn.skops"));
    let report = scan_path(folder().join("sklearn.skops"), &Policy::data_only()).unwrap();
    assert_eq!(codes(&report), [Code::GlobalNotAllowed].into());
    assert!(report.findings[0].path.ends_with("sklearn.skops!/schema.json"));
    let policy = Policy::data_only().allow(["sklearn.linear_model._logistic.LogisticRegression"]);
    assert_safe(&scan_path(folder().join("sklearn.skops"), &policy).unwrap());
}

#[test]
fn code_in_a_keras_archive_is_found() {
    assert_eq!(assert_found("lambda.keras", Code::EmbeddedCode).format, Format::Keras);
}

fn safetensors(header: &str, data: usize) -> Report {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    scan_bytes("model.safetensors", &bytes)
}

#[test]
fn safetensors_have_to_add_up() {
    let tensor = |offsets: &str| format!(r#"{{"dtype":"F32","shape":[2,2],"data_offsets":{offsets}}}"#);
    let (first, second) = (tensor("[0,16]"), tensor("[16,32]"));
    let good = format!(r#"{{"__metadata__":{{"format":"pt"}},"b":{second},"a":{first}}}   "#);
    let report = safetensors(&good, 32);
    assert_safe(&report);
    assert_eq!(report.format, Format::Safetensors);
    assert_safe(&safetensors("{}", 0));

    let tensors = |header: &str, data: usize| {
        let report = safetensors(header, data);
        assert_eq!(codes(&report), [Code::SafetensorsTensor].into(), "{report:#?}");
        report.findings[0].detail.clone()
    };
    assert!(tensors(&good, 33).contains("which have 33"));
    let (hole, overlap) = (tensor("[20,36]"), tensor("[8,24]"));
    assert!(tensors(&format!(r#"{{"a":{first},"b":{hole}}}"#), 36).contains("tensor `b`"));
    assert!(tensors(&format!(r#"{{"a":{first},"b":{overlap}}}"#), 24).contains("tensor `b`"));
    assert!(tensors(&format!(r#"{{"a":{}}}"#, first.replace("F32", "F9")), 16).contains("unknown"));
    assert!(
        tensors(&format!(r#"{{"a":{}}}"#, first.replace("[2,2]", "[4294967296,4294967296]")), 16)
            .contains("larger")
    );

    for broken in [
        format!(r#"{{"a":{first},"a":{second}}}"#),
        r#"{"a":{"dtype":"F32","dtype":"F64","shape":[],"data_offsets":[0,4]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#.to_owned(),
        r#"{"__metadata__":{"a":1}}"#.to_owned(),
        "{".to_owned(),
    ] {
        assert_eq!(codes(&safetensors(&broken, 32)), [Code::SafetensorsHeader].into(), "{broken}");
    }
    let mut long = 100_000_001_u64.to_le_bytes().to_vec();
    long.extend(b"{}");
    assert_eq!(codes(&scan_bytes("x.safetensors", &long)), [Code::SafetensorsHeader].into());
}

#[test]
fn programs_and_scripts_are_refused() {
    for bytes in [
        b"\x7fELF\x02\x01".as_slice(),
        b"MZ\x90\x00",
        b"\xcf\xfa\xed\xfe",
        b"#!/bin/sh\n",
        b"\xcb\x0d\r\n\0\0\0\0",
    ] {
        assert_eq!(codes(&scan_bytes("model.onnx", bytes)), [Code::Executable].into());
    }
    let report = scan_bytes("model.h5", b"\x89HDF\r\n\x1a\nrest");
    assert_eq!((report.format, codes(&report)), (Format::Hdf5, [Code::NotUnderstood].into()));
}

#[test]
fn a_report_keeps_its_codes_in_json() {
    let report = scan_fixture("evil_global.pkl");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "unsafe");
    assert_eq!(json["format"], "pickle");
    assert_eq!(json["findings"][0]["code"], "dangerous-global");
    assert_eq!(json["findings"][0]["path"], "evil_global.pkl");
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    assert_eq!(report.verdict, Verdict::Unsafe);
}
