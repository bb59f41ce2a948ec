//! Documents by which an installer or a loader runs code: requirements, environments, and configurations of
//! Keras.

use slipway_model_scan::{Code, Format, LoaderCode, Report, Verdict};

use crate::{assert_safe, codes, scan_bytes};

/// Fails unless the document carries code, for this reason alone.
#[track_caller]
fn assert_code(name: &str, text: &str, code: Code) -> Report {
    let report = scan_bytes(name, text.as_bytes());
    assert_eq!(codes(&report), [code].into(), "{name}: {text}\n{report:#?}");
    assert_eq!(report.code, LoaderCode::Present, "{name}: {text}");
    report
}

#[test]
fn requirements_of_ordinary_models_are_safe_under_every_name() {
    let text = "# made by pip-compile\nmlflow==3.17.2\nnumpy>=1.26,<3\nscikit-learn ~= \
        1.5\n\ntorch==2.4.0+cpu ; python_version >= '3.9'\nuvicorn[standard]\npandas==2.2.3 --hash=sha256:0a \
        --hash=sha256:0b\n-c constraints.txt\n";
    for name in [
        "requirements.txt",
        "Requirements.txt",
        "requirements-dev.txt",
        "a/b/requirements.in",
        "constraints.txt",
    ] {
        let report = scan_bytes(name, text.as_bytes());
        assert_safe(&report);
        assert_eq!((report.format, report.code), (Format::Requirements, LoaderCode::None), "{name}");
    }
}

#[test]
fn requirements_from_elsewhere_than_the_index_are_found_on_their_line() {
    for line in [
        "git+https://example.org/x.git",
        "x @ https://example.org/x.whl",
        "https://example.org/x.tar.gz",
        "./local",
        "../local",
        "-e .",
        "--index-url https://example.org",
        "-i https://example.org",
        "--extra-index-url https://example.org",
        "--find-links https://example.org",
        "--trusted-host example.org",
        "-r ../../requirements.txt",
        "-r https://example.org/requirements.txt",
        "x.whl",
        "${EVIL}",
    ] {
        for end in ["\n", "\r\n", ""] {
            let text = format!("mlflow==3.17.2\n{line}{end}");
            let report = assert_code("requirements.txt", &text, Code::InstallCode);
            assert!(report.findings[0].detail.contains("byte 15"), "{report:#?}");
            assert_eq!(report.verdict, Verdict::Unverified);
        }
    }
    // pip ends a line where others do not.
    for end in ['\u{b}', '\u{c}', '\u{1c}', '\u{85}', '\u{2028}'] {
        assert_code("requirements.txt", &format!("numpy # x{end}git+https://x/y"), Code::InstallCode);
    }
}

#[test]
fn environments_hold_packages_and_nothing_else() {
    assert_safe(&scan_bytes(
        "conda.yaml",
        b"name: mlflow-env\nchannels: [conda-forge, defaults]\ndependencies:\n- python=3.11.7\n- \
            conda-forge::numpy>=1.26\n- pip<=24\n- pip:\n  - mlflow==3.17.2\n  - -r requirements.txt\n",
    ));
    for (entry, code) in [
        ("channels: [https://example.org/channel]", Code::InstallCode),
        ("channels: [../local]", Code::InstallCode),
        ("dependencies: ['https://example.org/x.conda']", Code::InstallCode),
        ("dependencies: [x.tar.bz2]", Code::InstallCode),
        ("dependencies: [evil/channel::x]", Code::InstallCode),
        ("dependencies: [{pip: [git+https://example.org/x]}]", Code::InstallCode),
        ("dependencies: [{pip: [1, [2]]}]", Code::InstallCode),
        ("dependencies: [{npm: [x]}]", Code::InstallCode),
    ] {
        assert_code("conda.yaml", &format!("name: e\n{entry}\n"), code);
    }
    for entry in ["prefix: /opt/evil", "variables: {LD_PRELOAD: x.so}", "post-link: run.sh"] {
        let report = scan_bytes("conda.yaml", format!("name: e\n{entry}\n").as_bytes());
        assert_eq!(codes(&report), [Code::NotUnderstood].into(), "{entry}: {report:#?}");
    }
    for (entry, code) in [
        ("build_dependencies: [git+https://example.org/x]", Code::InstallCode),
        ("dependencies: ['-e .']", Code::InstallCode),
        ("python: '3.11; rm -rf'", Code::InstallCode),
    ] {
        assert_code("python_env.yaml", &format!("{entry}\n"), code);
    }
}

/// A model of Keras 3 with one layer.
fn keras(layer: &str) -> Vec<u8> {
    format!(
        r#"{{"module":"keras","class_name":"Sequential","config":{{"name":"s","layers":[
        {{"module":"keras.layers","class_name":"InputLayer","config":{{"batch_shape":[null,4]}},"registered_name":null}},
        {layer}]}},"registered_name":null}}"#
    )
    .into_bytes()
}

#[test]
fn layers_of_keras_that_compute_are_safe() {
    for class in
        ["Dense", "Conv2D", "LSTM", "BatchNormalization", "Dropout", "MultiHeadAttention", "Embedding"]
    {
        for module in ["keras.layers", "keras.src.layers.core"] {
            let layer = format!(
                r#"{{"module":"{module}","class_name":"{class}","config":{{"units":2,"kernel_initializer":
                {{"module":"keras.initializers","class_name":"GlorotUniform","config":{{"seed":null}}}},
                "activation":{{"class_name":"function","config":"relu","module":"builtins"}}}}}}"#
            );
            let report = scan_bytes("config.json", &keras(&layer));
            assert_safe(&report);
            assert_eq!((report.format, report.code), (Format::Json, LoaderCode::None), "{class}");
        }
    }
}

