//! Files that hide what they are: unusual containers, polyglots, configurations of Keras, and ONNX models
//! that reach out.

use std::io::{Cursor, Write as _};

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use lzma_rust2::{LzmaOptions, LzmaWriter};
use slipway_model_scan::{Code, Context, Format, LoaderCode, Policy, Report, Verdict, scan_within};

use crate::{assert_safe, codes, fixture, scan_bytes};

fn lzma(content: &[u8], dictionary: u32, (lc, lp, pb): (u32, u32, u32), stated: u32, sized: bool) -> Vec<u8> {
    let options = LzmaOptions { dict_size: dictionary, lc, lp, pb, ..LzmaOptions::with_preset(3) };
    let size = sized.then_some(content.len() as u64);
    let mut writer = LzmaWriter::new_use_header(Vec::new(), &options, size).expect("memory is writable");
    writer.write_all(content).expect("memory is writable");
    let mut bytes = writer.finish().expect("memory is writable");
    bytes[1..5].copy_from_slice(&stated.to_le_bytes());
    bytes
}

#[test]
fn lzma_of_any_dictionary_and_properties_is_unpacked() {
    let evil = fixture("evil_stack_global.pkl");
    for stated in [0, 4096, 0x1_0000, 3 << 20, 1 << 26, 1 << 31, u32::MAX] {
        for properties in [(3, 0, 2), (0, 0, 0), (4, 0, 4), (0, 4, 0), (1, 2, 3)] {
            for sized in [true, false] {
                let bytes = lzma(&evil, 4096, properties, stated, sized);
                let report = scan_bytes("model.joblib", &bytes);
                let what = format!("{stated} {properties:?} {sized}: {report:#?}");
                assert_eq!(report.format, Format::Lzma, "{what}");
                assert!(codes(&report).contains(&Code::DangerousGlobal), "{what}");
            }
        }
    }
    let honest = lzma(&fixture("sklearn_plain.joblib"), 4096, (3, 0, 2), 4096, false);
    assert_safe(&scan_bytes("model.joblib", &honest));
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("memory is writable");
    encoder.finish().expect("memory is writable")
}

#[test]
fn old_streams_of_joblib_are_unpacked_however_their_length_is_written() {
    let evil = fixture("evil_stack_global.pkl");
    let length = evil.len();
    for digits in [
        format!("{length:#x}"),
        format!("{length:x}"),
        format!("{length:X}"),
        format!("0X{length:x}"),
        format!("+{length:x}"),
        format!("  {length:x}"),
        format!("00000_{length:x}"),
    ] {
        for space in ["", " "] {
            let bytes = [format!("ZF{digits:<19}{space}").as_bytes(), &zlib(&evil)].concat();
            let report = scan_bytes("model.pkl", &bytes);
            assert!(codes(&report).contains(&Code::DangerousGlobal), "{digits}: {report:#?}");
        }
    }
    let broken = [b"ZF0x5                zzzz".as_slice(), &evil].concat();
    assert_ne!(scan_bytes("model.pkl", &broken).verdict, Verdict::Safe);
}

#[test]
fn containers_that_are_not_unpacked_are_unverified() {
    let evil = fixture("evil_stack_global.pkl");
    let skippable = |sign: u8| {
        [&[sign, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, b'h', b'i'][..], b"\x28\xb5\x2f\xfd", &evil].concat()
    };
    let mut files = vec![
        [b"\x28\xb5\x2f\xfd".as_slice(), &evil].concat(),
        [b"\x04\x22\x4d\x18".as_slice(), &evil].concat(),
        [b"7z\xbc\xaf\x27\x1c".as_slice(), &evil].concat(),
        [b"Rar!\x1a\x07\x01\x00".as_slice(), &evil].concat(),
        [b"LZIP\x01".as_slice(), &evil].concat(),
    ];
    files.extend((0x50..=0x5f).map(skippable));
    for bytes in files {
        for name in ["model.pkl", "model.zst", "notes.txt", "model.onnx", "MLmodel", "x.json"] {
            let report = scan_bytes(name, &bytes);
            assert_ne!(report.verdict, Verdict::Safe, "{name}: {report:#?}");
            assert!(codes(&report).contains(&Code::NotUnderstood));
        }
    }
}

#[test]
fn several_streams_one_after_another_are_unpacked_or_refused() {
    let (plain, evil) = (fixture("numpy_p4.pkl"), fixture("evil_stack_global.pkl"));
    let gzip = |content: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    let half = plain.len() / 2;
    assert_safe(&scan_bytes("m.pkl.gz", &[gzip(&plain[..half]), gzip(&plain[half..])].concat()));
    for bytes in [
        [gzip(&plain), gzip(&evil)].concat(),
        [gzip(&evil[..9]), gzip(&evil[9..])].concat(),
        [gzip(b""), gzip(&evil)].concat(),
        [zlib(&plain), zlib(&evil)].concat(),
        [zlib(b""), zlib(&evil)].concat(),
        [gzip(&plain), evil.clone()].concat(),
        [gzip(&plain), b"\0\0\0\0".to_vec(), gzip(&evil)].concat(),
    ] {
        assert_ne!(scan_bytes("m.pkl", &bytes).verdict, Verdict::Safe);
    }
}

