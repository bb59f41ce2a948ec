//! Names, contents and signatures.

use proptest::prelude::*;

use super::*;

#[test]
fn names_and_keys() {
    validate_metric("", "val/loss-1.0 a:b_ä", 1.0, 0).expect("every valid character");
    let resolved = |resolved: &str| Broken::ResolvesTo { resolved: resolved.to_owned() };
    let too_long = |max_chars| Broken::TooLong { max_chars };
    let long = "k".repeat(251);
    for (result, field, broken) in [
        (validate_metric("metrics[0].", "../a", 1.0, 0), "metrics[0].key", resolved("../a")),
        (validate_metric("", "/a", 1.0, 0), "key", resolved("/a")),
        (validate_metric("", "a//b/../c", 1.0, 0), "key", resolved("a/c")),
        (validate_metric("", "", 1.0, 0), "key", resolved(".")),
        (validate_metric("", &long, 1.0, 0), "key", too_long(250)),
        (validate_param_key("params.k", &long), "params.k", too_long(250)),
        (validate_run_tag_key("tags[1].key", &long), "tags[1].key", too_long(250)),
        (validate_experiment_name(""), "name", Broken::Missing),
        (validate_experiment_name(&"e".repeat(501)), "name", too_long(500)),
        (validate_model_name("new_name", " "), "new_name", Broken::Missing),
        (validate_model_name("new_name", ".."), "new_name", resolved("..")),
        (validate_artifact_location("runs:/a"), "artifact_location", Broken::RunUri),
        (validate_artifact_location("s3://b/#f"), "artifact_location", Broken::UrlExtras),
        (validate_alias("V12"), "alias", Broken::Reserved),
        (validate_dataset("d", &"x".repeat(37), "", None, None), "digest", too_long(36)),
        (validate_version("1.5").map(drop), "version", Broken::NotAnInteger),
        (
            validate_max_results(Some(1_001), 100, 1_000).map(drop),
            "max_results",
            Broken::Above { max: 1_000 },
        ),
    ] {
        let violation = result.expect_err(field);
        assert_eq!((violation.field.as_str(), &violation.broken), (field, &broken), "{violation}");
    }
    let time = validate_metric("metrics[2].", "a", 1.0, -1).expect_err("below 0");
    assert_eq!((time.field.as_str(), time.value.as_str()), ("metrics[2].timestamp", "-1"));
    assert_eq!(time.broken.to_string(), "expected at least 0 (metric 'a' (value=1.0))");
    let key = validate_param_key("params.a;b", "a;b").expect_err("not a key");
    assert_eq!(key.broken.to_string(), "expected letters, digits, _, -, ., :, / and spaces");
    for alias in ["champion", "v1a", "v", "a-b_c"] {
        validate_alias(alias).expect(alias);
    }
    for name in ["my.model", ".hidden", "ends..", "a b%"] {
        validate_model_name("name", name).expect(name);
    }
    for (text, number) in [(" 3", 3), ("-1", -1), ("99999999999", i32::MAX)] {
        assert_eq!(validate_version(text), Ok(number));
    }
    assert_eq!(validate_max_results(None, 100, 1_000), Ok(100));
}

#[test]
fn batches_and_long_values() {
    let size = |metrics, params, tags| BatchSize { metrics, params, tags };
    validate_batch(size(800, 100, 100), ["a", "b"]).expect("1000 in all");
    let total = validate_batch(size(950, 50, 50), []).expect_err("too many in all");
    let broken = Broken::TooMany { what: "metrics, params, and tags", got: 1_050, max: 1_000 };
    assert_eq!((total.field.as_str(), total.broken), ("metrics", broken));
    for (size, field) in
        [(size(1_001, 0, 0), "metrics"), (size(0, 101, 0), "params"), (size(0, 0, 101), "tags")]
    {
        assert_eq!(validate_batch(size, []).expect_err(field).field, field);
    }
    let twice = validate_batch(size(0, 2, 0), ["a", "a"]).expect_err("twice");
    assert_eq!(twice.broken, Broken::Duplicates { keys: vec!["a".to_owned()] });
    assert_eq!(truncate_param_value(&"ä".repeat(6_001)).chars().count(), 6_000);
    assert_eq!(truncate_run_tag_value("short"), "short");
}

#[test]
fn the_digest_of_a_version_never_changes() {
    let file = |path: &str, size_bytes| FileDigest { path: path.into(), sha256: "00".repeat(32), size_bytes };
    let digest = manifest_digest(&[file("b/model.onnx", 7), file("MLmodel", 3)]);
    assert_eq!(digest, "sha256:63759bf01d4ed33c1dd4865a15daf696fcff4469ebc6e433445479272bd9a21c");
    assert_eq!(digest, manifest_digest(&[file("MLmodel", 3), file("b/model.onnx", 7)]));
    assert_ne!(digest, manifest_digest(&[file("MLmodel", 3), file("b/model.onnx", 8)]));
}

