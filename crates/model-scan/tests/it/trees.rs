//! Models of LightGBM as text and of XGBoost as UBJSON, and the schema of a skops archive: read to the end,
//! entry by entry.

use slipway_model_scan::{Code, Format, LoaderCode, Report, Verdict};

use crate::{assert_safe, codes, scan_bytes};

const LIGHTGBM: &str = "tree\nversion=v4\nnum_class=1\nobjective=binary sigmoid:1\nfeature_names=a \
    b\n\nTree=0\nnum_leaves=2\nsplit_feature=0\nthreshold=0.5\nleaf_value=-1 1\nshrinkage=1\n\n\nend of \
    trees\n\nfeature_importances:\na=1\nx/y.z=2\n\nparameters:\n[boosting: gbdt]\n[data: \
    ]\n[machine_list_filename: ]\n\nend of parameters\n\npandas_categorical:[[\"x\", 1], null]\n";

#[test]
fn a_model_of_lightgbm_is_read_under_each_of_its_names() {
    for name in ["model.txt", "model.lgb", "model.lgbm", "lightgbm.model"] {
        let report = scan_bytes(name, LIGHTGBM.as_bytes());
        assert_safe(&report);
        assert_eq!((report.format, report.code), (Format::Lightgbm, LoaderCode::None), "{name}");
    }
}

#[test]
fn lines_that_lightgbm_does_not_write_are_named() {
    for (why, line) in [
        ("no key", "just a line"),
        ("a blank in the key", "a b=1"),
        ("no name", "=1"),
        ("a control character", "a=\u{1b}[2J"),
        ("a parameter that is none", "[x]"),
        ("a file of machines", "[machine_list_filename: hosts.txt]"),
        ("a file of splits", "[forcedsplits_filename: /etc/passwd]"),
        ("a file of bins", "[forcedbins_filename: x.json]"),
        ("a configuration of a parser", "[parser_config_file: x.json]"),
        ("a name with a path", "[../x: 1]"),
        ("categories that are no JSON", "pandas_categorical:[[1,]]"),
        ("categories with more behind them", "pandas_categorical:[] x"),
    ] {
        let text = format!("{LIGHTGBM}{line}\n");
        let report = scan_bytes("model.lgb", text.as_bytes());
        assert_eq!(codes(&report), [Code::NotUnderstood].into(), "{why}: {report:#?}");
        assert!(
            report.findings[0].detail.contains(&format!("byte {}", LIGHTGBM.len())),
            "{why}: {report:#?}"
        );
    }
    let other = scan_bytes("model.lgb", b"forest\nversion=v4\n");
    assert_eq!(codes(&other), [Code::NotUnderstood].into());
    let binary = scan_bytes("model.lgb", b"tree\nversion=\xff\n");
    assert_eq!(codes(&binary), [Code::NotUnderstood].into());
}

/// A key of UBJSON with its length.
fn key(name: &str) -> Vec<u8> {
    [b"L".as_slice(), &(name.len() as u64).to_be_bytes(), name.as_bytes()].concat()
}

/// A model of XGBoost whose learner has one entry.
fn xgboost(entry: &[u8]) -> Vec<u8> {
    let learner = [b"{".as_slice(), &key("x"), entry, b"}"].concat();
    let version = [b"[#L".as_slice(), &1_u64.to_be_bytes(), b"i\x03"].concat();
    [b"{".as_slice(), &key("learner"), &learner, &key("version"), &version, b"}"].concat()
}

#[test]
fn values_of_every_type_of_ubjson_are_gone_over() {
    let text = [b"S".as_slice(), &key("text")].concat();
    let typed = |kind: u8, width: usize| {
        [&[b'[', b'$', kind, b'#', b'L'], 3_u64.to_be_bytes().as_slice(), &vec![7; 3 * width]].concat()
    };
    for (why, entry) in [
        ("null", b"Z".to_vec()),
        ("true", b"T".to_vec()),
        ("false", b"F".to_vec()),
        ("int8", b"i\x01".to_vec()),
        ("uint8", b"U\xff".to_vec()),
        ("int16", b"I\x01\x02".to_vec()),
        ("int32", b"l\x01\x02\x03\x04".to_vec()),
        ("int64", b"L\x01\x02\x03\x04\x05\x06\x07\x08".to_vec()),
        ("float", b"d\x3f\x80\x00\x00".to_vec()),
        ("double", b"D\x3f\xf0\x00\x00\x00\x00\x00\x00".to_vec()),
        ("text", text),
        ("floats", typed(b'd', 4)),
        ("int32s", typed(b'l', 4)),
        ("int64s", typed(b'L', 8)),
        ("uint8s", typed(b'U', 1)),
        ("an empty map", b"{}".to_vec()),
        ("a map", [b"{".as_slice(), &key("y"), b"Z}"].concat()),
    ] {
        let report = scan_bytes("model.ubj", &xgboost(&entry));
        assert_safe(&report);
        assert_eq!((report.format, report.code), (Format::Xgboost, LoaderCode::None), "{why}");
    }
}

