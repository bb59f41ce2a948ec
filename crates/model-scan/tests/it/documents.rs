//! Text and documents: what is read to its end is safe, and nothing else.

use std::io::Cursor;

use slipway_model_scan::{Code, Context, Format, LoaderCode, Policy, Report, Verdict, scan_within};

use crate::{assert_safe, codes, scan_bytes};

/// Fails unless the file is not safe, for this reason alone.
#[track_caller]
fn assert_only(name: &str, bytes: &[u8], code: Code) -> Report {
    let report = scan_bytes(name, bytes);
    assert_eq!(codes(&report), [code].into(), "{name}: {report:#?}");
    assert_eq!(report.verdict, code.verdict());
    report
}

#[test]
fn documents_that_are_read_to_their_end_are_safe() {
    let files: [(&str, &[u8], Format); 18] = [
        ("README.md", b"# A model\n\nIt is a good one.\n", Format::Text),
        ("labels.txt", b"cat\ndog\nfish\n", Format::Text),
        ("data.csv", b"class,petal\n1,2\n", Format::Text),
        ("notes.md", b"x^2 + 1 is a polynomial\n", Format::Text),
        ("LICENSE", "Copyright © 2026\n".as_bytes(), Format::Text),
        ("conda.yaml", b"name: e\nchannels:\n- conda-forge\ndependencies:\n- python=3.11\n- pip:\n  - \
            a==1\n", Format::Requirements),
        ("python_env.yaml", b"python: 3.11.7\nbuild_dependencies:\n- pip==23\ndependencies:\n- -r \
            requirements.txt\n", Format::Requirements),
        ("requirements.txt", b"mlflow==3.17.2\nscikit-learn\nnumpy>=1,<3", Format::Requirements),
        ("MLmodel", b"artifact_path: model\nflavors: {}\n", Format::Mlmodel),
        ("params.yaml", b"a: &x [1, 2]\nb: *x\nc: !!str 3\n", Format::Yaml),
        ("input_example.json", b"[[1, 2.5, NaN]]", Format::Json),
        ("serving_input_example.json", b"{\"inputs\": [[-Infinity]]}", Format::Json),
        ("classes.json", b"{\"a\": [1, \"b\", null, true], \"type\": \"text\"}", Format::Json),
        ("claims.jsonl", b"{\"a\": 1}\n{\"b\": 2}\n", Format::Json),
        ("model.lgb", b"tree\nversion=v4\nTree=0\nnum_leaves=1\n\nend of \
            trees\n\nfeature_importances:\na.b=1\n\nparameters:\n[data: ]\nend of \
            parameters\n\npandas_categorical:[[\"x\"]]\n", Format::Lightgbm),
        ("model.ubj", b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\x01a[$d#L\0\0\0\0\0\0\0\x01\x3f\x80\0\0L\0\0\0\0\0\0\0\x01bSL\0\0\0\0\0\0\0\x02xyL\0\0\0\0\0\0\0\x01c[#L\0\0\0\0\0\0\0\x01{}}L\0\0\0\0\0\0\0\x07version[#L\0\0\0\0\0\0\0\x01i\x03}", Format::Xgboost),
        ("empty", b"", Format::Empty),
        ("data.pkl", b"I1\n.", Format::Pickle),
    ];
    for (name, bytes, format) in files {
        let report = scan_bytes(name, bytes);
        assert_safe(&report);
        assert_eq!((report.format, report.code), (format, LoaderCode::None), "{name}");
    }
}

#[test]
fn what_is_not_understood_is_unverified_and_says_where() {
    let files: [(&str, &[u8]); 24] = [
        ("plot.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("weights.raw", &[0; 600]),
        ("model.pkl", b"just text"),
        ("model.PT", b"just text"),
        ("pytorch_model.bin", b"just text"),
        ("a/b.joblib", b"just text"),
        ("x.safetensors", b"just text"),
        ("x.gguf", b"GGUF\x03\0\0\0rest"),
        ("model.rds", b"RDX3\nX\n\0\0\0\x03"),
        ("model.ser", b"\xac\xed\0\x05sr\0\x01x"),
        ("notes.txt", b"text \xff"),
        ("notes.txt", b"text \x1b[31m"),
        ("page.html", b"<script>x</script>"),
        ("a.json", b"{\"a\": 1} trailing"),
        ("a.json", b"{\"a\": 1, \"a\": 2}"),
        ("a.json", b"{\"a\": 1"),
        ("a.yaml", b"a: 1\na: 2\n"),
        ("a.yaml", b"a: 1\n---\nb: 2\n"),
        ("a.yaml", "a: 1 # x\u{2028}b: 2\n".as_bytes()),
        ("model.lgb", b"tree\nversion=v4\nsomething else entirely\n"),
        ("model.ubj", b"{i\x07learner{}}more"),
        ("model.ubj", b"{i\x07learner[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ("settings.toml", b"a = 1\n"),
        ("no_suffix", b"a = 1\n"),
    ];
    for (name, bytes) in files {
        let report = assert_only(name, bytes, Code::NotUnderstood);
        assert_eq!((report.verdict, report.code), (Verdict::Unverified, LoaderCode::Unknown), "{name}");
        let detail = &report.findings[0].detail;
        let says_where =
            ["byte ", "column ", "twice", "documents", "line "].iter().any(|word| detail.contains(word));
        assert!(says_where, "{name}: {detail}");
    }
}

#[test]
fn code_is_unverified_and_named_as_code() {
    for (name, bytes, code) in [
        ("code/model.py", b"import os\n".as_slice(), Code::SourceCode),
        ("code/__init__.py", b"", Code::SourceCode),
        ("a.json.py", b"{}", Code::SourceCode),
        ("notebook.ipynb", b"{\"cells\": []}", Code::SourceCode),
        ("train.sh", b"id\n", Code::SourceCode),
        ("evil.pth", b"import os\n", Code::SourceCode),
        ("chat_template.jinja", b"{{ x }}", Code::SourceCode),
        ("Dockerfile", b"FROM x\n", Code::SourceCode),
        ("tokenizer_config.json", b"{\"chat_template\": \"{{ x }}\"}", Code::SourceCode),
        ("config.json", b"{\"auto_map\": {\"AutoModel\": \"modeling.My\"}}", Code::LoaderReference),
        ("modules.json", b"[{\"idx\": 0, \"type\": \"my.module.Class\"}]", Code::LoaderReference),
        ("x.json", b"{\"a\": [{\"py/object\": \"os.x\"}]}", Code::LoaderReference),
        ("x.yaml", b"model:\n  _target_: a.b\n", Code::LoaderReference),
        (
            "chain.json",
            b"{\"lc\": 1, \"type\": \"constructor\", \"id\": [\"a\", \"b\"]}",
            Code::LoaderReference,
        ),
        ("requirements.txt", b"a==1\n-e git+https://x/y\n", Code::InstallCode),
        ("sub/constraints.txt", b"a @ https://x/y.whl\n", Code::InstallCode),
        ("requirements.txt", "# a\u{2028}-e git+https://x/y\n".as_bytes(), Code::InstallCode),
        ("conda.yaml", b"channels:\n- https://x/y\n", Code::InstallCode),
        ("conda.yaml", b"dependencies:\n- pip:\n  - --index-url https://x\n", Code::InstallCode),
        ("python_env.yaml", b"dependencies:\n- ./local\n", Code::InstallCode),
        ("saved_model.pb", b"\x08\x01\x12\x03abc", Code::GraphProgram),
        ("keras_metadata.pb", b"\x0a\x03abc", Code::GraphProgram),
        ("model.tflite", b"\x1c\0\0\0TFL3rest", Code::GraphProgram),
    ] {
        let report = scan_bytes(name, bytes);
        assert!(codes(&report).contains(&code), "{name}: {report:#?}");
        assert_eq!((report.verdict, report.code), (Verdict::Unverified, LoaderCode::Present), "{name}");
    }
}

#[test]
fn tags_of_python_in_yaml_are_unsafe() {
    for text in [
        "!!python/object/apply:os.system [id]",
        "a: !!python/name:os.system ''",
        "a: !<tag:yaml.org,2002:python/object/apply:os.system> [id]",
        "%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!object/apply:os.system [id]",
        "%TAG !p! tag:yaml.org,2002:pyth\n---\na: !p!on/object/apply:os.system [id]",
        "a: &x !!python/object/new:os.system [id]\nb: *x",
        "{\"a\": !!python/object/apply:os.system [\"id\"]}",
        "a: !Custom {b: 1}",
        "a: !!java.net.URL [x]",
        "a: !<!local> x",
        "a: b # \u{85}c: !!python/none x",
    ] {
        for name in ["MLmodel", "conda.yaml", "python_env.yaml", "x.yml", "registered_model_meta"] {
            let report = assert_only(name, text.as_bytes(), Code::YamlTag);
            assert_eq!(report.code, LoaderCode::Present);
        }
    }
}

#[test]
fn an_anchor_that_expands_without_end_is_stopped() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for step in 1..12 {
        let before = format!("*a{}, ", step - 1).repeat(10);
        text.push_str(&format!("a{step}: &a{step} [{before}x]\n"));
    }
    let report = assert_only("x.yaml", text.as_bytes(), Code::NotUnderstood);
    assert!(report.findings[0].detail.contains("2000000 parts"), "{report:#?}");
}

/// What MLflow writes for an ONNX model, with other entries of its flavors.
fn mlmodel(python: &str, onnx: &str) -> Vec<u8> {
    format!(
        "flavors:\n  onnx:\n    code: null\n    data: model.onnx\n    onnx_version: 1.19.1\n    \
         providers:\n    - CUDAExecutionProvider\n    - CPUExecutionProvider\n    onnx_session_options: \
         null\n{onnx}  python_function:\n    env:\n      conda: conda.yaml\n      virtualenv: \
         python_env.yaml\n    python_version: 3.11.7\n{python}mlflow_version: 3.17.2\nsignature:\n  inputs: \
         '[{{\"type\": \"double\"}}]'\n"
    )
    .into_bytes()
}

#[test]
fn entries_of_an_mlmodel_are_held_against_what_mlflow_writes() {
    assert_safe(&scan_bytes(
        "MLmodel",
        &mlmodel("    loader_module: mlflow.onnx\n    data: model.onnx\n", ""),
    ));
    for (entry, code) in [
        ("loader_module: loader", Code::LoaderReference),
        ("loader_module: mlflow.pyfunc.model", Code::LoaderReference),
        ("loader_module: mlflow.pyfunc.loaders.code_model", Code::LoaderReference),
        ("code: code", Code::LoaderReference),
        ("code: [code]", Code::LoaderReference),
        ("model_code_path: model.py", Code::LoaderReference),
        ("python_model: python_model.pkl", Code::LoaderReference),
        ("artifacts: {a: {path: x}}", Code::LoaderReference),
        ("predict_fn: __reduce__", Code::LoaderReference),
        ("config: {a: 1}", Code::LoaderReference),
        ("data: /etc", Code::ReferenceOutside),
        ("data: ../other", Code::ReferenceOutside),
        ("data: labels.txt", Code::LoaderReference),
        ("model_path: labels.txt", Code::LoaderReference),
    ] {
        let report = scan_bytes("MLmodel", &mlmodel(&format!("    {entry}\n"), ""));
        assert_eq!(codes(&report), [code].into(), "{entry}: {report:#?}");
    }
    for flavors in [
        "sklearn: {pickled_model: labels.txt}",
        "sklearn: {pickled_model: model.pkl, code: code}",
        "xgboost: {data: model.ubj, model_class: evil.Class}",
        "lightgbm: {data: model.lgb, model_class: os.system}",
        "pytorch: {model_data: data}",
        "keras: {keras_module: evil}",
        "tensorflow: {keras_module: evil}",
        "transformers: {}",
        "spark: {}",
        "python_function: {env: {conda: evilconda.yaml}}",
        "python_function: {env: ../conda.yaml}",
        "lightgbm: {data: model.txt}",
        "my_flavor: {}",
        "onnx: {data: model.onnx, onnx_session_options: {custom_ops_library: x.so}}",
        "onnx: {data: model.onnx, providers: [[CPUExecutionProvider, {a: b}]]}",
        "onnx: {data: model.onnx, providers: [/tmp/x.so]}",
    ] {
        let report = scan_bytes("MLmodel", format!("flavors:\n  {flavors}\n").as_bytes());
        assert_eq!(codes(&report), [Code::LoaderReference].into(), "{flavors}: {report:#?}");
        assert_eq!((report.verdict, report.code), (Verdict::Unverified, LoaderCode::Present));
    }
    assert_only("MLmodel", b"flavors: {}\nunknown_entry: 1\n", Code::NotUnderstood);
    assert_only("MLmodel", b"- a\n", Code::NotUnderstood);
    assert_only("MLmodel", b"flavors: [sklearn]\n", Code::NotUnderstood);
    assert_only(
        "MLmodel",
        b"flavors: {}\nsaved_input_example_info: {artifact_path: ../../x.json}\n",
        Code::ReferenceOutside,
    );
}

#[test]
fn a_file_that_an_mlmodel_names_has_to_be_there() {
    let text = b"flavors:\n  sklearn: {pickled_model: model.pkl}\n".as_slice();
    let within = |files: &[&str]| {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        let context = Context { files, ..Context::default() };
        scan_within("sub/MLmodel", Cursor::new(text), &Policy::default(), &context).unwrap()
    };
    assert_safe(&within(&["sub/MLmodel", "sub/model.pkl"]));
    assert_eq!(codes(&within(&["sub/MLmodel", "model.pkl"])), [Code::NotUnderstood].into());
}

/// `tests/mlflow.tar.xz` holds what `save_model` of MLflow 3.17 writes for models of scikit-learn (as pickle,
/// with cloudpickle and as skops), XGBoost, LightGBM and ONNX, with examples of inputs.
#[test]
fn what_mlflow_writes_for_ordinary_models_is_safe() {
    let archive = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mlflow.tar.xz");
    let report = slipway_model_scan::scan_path(archive, &Policy::default()).unwrap();
    assert_safe(&report);
    assert!(report.counts.members > 70 && report.code == LoaderCode::None, "{:?}", report.counts);
}