#[test]
fn a_pickle_that_only_imports_is_no_text() {
    for (bytes, name) in [
        (b"cantigravity\nfly\n.".as_slice(), "notes.txt"),
        (b"cantigravity\nfly\nand more text", "notes.txt"),
        (b"csklearn.evil\nx\nand more text", "README.md"),
        (b"cmy_module\nname\n.", "labels.txt"),
        (b"(imy_module\nname\n.", "labels.txt"),
        (b"\x80\x04\x8c\x09my_module\x8c\x04name\x93.", "model.pkl"),
        (b"\x80\x04\x8c\x09my_module\x8c\x04name\x930N.", "model.pkl"),
        (b"cmy_module\nname\n0N.", "model.bin"),
        (b"crequirements\nthis\n.", "requirements.txt"),
    ] {
        let report = scan_bytes(name, bytes);
        assert_eq!(
            (report.verdict, report.code),
            (Verdict::Unsafe, LoaderCode::Present),
            "{name}: {report:#?}"
        );
    }
}

#[test]
fn a_zip_archive_behind_other_bytes_is_refused_whatever_it_holds() {
    for name in ["notes.txt", "model.onnx", "x.json", "x.bin"] {
        let bytes = [b"# text before it\n".to_vec(), fixture("plain.zip")].concat();
        let report = scan_bytes(name, &bytes);
        assert!(codes(&report).contains(&Code::ZipUnlistedBytes), "{name}: {report:#?}");
    }
}

fn keras(layer: &str) -> Report {
    let config = format!(
        r#"{{"module": "keras", "class_name": "Sequential", "registered_name": null, "config": {{"name": "m",
        "layers": [{{"module": "keras.layers", "class_name": "Dense", "registered_name": null,
            "config": {{"units": 1, "activation": {{"module": "builtins", "class_name": "function",
            "config": "relu", "registered_name": "function"}}}}}},
        {layer}]}}}}"#
    );
    let names = ["config.json", "model.json", "architecture.json"];
    let reports = names.map(|name| scan_bytes(name, config.as_bytes()));
    assert!(reports.iter().all(|report| report.findings.len() == reports[0].findings.len()));
    let [report, ..] = reports;
    report
}

