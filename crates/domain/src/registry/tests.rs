//! Names, contents and signatures.

use proptest::prelude::*;

use super::*;

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[test]
fn names_and_keys() {
    validate_metric("", "val/loss-1.0 a:b_ä", 1.0, 0).expect("every valid character");
    let refused = [
        (
            validate_metric("metrics[0].", "a;b", 1.0, 0),
            "Invalid value \"a;b\" for parameter 'metrics[0].name' supplied: Names may only contain",
        ),
        (validate_metric("", "../a", 1.0, 0), "This name would resolve to '../a'"),
        (validate_metric("", "/a", 1.0, 0), "This name would resolve to '/a'"),
        (validate_metric("", "a//b/../c", 1.0, 0), "This name would resolve to 'a/c'"),
        (validate_metric("", "", 1.0, 0), "This name would resolve to '.'"),
        (
            validate_metric("metrics[2].", "a", 1.0, -1),
            "Invalid value -1 for parameter 'metrics[2].timestamp' supplied: metric 'a' (value=1.0). \
             Timestamp must be",
        ),
        (validate_metric("", &"k".repeat(251), 1.0, 0), "'Metric name' exceeds the maximum length of 250"),
        (
            validate_param_key("key", &"k".repeat(251)),
            "'Param key' exceeds the maximum length of 250 characters",
        ),
        (
            validate_run_tag_key("tags[1].key", &"k".repeat(251)),
            "'tags[1].key' exceeds the maximum length of 250",
        ),
        (validate_experiment_name(""), "Invalid experiment name: ''"),
        (validate_experiment_name(&"e".repeat(501)), "exceeds the maximum length of 500"),
        (validate_experiment_tag("k", &"v".repeat(20_001)), "exceeds the maximum length of 20000"),
        (validate_run_id("-a"), "Invalid value \"-a\" for parameter 'run_id' supplied."),
        (validate_run_id(&"a".repeat(257)), "for parameter 'run_id' supplied"),
        (validate_model_name("name", " "), "Missing value for required parameter 'name'."),
        (validate_model_name("new_name", ""), "Missing value for required parameter 'new_name'."),
        (validate_model_name("name", "a/b"), "Invalid model name 'a/b'. Names cannot contain '/' or ':'."),
        (validate_model_name("name", ".."), "This name would resolve to '..'"),
        (
            validate_logged_model_name("it's"),
            "Invalid model name (\"it's\") provided. Model name must be a non-empty string and cannot \
             contain the following characters: ('/', ':', '.', '%', '\"', \"'\")",
        ),
        (validate_logged_model_name("my.model"), "Invalid model name ('my.model') provided."),
        (
            validate_experiment_id("a").map(drop),
            "Invalid experiment ID 'a'. Experiment ID must be a valid integer.",
        ),
        (validate_artifact_location("runs:/a"), "Artifact location cannot be a runs:/ URI. Given: 'runs:/a'"),
        (
            validate_artifact_location("s3://b/#f"),
            "'artifact_location' URL can't include fragments or params.",
        ),
        (
            validate_artifact_location("http://host/;..%2F..%2Fetc"),
            "'artifact_location' URL can't include fragments or params.",
        ),
        (
            validate_artifact_location(&format!("s3://{}", "b".repeat(2_048))),
            "The length of the artifact path cannot be greater than 2048 characters.",
        ),
        (validate_registry_tag("k", &"v".repeat(100_001)), "exceeds the maximum length of 100000"),
        (validate_alias(""), "Registered model alias name cannot be empty."),
        (validate_alias("a.b"), "Invalid alias name: 'a.b'."),
        (validate_alias("Latest"), "'latest' alias name (case insensitive) is reserved."),
        (validate_alias("V12"), "Version alias name 'V12' is reserved."),
        (validate_dataset("d", &"x".repeat(37), "", None, None), "exceeds the maximum length of 36"),
        (
            validate_dataset("d", "x", &"x".repeat(65_536), None, None),
            "'source' exceeds the maximum length of 65535",
        ),
        (validate_input_tag("k", &"v".repeat(501)), "exceeds the maximum length of 500"),
        (validate_version("1.5").map(drop), "Parameter 'version' must be an integer, got '1.5'."),
        (validate_max_results(Some(0), 100, 1_000).map(drop), "supplied. It must be a positive integer"),
        (validate_max_results(Some(1_001), 100, 1_000).map(drop), "supplied. It must be at most 1000"),
    ];
    for (result, part) in refused {
        let invalid = result.expect_err(part);
        assert!(invalid.message.contains(part), "'{part}' is not in: {}", invalid.message);
    }
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
    for (size, part) in [
        (size(1_001, 0, 0), "at most 1000 metrics. Got 1001"),
        (size(0, 101, 0), "at most 100 params"),
        (size(0, 0, 101), "at most 100 tags"),
        (size(950, 50, 50), "at most 1000 metrics, params, and tags. Got 1050"),
    ] {
        let invalid = validate_batch(size, []).expect_err(part);
        assert!(invalid.message.contains(part), "{}", invalid.message);
    }
    assert!(validate_batch(size(0, 2, 0), ["a", "a"]).expect_err("twice").message.contains("['a']"));
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
        assert_eq!((invalid.field.as_str(), invalid.message.as_str()), ("path", "Invalid path"), "{path}");
    }
    assert!(normalise_artifact_path(&"x".repeat(901)).expect_err("long").message.contains("900 bytes"));
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
        prop_assert_eq!(decode_page_token(&token).expect_err("not ours").message, "Invalid page token, could \
            not base64-decode");
    }

    #[test]
    fn what_is_normalised_stays_as_it_is(path in "[a-z.%25eEfF/\\\\]{0,20}") {
        if let Ok(stored) = normalise_artifact_path(&path) {
            prop_assert!(!stored.starts_with('/') && !stored.split('/').any(|segment| segment == ".."));
            prop_assert_eq!(normalise_artifact_path(&stored).expect("again"), stored);
        }
    }
}
