//! `slipway doctor` against real servers, good ones and broken ones.

use std::path::PathBuf;
use std::process::{Child, Command};

use serde_json::Value;
use slipway_toolbox::Toolbox;

use crate::platform::{Platform, wait_for};

/// The findings of a run with these variables.
fn findings(platform: &Platform, arguments: &[&str], variables: &[(&str, &str)]) -> (Value, Option<i32>) {
    let mut all = vec!["doctor", "--json"];
    all.extend(arguments);
    let output = platform.command(&all).envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parsed = serde_json::from_str(&text);
    (
        parsed.unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))),
        output.status.code(),
    )
}

/// Level and text of a check.
fn of(found: &Value, check: &str) -> (String, String) {
    let finding = found["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("no {check} in {found:#}"));
    let text = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(text("level") == "OK", finding["advice"].is_null(), "{finding}");
    (text("level"), text("found"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_platform_is_well_and_broken_servers_are_named() {
    let platform = Platform::start(&[]);
    let (found, code) = findings(&platform, &[], &[]);
    assert_eq!((code, &found["failures"]), (Some(0), &Value::from(0)), "{found:#}");
    for check in
        ["postgres version", "postgres clock", "nats version", "nats jetstream", "nats streams", "s3 bucket"]
    {
        assert_eq!(of(&found, check).0, "OK", "{check}: {found:#}");
    }
    assert!(of(&found, "postgres schemas").1.contains("registry"));
    assert_eq!(of(&found, "ports").1, "a platform runs on the data directory");

    // A password that is wrong, a port where nothing listens, and keys that S3 does not know.
    let url = platform.endpoint("postgres");
    let (scheme, rest) = url.split_once("://").unwrap();
    let host = rest.rsplit('@').next().unwrap();
    let wrong = format!("{scheme}://slipway:wrong@{host}");
    let broken = [
        ("SLIPWAY_POSTGRES_URL", wrong.as_str()),
        ("SLIPWAY_NATS_URL", "nats://127.0.0.1:1"),
        ("SLIPWAY_S3_ACCESS_KEY", "nobody"),
    ];
    let (found, code) = findings(&platform, &["--check", "servers"], &broken);
    assert_eq!(code, Some(1));
    let (level, text) = of(&found, "postgres");
    assert!(level == "FAIL" && text.contains("unreachable") && !text.contains("wrong@"), "{text}");
    assert_eq!(of(&found, "nats").0, "FAIL");
    let (level, text) = of(&found, "s3 bucket");
    assert!(level == "FAIL" && text.contains("cannot list objects"), "{text}");
    let (found, _) =
        findings(&platform, &["--check", "servers"], &[("SLIPWAY_S3_ENDPOINT", "http://127.0.0.1:1")]);
    assert!(of(&found, "s3").1.contains("unreachable"));
}

/// A NATS server without JetStream.
struct Plain(Child);

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_nats_server_without_jetstream_fails() {
    let platform = Platform::new();
    let program: PathBuf = Toolbox::from_env().unwrap().nats_server(&mut |_| {}).unwrap();
    let port = slipway_testkit::free_port().unwrap();
    let server = Command::new(program).args(["--addr", "127.0.0.1", "--port", &port.to_string()]).spawn();
    let _server = Plain(server.unwrap());
    let url = format!("nats://127.0.0.1:{port}");
    wait_for("the server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let (found, code) = findings(&platform, &["--check", "servers"], &[("SLIPWAY_NATS_URL", &url)]);
    assert_eq!((code, of(&found, "nats jetstream")), (Some(1), ("FAIL".to_owned(), "disabled".to_owned())));
    assert_eq!(of(&found, "postgres").0, "WARN");
}

#[test]
fn certificates_and_clusters_that_cannot_be_used_fail_with_the_reason() {
    let platform = Platform::new();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authority = slipway_testkit::TestAuthority::new();
    let good = file("good.pem", &authority.issue("a").certificate);
    let old = file("old.pem", &authority.issue_until("a", (2020, 1, 1)).certificate);
    let other = file("other.pem", "no certificate");
    let arguments =
        ["--check", "machine", "--certificate", &good, "--certificate", &old, "--certificate", &other];
    let (found, code) = findings(&platform, &arguments, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(of(&found, &format!("{good} certificate")).0, "OK");
    assert!(of(&found, &format!("{old} certificate")).1.starts_with("expired "));
    assert_eq!(of(&found, &format!("{other} certificate")).1, "not a certificate in PEM");

    let kubeconfig = file("config", "apiVersion: v1\nkind: Config\ncontexts: []\nclusters: []\nusers: []\n");
    let (found, code) =
        findings(&platform, &["--kube-context", "nowhere"], &[("KUBECONFIG", kubeconfig.as_str())]);
    let (level, text) = of(&found, "kubernetes");
    assert!(code == Some(1) && level == "FAIL" && text.contains("no such context"), "{text}");
}