#[test]
fn layers_of_keras_that_compute_are_safe_and_no_others() {
    let layer = |module: &str, class: &str, config: &str| {
        keras(&format!(
            r#"{{"module": "{module}", "class_name": "{class}", "registered_name": null,
                "config": {config}}}"#
        ))
    };
    assert_safe(&layer("keras.layers", "Dropout", r#"{"rate": 0.5}"#));
    assert_safe(&layer("keras.layers", "StringLookup", r#"{"vocabulary": ["a", "b"]}"#));
    assert_safe(&layer("keras.src.layers.core.dense", "Dense", "{}"));
    for (module, class, config, code) in [
        ("keras.layers", "Lambda", "{}", Code::EmbeddedCode),
        ("keras.layers", "TorchModuleWrapper", r#"{"module": "x"}"#, Code::EmbeddedCode),
        ("keras.layers", "TFSMLayer", r#"{"filepath": "x"}"#, Code::EmbeddedCode),
        ("keras.layers", "JaxLayer", "{}", Code::EmbeddedCode),
        ("keras.layers", "FlaxLayer", "{}", Code::EmbeddedCode),
        ("builtins", "__lambda__", "{}", Code::EmbeddedCode),
        ("keras.layers", "StringLookup", r#"{"vocabulary": "/etc/passwd"}"#, Code::ReferenceOutside),
        ("keras.layers", "IntegerLookup", r#"{"vocabulary": "vocabulary.txt"}"#, Code::ReferenceOutside),
        ("keras.layers", "TextVectorization", r#"{"vocabulary": "/etc/passwd"}"#, Code::ReferenceOutside),
        ("builtins", "function", r#""run""#, Code::LoaderReference),
        ("os", "function", r#""system""#, Code::DangerousGlobal),
        ("keras.src.utils.file_utils", "function", r#""get_file""#, Code::GlobalNotAllowed),
        ("keras.activations", "function", r#""get_file""#, Code::LoaderReference),
        ("os", "system", "{}", Code::DangerousGlobal),
        ("my_package.layers", "Dense", "{}", Code::GlobalNotAllowed),
        ("keras.src.utils.file_utils", "get_file", "{}", Code::GlobalNotAllowed),
        ("keras.layers", "SomethingNew", "{}", Code::NotUnderstood),
    ] {
        let report = layer(module, class, config);
        assert!(codes(&report).contains(&code), "{module}.{class}: {report:#?}");
    }
    // The class of another registration, and the form before version 3.
    let other = keras(
        r#"{"module": "keras.layers", "class_name": "Dense", "registered_name": "my>Dense", "config": {}}"#,
    );
    assert_eq!(codes(&other), [Code::LoaderReference].into());
    assert!(
        codes(&keras(r#"{"class_name": "Lambda", "config": {"function": ["4wEA", null, null]}}"#))
            .contains(&Code::EmbeddedCode)
    );
    assert!(codes(&keras(r#"{"class_name": "MyLayer", "config": {}}"#)).contains(&Code::NotUnderstood));
}

/// Fields of protobuf, all of them with a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

/// A model of one node, with an initializer whose weights lie elsewhere.
fn onnx(domain: &str, location: Option<&str>) -> Vec<u8> {
    let mut node = [field(1, b"x"), field(2, b"y"), field(4, b"Relu")].concat();
    node.extend(field(7, domain.as_bytes()));
    let value = |name: &str| {
        let tensor = [b"\x08\x01".as_slice(), &field(2, &field(1, b"\x08\x01"))].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    };
    let mut graph =
        [field(1, &node), field(2, b"g"), field(11, &value("x")), field(12, &value("y"))].concat();
    if let Some(location) = location {
        let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
        let tensor =
            [b"\x08\x01\x10\x01".as_slice(), &field(8, b"w"), &field(13, &entry), b"\x70\x01"].concat();
        graph.extend(field(5, &tensor));
    }
    [b"\x08\x08".to_vec(), field(2, b"me"), field(7, &graph), field(8, b"\x0a\x00\x10\x0d")].concat()
}

#[test]
fn onnx_models_are_read_to_their_end() {
    let sound = onnx("", None);
    let report = scan_bytes("model.onnx", &sound);
    assert_safe(&report);
    assert_eq!(report.format, Format::Onnx);
    for (name, bytes, code) in [
        ("model.onnx", onnx("my.operators", None), Code::LoaderReference),
        ("saved_model.pb", sound.clone(), Code::GraphProgram),
        ("model.pkl", sound.clone(), Code::NotUnderstood),
        ("model.onnx", sound[..sound.len() - 3].to_vec(), Code::NotUnderstood),
        ("model.onnx", [sound.clone(), b"more".to_vec()].concat(), Code::NotUnderstood),
        ("model.onnx", [sound.clone(), field(15, b"hidden")].concat(), Code::NotUnderstood),
        ("model.onnx", b"\x08\x01\x12\x03abc".to_vec(), Code::NotUnderstood),
        ("model.onnx", [field(12, b"hidden"), sound.clone()].concat(), Code::NotUnderstood),
    ] {
        let report = scan_bytes(name, &bytes);
        assert_eq!(codes(&report), [code].into(), "{name}: {report:#?}");
    }
}

#[test]
fn weights_outside_of_the_model_are_refused() {
    for location in ["../w.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", "a/../../w", "C:\\w", "file:///w"] {
        let report = scan_bytes("model.onnx", &onnx("", Some(location)));
        assert_ne!(report.verdict, Verdict::Safe, "{location}: {report:#?}");
    }
    let weights = ["data/w.bin".to_owned()].into();
    let context = Context { files: ["data/model.onnx", "data/w.bin"].map(str::to_owned).into(), weights };
    let within = |name: &str, bytes: &[u8]| {
        scan_within(name, Cursor::new(bytes), &Policy::default(), &context).unwrap()
    };
    assert_safe(&within("data/model.onnx", &onnx("", Some("w.bin"))));
    assert_eq!(codes(&within("data/model.onnx", &onnx("", Some("v.bin")))), [Code::NotUnderstood].into());
    assert_eq!(codes(&within("model.onnx", &onnx("", Some("w.bin")))), [Code::NotUnderstood].into());
    // Weights are numbers, unless another loader would make more of them.
    let report = within("data/w.bin", &[7; 100]);
    assert_safe(&report);
    assert_eq!(report.format, Format::Weights);
    let evil = fixture("evil_stack_global.pkl");
    let weights = ["code/w.py", "conda.yaml", "model.so"].map(str::to_owned).into();
    let named = Context { weights, ..Context::default() };
    for (name, bytes) in
        [("code/w.py", b"import os".as_slice()), ("conda.yaml", b"pip: x"), ("model.so", b"x")]
    {
        let report = scan_within(name, Cursor::new(bytes), &Policy::default(), &named).unwrap();
        assert_ne!(report.verdict, Verdict::Safe, "{name}");
    }
    for bytes in [evil.clone(), zlib(&evil), fixture("evil.npz"), lzma(&evil, 4096, (3, 0, 2), 4096, false)] {
        assert_eq!(within("data/w.bin", &bytes).verdict, Verdict::Unsafe);
    }
}
