//! Each server starts, survives a kill, and starts again on the same data.

use std::path::Path;
use std::process::Command;

use slipway_toolbox::servers::{self, NatsOptions, PostgresOptions, S3Options};

use crate::{quiet, toolbox};

fn postgres(folder: &Path) -> PostgresOptions {
    PostgresOptions {
        binaries: toolbox().postgres(&mut quiet()).unwrap(),
        dir: folder.join("postgres"),
        log_dir: folder.join("logs"),
        port: servers::free_port().unwrap(),
    }
}

fn query(options: &PostgresOptions, url: &str, statement: &str) -> String {
    let output = Command::new(options.binaries.bin_dir.join("psql"))
        .args(["-X", "-A", "-t", "-d", url, "-c", statement])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn postgres_keeps_what_it_committed_through_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let options = postgres(folder.path());
    let mut running = servers::start_postgres(&options).unwrap();
    query(&options, &running.url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (41)");
    running.kill();
    let mut running = servers::start_postgres(&options).unwrap();
    assert_eq!(query(&options, &running.url, "SELECT n + 1 FROM kept"), "42");
    running.stop();
    assert!(running.ended().is_some());
}

#[test]
fn a_postgres_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = postgres(folder.path());
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    options.port = listener.local_addr().unwrap().port();
    let error = servers::start_postgres(&options).unwrap_err().to_string();
    assert!(error.contains("in use") || error.contains("could not bind"), "{error}");
}

#[test]
fn nats_starts_again_on_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let options = NatsOptions {
        program: toolbox().nats_server(&mut quiet()).unwrap(),
        dir: folder.path().join("nats with space"),
        log_dir: folder.path().join("logs"),
        port: servers::free_port().unwrap(),
    };
    let mut running = servers::start_nats(&options).unwrap();
    running.kill();
    let running = servers::start_nats(&options).unwrap();
    assert!(running.url.starts_with("nats://127.0.0.1:"));
    assert!(options.dir.join("jetstream").exists());
}

#[test]
fn two_s3_servers_live_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let options = |name: &str| S3Options {
        program: toolbox().weed(&mut quiet()).unwrap(),
        dir: folder.path().join(name),
        log_dir: folder.path().join("logs").join(name),
        port: servers::free_port().unwrap(),
    };
    let (first, keys) = servers::start_s3(&options("first")).unwrap();
    let (second, other) = servers::start_s3(&options("second")).unwrap();
    assert_ne!(first.url, second.url);
    assert_ne!(keys.secret_key, other.secret_key);
}
