//! Pickles, joblib dumps and torch files.

use std::io::Cursor;

use slipway_model_scan::{Code, Format, Policy, Verdict, scan};

use crate::{assert_found, assert_safe, codes, fixture, scan_bytes, scan_fixture};

/// What a logistic regression of scikit-learn needs besides data.
const SKLEARN: [&str; 1] = ["sklearn.linear_model._logistic.LogisticRegression"];

#[test]
fn plain_data_of_every_protocol_is_safe() {
    for protocol in 0..=5 {
        let report = scan_fixture(&format!("numpy_p{protocol}.pkl"));
        assert_safe(&report);
        assert_eq!(report.format, Format::Pickle);
        assert!(report.globals.contains(&"numpy.dtype".to_owned()), "{:?}", report.globals);
    }
}

#[test]
fn without_the_list_of_models_an_estimator_is_refused_until_its_globals_are_allowed() {
    let policy = Policy::data_only().allow(SKLEARN);
    for name in ["sklearn.pkl", "sklearn_plain.joblib"] {
        assert_safe(&scan_fixture(name));
        let report = scan(name, Cursor::new(fixture(name)), &Policy::data_only()).unwrap();
        assert_eq!(codes(&report), [Code::GlobalNotAllowed].into(), "{report:#?}");
        assert!(report.globals.contains(&SKLEARN[0].to_owned()));
        assert_safe(&scan(name, Cursor::new(fixture(name)), &policy).unwrap());
    }
}

#[test]
fn compressed_joblib_is_followed_to_the_bytes_of_its_arrays() {
    let policy = Policy::data_only().allow(SKLEARN);
    let kinds = [
        ("zlib", Format::Zlib),
        ("gzip", Format::Gzip),
        ("bz2", Format::Bzip2),
        ("xz", Format::Xz),
        ("lzma", Format::Lzma),
    ];
    for (kind, format) in kinds {
        let name = format!("sklearn_{kind}.joblib");
        assert_safe(&scan_fixture(&name));
        let report = scan(&name, Cursor::new(fixture(&name)), &Policy::data_only()).unwrap();
        assert_eq!(codes(&report), [Code::GlobalNotAllowed].into(), "{report:#?}");
        assert_eq!(report.findings[0].path, format!("{name}!/{name}"));
        assert_eq!(report.format, format);
        assert_safe(&scan(&name, Cursor::new(fixture(&name)), &policy).unwrap());
    }
}

#[test]
fn arrays_of_joblib_are_gone_over_and_objects_within_are_followed() {
    let report = scan_fixture("arrays.joblib");
    assert_safe(&report);
    assert_eq!((report.format, report.counts.pickles), (Format::Joblib, 2));
    assert_found("evil.joblib", Code::DangerousGlobal);
    assert_found("evil_object.joblib", Code::DangerousGlobal);
    let shadowed = assert_found("evil_array_bytes.joblib", Code::DangerousGlobal);
    assert!(shadowed.findings[0].detail.starts_with("in the bytes of an array"), "{shadowed:#?}");
}

#[test]
fn every_way_to_import_and_call_is_seen() {
    for name in [
        "evil_global.pkl",
        "evil_no_stop.pkl",
        "evil_python2.pkl",
        "evil_inst.pkl",
        "evil_obj.pkl",
        "evil_stack_global.pkl",
        "evil_memo.pkl",
        "evil_memo_dict.pkl",
        "evil_dotted.pkl",
        "evil_copyreg.pkl",
        "evil_newobj_ex.pkl",
        "evil_second.pkl",
        "evil_second_p0.pkl",
        "evil.onnx",
    ] {
        let report = assert_found(name, Code::DangerousGlobal);
        assert_eq!(report.format, Format::Pickle, "{name}");
    }
    assert_found("evil_dotted_global.pkl", Code::DottedGlobal);
    assert_found("evil_extension.pkl", Code::ExtensionCode);
    assert_found("persistent_id.pkl", Code::PersistentId);
    assert_found("trailing.pkl", Code::TrailingBytes);
}