#[test]
fn artifact_paths_stay_inside() {
    for (path, stored) in [
        ("", ""),
        (".", ""),
        ("./", ""),
        ("a", "a"),
        ("./a", "a"),
        ("a//./b/", "a/b"),
        ("model/model.onnx", "model/model.onnx"),
        ("dir/", "dir"),
        ("a b+%.txt", "a b+%.txt"),
        ("a%20b", "a%20b"),
        ("..a/b..", "..a/b.."),
    ] {
        assert_eq!(normalise_artifact_path(path), Ok(stored.to_owned()), "{path}");
        assert_eq!(new_artifact_path(path).is_ok(), !path.is_empty() && path == stored, "{path}");
    }
    assert_eq!(new_artifact_path("a//b").as_deref(), Ok("a/b"));
    // Each encoding within another takes a pass.
    assert!(normalise_artifact_path(&format!("%{}2e", "25".repeat(100_000))).is_err());
    for path in [
        "/",
        "/etc/passwd",
        "..",
        "a/../b",
        "a\\b",
        "a\0b",
        "a/..",
        "//",
        "%2e%2e/x",
        "a/%252e%252e/b",
        "..%2fx",
        "%2Fetc",
        "C:/x",
        "file:///etc",
        "a%5Cb",
        "a\nb",
    ] {
        let invalid = normalise_artifact_path(path).expect_err(path);
        assert_eq!((invalid.field.as_str(), invalid.broken), ("path", Broken::LeavesRoot), "{path}");
    }
    assert!(normalise_artifact_path(&"x".repeat(901)).expect_err("long").to_string().contains("900 bytes"));
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype: datatype.into(), shape: shape.into() }
}

#[test]
fn signatures_fit_their_graph() {
    let wide = [tensor("X", "FP32", &[-1, 2])];
    let parse = |inputs: &str| {
        Signature::parse(&serde_json::json!({ "inputs": inputs, "outputs": null }).to_string())
            .expect("parses")
    };
    let fits = [
        r#"[{"type":"double","name":"a","required":true},{"type":"long","name":"b"}]"#,
        r#"[{"type":"tensor","tensor-spec":{"dtype":"float64","shape":[-1,2]}}]"#,
    ];
    for inputs in fits {
        check_signature(&parse(inputs), &wide).expect(inputs);
    }
    let misfits = [
        (r#"[{"type":"double","name":"a"}]"#, "1 columns, while the model's input 'X' has shape [-1, 2]"),
        (r#"[{"type":"double","name":"a"},{"type":"string","name":"b"}]"#, "'b' holds Text"),
        (r#"[{"type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1,3]}}]"#, "shape [-1, 3]"),
        (r#"[{"type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1]}}]"#, "shape [-1]"),
    ];
    for (inputs, part) in misfits {
        let invalid = check_signature(&parse(inputs), &wide).expect_err(part);
        assert!(invalid.field == "signature" && invalid.message.contains(part), "{}", invalid.message);
    }
    let columns = [tensor("a", "FP32", &[-1, 1]), tensor("b", "BYTES", &[-1, 1])];
    check_signature(&parse(r#"[{"type":"string","name":"b"},{"type":"double","name":"a"}]"#), &columns)
        .expect("by name");
    let missing = check_signature(&parse(r#"[{"type":"double","name":"a"}]"#), &columns).expect_err("no b");
    assert!(missing.message.contains("'b' is not in it"));
    let unknown =
        check_signature(&parse(r#"[{"type":"double","name":"c"},{"type":"string","name":"b"}]"#), &columns);
    assert!(unknown.expect_err("no c").message.contains("'c', is none of the model's inputs"));
    check_signature(&Signature::default(), &wide).expect("no signature promises nothing");
    assert!(Signature::parse("{").is_err() && Signature::parse(r#"{"inputs":"x"}"#).is_err());
}

proptest! {
    #[test]
    fn page_tokens_come_back(position in ".{0,80}") {
        let token = encode_page_token(&position);
        prop_assert!(token.chars().all(|c| c.is_ascii_alphanumeric()));
        prop_assert_eq!(decode_page_token(&token).expect("ours").unwrap_or_default(), position);
    }

    #[test]
    fn other_tokens_are_refused(token in "[g-z!]{1,40}") {
        prop_assert_eq!(decode_page_token(&token).expect_err("not ours").broken, Broken::Foreign);
    }

    #[test]
    fn what_is_normalised_stays_as_it_is(path in "[a-z.%25eEfF/\\\\]{0,20}") {
        if let Ok(stored) = normalise_artifact_path(&path) {
            prop_assert!(!stored.starts_with('/') && !stored.split('/').any(|segment| segment == ".."));
            prop_assert_eq!(normalise_artifact_path(&stored).expect("again"), stored);
        }
    }
}