#[test]
fn models_of_xgboost_that_break_off_or_go_on_are_refused() {
    let sound = xgboost(b"d\x3f\x80\x00\x00");
    assert_safe(&scan_bytes("model.ubj", &sound));
    for length in 1..sound.len() {
        let report = scan_bytes("model.ubj", &sound[..length]);
        assert_ne!(report.verdict, Verdict::Safe, "cut at {length}: {report:#?}");
    }
    let longer = [sound.as_slice(), b"more"].concat();
    assert_eq!(codes(&scan_bytes("model.ubj", &longer)), [Code::NotUnderstood].into());
    for (why, bytes) in [
        ("no learner", [b"{".as_slice(), &key("version"), b"Z}"].concat()),
        ("another entry", [b"{".as_slice(), &key("learner"), b"Z", &key("code"), b"Z}"].concat()),
        ("no type", xgboost(b"?")),
        ("a length that is negative", xgboost(&[b"S".as_slice(), b"L", &u64::MAX.to_be_bytes()].concat())),
        ("a length beyond the file", xgboost(&[b"[$d#L".as_slice(), &u64::MAX.to_be_bytes()].concat())),
    ] {
        let report = scan_bytes("model.ubj", &bytes);
        assert_eq!(codes(&report), [Code::NotUnderstood].into(), "{why}: {report:#?}");
    }
    let mut deep = b"Z".to_vec();
    for _ in 0..200 {
        deep = [b"{".as_slice(), &key("y"), &deep, b"}"].concat();
    }
    let report = scan_bytes("model.ubj", &xgboost(&deep));
    assert_eq!(codes(&report), [Code::NotUnderstood].into());
    assert!(report.findings[0].detail.contains("deep"), "{report:#?}");
}

fn skops(node: &str) -> Report {
    let text = format!(
        r#"{{"__class__":"dict","__module__":"builtins","__loader__":"DictNode","content":{{"a":{node}}},"protocol":2}}"#
    );
    scan_bytes("schema.json", text.as_bytes())
}

#[test]
fn types_of_a_skops_schema_are_held_against_the_lists() {
    for (module, class, loader) in [
        ("builtins", "list", "ListNode"),
        ("numpy", "ndarray", "NdArrayNode"),
        ("numpy", "float64", "ObjectNode"),
        ("collections", "OrderedDict", "OrderedDictNode"),
        ("scipy.sparse._csr", "csr_matrix", "SparseMatrixNode"),
    ] {
        assert_safe(&skops(&format!(
            r#"{{"__class__":"{class}","__module__":"{module}","__loader__":"{loader}"}}"#
        )));
    }
    for (module, class, loader, code) in [
        ("os", "system", "FunctionNode", Code::DangerousGlobal),
        ("builtins", "eval", "TypeNode", Code::DangerousGlobal),
        ("operator", "attrgetter", "MethodNode", Code::DangerousGlobal),
        ("mypackage", "Model", "ObjectNode", Code::GlobalNotAllowed),
        ("builtins", "list", "EvilNode", Code::CannotBeFollowed),
    ] {
        let report =
            skops(&format!(r#"{{"__class__":"{class}","__module__":"{module}","__loader__":"{loader}"}}"#));
        assert_eq!(codes(&report), [code].into(), "{module}.{class}: {report:#?}");
        assert_eq!(report.verdict, Verdict::Unsafe);
    }
    for node in [
        r#"{"__class__":"list","__module__":"builtins"}"#,
        r#"{"__class__":["list"],"__module__":"builtins","__loader__":"ListNode"}"#,
        r#"{"__loader__":"ListNode"}"#,
    ] {
        assert_eq!(codes(&skops(node)), [Code::CannotBeFollowed].into(), "{node}");
    }
    let hidden = skops(r#"{"module_path":"posix","function":"system"}"#);
    assert_eq!(codes(&hidden), [Code::DangerousGlobal].into());
    assert_eq!(hidden.globals, ["posix.system"]);
}
