//! What the command line prints: for people, for scripts, and for readers that stop reading.

use std::process::Command;

use serde_json::{Value, json};

use crate::client::Client;
use crate::platform::{Platform, wait_for};

/// The exit code and standard error of a command whose output nothing reads.
fn without_reader(mut command: Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Otherwise this process would hold the writing end, too.
    drop(command);
    let output = output.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn shown(platform: &Platform, arguments: &[&str]) -> String {
    String::from_utf8(platform.slipway(arguments).success().stdout).unwrap()
}

#[test]
fn errors_without_a_platform_say_what_to_do_and_help_needs_no_reader() {
    let platform = Platform::new();
    let refusal = platform.slipway(&["models", "list"]).refusal();
    assert!(refusal.contains("is a platform running there?") && refusal.contains("slipway up"), "{refusal}");
    assert_eq!(platform.slipway(&["models", "lst"]).code(), Some(2));
    let help = platform.slipway(&["rollouts", "start", "--help"]).text();
    assert!(help.contains("0 promoted, 3 rolled back") && !help.contains('\u{1b}'), "{help}");
    for arguments in [&["--help"][..], &["models", "--help"]] {
        let (_, error) = without_reader(platform.command(arguments));
        assert_eq!(error, "", "{arguments:?}");
    }

    std::fs::create_dir_all(platform.data_dir()).unwrap();
    let names = ["registry", "launcher", "drift_monitor", "rollout_controller", "nats", "s3", "postgres"];
    let serving = ["serving_http", "serving_grpc", "serving_metrics"];
    let address = |name: &&str| ((*name).to_owned(), Value::from("http://127.0.0.1:1"));
    let endpoints: Value =
        names.iter().chain(&serving).map(address).collect::<serde_json::Map<_, _>>().into();
    platform.file("endpoints.json", &endpoints);
    for arguments in [
        &["models", "list"][..],
        &["jobs", "list"],
        &["deployments", "list"],
        &["monitors", "list"],
        &["predict", "m", "[[1]]"],
        &["registry", "purge"],
    ] {
        let refusal = platform.slipway(arguments).refusal();
        assert!(refusal.contains("cannot connect to http://127.0.0.1:1"), "{arguments:?}: {refusal}");
        assert!(refusal.contains("slipway status"), "{arguments:?}: {refusal}");
    }
    let states = platform.slipway(&["status"]);
    assert_eq!((states.code(), states.text().matches("does not answer").count()), (Some(1), 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_ends_the_command_quietly() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    let job = platform.file("job.json", &json!({"name": "quiet", "command": ["sleep", "600"]}));
    let job = platform.json(&["jobs", "submit", &job])["id"].as_str().unwrap().to_owned();
    for arguments in [
        &["models", "list"][..],
        &["models", "list", "--json"],
        &["models", "version", "m", "1"],
        &["models", "card", "m", "1"],
        &["audit", "list"],
        &["status"],
        &["events", "tail", "--since", "600"],
        // Nothing is printed here: the end of the reader itself is noticed.
        &["events", "tail"],
        &["jobs", "logs", &job, "--follow"],
    ] {
        assert_eq!(without_reader(platform.command(arguments)), (Some(141), String::new()), "{arguments:?}");
    }
    shown(&platform, &["jobs", "cancel", &job]);

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = platform.command(&["models", "list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_wrote_is_escaped_in_tables_and_exact_in_json() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    assert_eq!(
        shown(&platform, &["models", "list"]),
        "MODEL  LATEST  SERVABLE  SCAN  CODE  ALIASES  DESCRIPTION\n"
    );
    let description = "first\nforged   9\u{1b}[2J\u{9b}31m\u{202e}表示";
    for name in ["plain", "表示"] {
        let body = json!({"name": name, "description": description});
        client.mlflow("registered-models/create", body).await;
    }
    let table = shown(&platform, &["models", "list"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].contains("first\\nforged   9\\x1b[2J\\x9b31m\\u{202e}表示"), "{table}");
    // The columns stay straight: wide characters take two of the terminal's columns.
    assert_eq!(
        lines[2].find("first").map(|at| lines[2][..at].chars().count()),
        Some(7 + 8 + 10 + 6 + 6 + 9 - 2),
        "{table}"
    );
    let object = shown(&platform, &["models", "show", "plain"]);
    assert!(!object.replace('\n', "").contains(char::is_control), "{object}");
    let listed = platform.slipway(&["models", "list", "--json"]).text();
    assert!(!listed.replace('\n', "").contains(char::is_control), "{listed}");
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["models"][0]["description"], description);
    // An error repeats the name it refuses.
    let refusal = platform.slipway(&["models", "show", "no\u{1b}[2J"]).refusal();
    assert!(refusal.contains("no\\x1b[2J"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_local_and_a_run_is_shown_as_tables() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    let body = json!({"experiment_id": "0", "start_time": 1_769_860_805_000_u64, "run_name": "first",
        "tags": [{"key": "team", "value": "a\nb"}]});
    let run = client.mlflow("runs/create", body).await;
    let id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let metric =
        json!({"run_id": id, "key": "loss", "value": 0.25, "timestamp": 1_769_860_806_000_u64, "step": 3});
    client.mlflow("runs/log-metric", metric).await;
    client.mlflow("runs/log-parameter", json!({"run_id": id, "key": "depth", "value": "6"})).await;

    let in_zone = |arguments: &[&str]| {
        let output = platform.command(arguments).env("TZ", "XXX-5:30").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = in_zone(&["runs", "list"]);
    assert!(listed.contains("2026-01-31 17:30:05+05:30"), "{listed}");
    let show = in_zone(&["runs", "show", &id]);
    let lines: Vec<Vec<&str>> = show.lines().map(|line| line.split_whitespace().collect()).collect();
    for expected in [
        &["run", &id][..],
        &["started", "2026-01-31", "17:30:05+05:30"],
        &["loss", "0.25", "3", "2026-01-31", "17:30:06+05:30"],
        &["depth", "6"],
        &["team", "a\\nb"],
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected:?} is not in\n{show}");
    }
    assert_eq!(platform.json(&["runs", "show", &id])["info"]["start_time"], 1_769_860_805_000_u64);
    assert!(in_zone(&["audit", "list"]).contains("+05:30"));
    assert!(in_zone(&["events", "tail", "--since", "600", "--for", "1"]).contains("+05:30"));
}

#[test]
fn every_command_of_the_registry_shows_its_token() {
    let platform = Platform::start(&["--auth", "on"]);
    shown(&platform, &["retention", "set", "all", "--after-days", "30"]);
    for arguments in [
        &["models", "list"][..],
        &["models", "keys", "list"],
        &["runs", "list"],
        &["tokens", "list"],
        &["grants", "list"],
        &["whoami"],
        &["audit", "list"],
        &["audit", "verify"],
        &["webhooks", "list"],
        &["retention", "list"],
        &["retention", "run", "all"],
        &["registry", "purge"],
        &["registry", "gc"],
        &["events", "tail", "--since", "600", "--for", "1"],
    ] {
        platform.slipway(arguments).success();
        let output = platform.command(arguments).env("SLIPWAY_TOKEN", "wrong").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains("401"), "{arguments:?}: {error}");
    }
}

#[test]
fn a_platform_outlives_the_reader_of_its_status_lines() {
    let platform = Platform::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut up = platform.command(&["up", "--ports", "auto"]);
    let mut running = up.stdout(writer).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_for("the platform", || platform.slipway(&["status"]).code() == Some(0));
    assert_eq!(running.try_wait().unwrap(), None);
    platform.slipway(&["down"]).success();
    assert_eq!(running.wait().unwrap().code(), Some(0));
}
