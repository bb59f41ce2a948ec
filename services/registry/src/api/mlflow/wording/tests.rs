//! Every message, word for word.

use slipway_domain::registry::*;

use super::*;

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[test]
fn names_and_keys() {
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
        let message = message(&result.expect_err(part));
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn batches() {
    let size = |metrics, params, tags| BatchSize { metrics, params, tags };
    for (size, part) in [
        (size(1_001, 0, 0), "at most 1000 metrics. Got 1001"),
        (size(0, 101, 0), "at most 100 params"),
        (size(0, 0, 101), "at most 100 tags"),
        (size(950, 50, 50), "at most 1000 metrics, params, and tags. Got 1050"),
    ] {
        let message = message(&validate_batch(size, []).expect_err(part));
        assert!(message.contains(part), "{message}");
    }
    let twice = validate_batch(size(0, 2, 0), ["a", "a"]).expect_err("twice");
    assert!(message(&twice).contains("['a']"), "{}", message(&twice));
}

#[test]
fn paths_and_page_tokens() {
    for path in ["/etc/passwd", "a/../b", "%2e%2e/x", "C:/x"] {
        assert_eq!(message(&normalise_artifact_path(path).expect_err(path)), "Invalid path", "{path}");
    }
    let long = normalise_artifact_path(&"x".repeat(901)).expect_err("long");
    assert_eq!(message(&long), "Invalid path: must be at most 900 bytes long");
    assert_eq!(
        message(&new_artifact_path("./a").expect_err("other spelling")),
        "Invalid artifact path: './a'. Names may be treated as files in certain cases, and must not resolve \
         to other names when treated as such. This name would resolve to 'a'"
    );
    let token = decode_page_token("no-token").expect_err("not ours");
    assert_eq!(message(&token), "Invalid page token, could not base64-decode");
}