#[test]
fn what_is_no_constant_or_no_construction_is_refused() {
    for name in [
        "evil_computed.pkl",
        "evil_escaped.pkl",
        "evil_build_on_class.pkl",
        "evil_call_result.pkl",
        "evil_dtype_flags.pkl",
    ] {
        assert_found(name, Code::CallNotFollowed);
    }
}

#[test]
fn the_name_of_a_file_hides_nothing() {
    for name in ["model.onnx", "README.md", "weights.safetensors", "labels.txt", "image.png", ""] {
        for evil in ["evil_global.pkl", "evil_stack_global.pkl", "evil_no_stop.pkl", "evil_inst.pkl"] {
            assert_eq!(scan_bytes(name, &fixture(evil)).verdict, Verdict::Unsafe, "{evil} as {name}");
        }
    }
}

#[test]
fn calls_that_ask_for_memory_are_refused() {
    let report = scan_bytes("x", b"\x80\x04\x8c\x08builtins\x8c\x09bytearray\x93J\xff\xff\xff\x7f\x85R.");
    assert_eq!(codes(&report), [Code::LimitExceeded].into());
}

#[test]
fn a_codec_that_is_more_than_a_codec_is_refused() {
    let report = scan_bytes("x", b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.");
    assert_eq!(codes(&report), [Code::CallNotFollowed].into());
}

#[test]
fn a_pickle_that_breaks_off_says_where() {
    let report = scan_bytes("x", b"\x80\x04\x8c\x40abc");
    assert_eq!(codes(&report), [Code::CannotBeFollowed].into());
    assert!(report.findings[0].detail.contains("opcode 0x8c at byte 2"), "{report:#?}");
}

#[test]
fn opcodes_are_limited() {
    let mut policy = Policy::default();
    policy.limits.opcodes = 10;
    let report = scan("x", Cursor::new(b"\x80\x04NNNNNNNNNNNNNNNNNN.".to_vec()), &policy).unwrap();
    assert!(report.findings[0].detail.contains("more than 10 opcodes"), "{report:#?}");
}

#[test]
fn torch_files_of_both_kinds_are_followed() {
    for (name, format) in [("torch.pt", Format::TorchZip), ("torch_legacy.pt", Format::TorchLegacy)] {
        let report = scan_fixture(name);
        assert_safe(&report);
        assert_eq!(report.format, format);
        assert!(report.globals.contains(&"torch.FloatStorage".to_owned()));
    }
    let report = assert_found("torch_evil.pt", Code::DangerousGlobal);
    assert_eq!(report.findings[0].path, "torch_evil.pt!/model/data.pkl");
    assert_found("torch_legacy_evil.pt", Code::DangerousGlobal);
    assert_found("torch_legacy_trailing.pt", Code::TrailingBytes);
    assert_found("torchscript.pt", Code::EmbeddedCode);
}

#[test]
fn a_frame_that_reaches_beyond_its_pickle_is_refused() {
    // Called twice, CPython goes over the byte behind STOP with the frame and loads what comes then.
    let twice = b"\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00N.\xffcos\nsystem\n(S'echo owned'\ntR.";
    assert!(codes(&scan_bytes("x", twice)).contains(&Code::CannotBeFollowed));
    let long = b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff(S'echo owned'\nios\nsystem\n.";
    assert!(codes(&scan_bytes("x", long)).contains(&Code::DangerousGlobal));
}

#[test]
fn a_last_line_without_its_feed_still_imports() {
    // CPython takes the last byte for the feed, whatever it is.
    let report = scan_bytes("x.txt", b"(S'echo owned'\nios\nsystem!");
    assert_eq!(codes(&report), [Code::DangerousGlobal, Code::CannotBeFollowed].into());
}