#[test]
fn layers_of_keras_that_hold_or_load_code_are_unsafe() {
    for class in ["Lambda", "lambda", "MyLambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"]
    {
        for module in ["keras.layers", "keras", "evil"] {
            let layer = format!(r#"{{"module":"{module}","class_name":"{class}","config":{{}}}}"#);
            let report = scan_bytes("config.json", &keras(&layer));
            assert_eq!(codes(&report), [Code::EmbeddedCode].into(), "{module} {class}: {report:#?}");
            assert_eq!((report.verdict, report.code), (Verdict::Unsafe, LoaderCode::Present));
        }
    }
}

#[test]
fn classes_of_other_modules_are_held_against_the_lists_of_pickles() {
    for (module, class, code) in [
        ("os", "system", Code::DangerousGlobal),
        ("subprocess", "Popen", Code::DangerousGlobal),
        ("builtins", "eval", Code::DangerousGlobal),
        ("keras.src.legacy.saving", "load", Code::DangerousGlobal),
        ("mypackage.layers", "Attention", Code::GlobalNotAllowed),
        ("kerasx.layers", "Dense", Code::GlobalNotAllowed),
        ("collections", "OrderedDict", Code::LoaderReference),
    ] {
        let layer = format!(r#"{{"module":"{module}","class_name":"{class}","config":{{}}}}"#);
        let report = scan_bytes("config.json", &keras(&layer));
        assert_eq!(codes(&report), [code].into(), "{module}.{class}: {report:#?}");
        assert!(report.globals.contains(&format!("{module}.{class}")), "{:?}", report.globals);
    }
}

#[test]
fn parts_of_keras_that_are_not_understood_are_unverified() {
    for (why, layer, code) in [
        (
            "a class that there is not",
            r#"{"module":"keras.layers","class_name":"Densest","config":{}}"#,
            Code::NotUnderstood,
        ),
        (
            "a class that is no text",
            r#"{"module":"keras.layers","class_name":["Dense"],"config":{}}"#,
            Code::NotUnderstood,
        ),
        (
            "another registered name",
            r#"{"module":"keras.layers","class_name":"Dense","config":{},"registered_name":"evil>Dense"}"#,
            Code::LoaderReference,
        ),
        (
            "a function by its name",
            r#"{"class_name":"function","config":"my_activation","module":"builtins"}"#,
            Code::LoaderReference,
        ),
    ] {
        let report = scan_bytes("config.json", &keras(layer));
        assert_eq!(codes(&report), [code].into(), "{why}: {report:#?}");
        assert_eq!(report.verdict, Verdict::Unverified, "{why}");
    }
    for (argument, file) in [
        ("vocabulary", "/etc/passwd"),
        ("filepath", "x.h5"),
        ("weights", "imagenet"),
        ("idf_weights", "w.txt"),
    ] {
        let layer = format!(
            r#"{{"module":"keras.layers","class_name":"StringLookup","config":{{"{argument}":"{file}"}}}}"#
        );
        let report = scan_bytes("config.json", &keras(&layer));
        assert_eq!(codes(&report), [Code::ReferenceOutside].into(), "{argument}: {report:#?}");
    }
    let listed = r#"{"module":"keras.layers","class_name":"StringLookup","config":{"vocabulary":["a","b"]}}"#;
    assert_safe(&scan_bytes("config.json", &keras(listed)));
}

/// Keys by which loaders other than Keras take code or names from a document, in JSON as in YAML.
#[test]
fn keys_that_loaders_import_by_are_found_at_every_depth() {
    for (entry, code) in [
        (r#""auto_map": {"AutoModel": "modeling.Model"}"#, Code::LoaderReference),
        (r#""_target_": "os.system""#, Code::LoaderReference),
        (r#""trust_remote_code": true"#, Code::LoaderReference),
        (r#""py/object": "os.system""#, Code::LoaderReference),
        (r#""py/reduce": []"#, Code::LoaderReference),
        (r#""@class": "java.net.URL""#, Code::LoaderReference),
        (r#""__reduce__": []"#, Code::SourceCode),
        (r#""chat_template": "{{ x }}""#, Code::SourceCode),
        (r#""type": "sentence_transformers.models.Transformer""#, Code::LoaderReference),
        (r#""callable": "os:system.x""#, Code::LoaderReference),
        (r#""lc": 1, "id": ["langchain", "x"]"#, Code::LoaderReference),
    ] {
        for text in [format!("{{{entry}}}"), format!(r#"{{"a": [1, {{"b": {{{entry}}}}}]}}"#)] {
            for name in ["settings.json", "settings.yaml"] {
                assert_code(name, &text, code);
            }
        }
    }
    for entry in [
        r#""type": "tensor""#,
        r#""auto_map": null"#,
        r#""target": "price""#,
        r#""class": "1.5""#,
        r#""version": "a.b""#,
    ] {
        assert_safe(&scan_bytes("settings.json", format!("{{{entry}}}").as_bytes()));
    }
}
