//! Each server starts, survives a kill, and starts again on the same data.

use std::path::Path;
use std::process::Command;

use slipway_toolbox::servers::{self, NatsOptions, NatsUser, PostgresOptions, S3Options};
use slipway_toolbox::{Account, DEFAULT_ACCOUNT};

use crate::{quiet, toolbox};

pub(crate) fn account() -> Account {
    Account::for_servers(DEFAULT_ACCOUNT).unwrap()
}

pub(crate) fn postgres(folder: &Path) -> PostgresOptions {
    PostgresOptions {
        binaries: toolbox().postgres(&mut quiet()).unwrap(),
        dir: folder.join("postgres"),
        log_dir: folder.join("logs"),
        port: servers::free_port().unwrap(),
        account: account(),
        roles: Vec::new(),
    }
}

pub(crate) fn query(options: &PostgresOptions, url: &str, statement: &str) -> String {
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
    let mut running = servers::start_postgres(&options).unwrap().0;
    query(&options, &running.url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (41)");
    running.kill();
    let mut running = servers::start_postgres(&options).unwrap().0;
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
    let error = servers::start_postgres(&options).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains(&options.port.to_string()), "{error}");
}

/// A backend that computes notices late that its postmaster is gone, and holds the shared memory until then.
#[test]
fn postgres_starts_again_while_a_backend_of_the_killed_one_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let options = postgres(folder.path());
    let mut running = servers::start_postgres(&options).unwrap().0;
    query(&options, &running.url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (41)");
    let mut client = Command::new(options.binaries.bin_dir.join("psql"))
        .args(["-X", "-d", &running.url, "-c", "SELECT sum(n) FROM generate_series(1, 100000000000) AS n"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT sum%'";
    while query(&options, &running.url, busy) != "1" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    running.kill();
    let running = servers::start_postgres(&options).unwrap().0;
    assert_eq!(query(&options, &running.url, "SELECT n + 1 FROM kept"), "42");
    client.wait().unwrap();
}

/// As after a platform that was killed and whose servers have not ended yet.
#[test]
fn a_server_that_outlived_its_platform_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = postgres(folder.path());
    let nats = nats(folder.path());
    let s3 = s3(folder.path(), "s3");
    let orphans = [
        servers::start_postgres(&postgres).unwrap().0,
        servers::start_nats(&nats).unwrap().0,
        servers::start_s3(&s3).unwrap().0,
    ];
    let successors = [
        servers::start_postgres(&postgres).unwrap().0,
        servers::start_nats(&nats).unwrap().0,
        servers::start_s3(&s3).unwrap().0,
    ];
    for (mut orphan, mut successor) in orphans.into_iter().zip(successors) {
        assert!(orphan.ended().is_some() && successor.ended().is_none(), "{}", successor.url);
        assert_eq!(orphan.url, successor.url);
    }
}

#[test]
fn no_server_takes_a_port_that_another_program_listens_on() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let errors = [
        servers::start_nats(&NatsOptions { port, ..nats(folder.path()) }).map(|_| ()).unwrap_err(),
        servers::start_s3(&S3Options { port, ..s3(folder.path(), "s3") }).map(|_| ()).unwrap_err(),
    ];
    for (name, error) in ["NATS", "SeaweedFS"].into_iter().zip(errors) {
        let error = error.to_string();
        assert!(error.contains(name) && error.contains(&port.to_string()), "{error}");
    }
}

pub(crate) fn nats(folder: &Path) -> NatsOptions {
    NatsOptions {
        program: toolbox().nats_server(&mut quiet()).unwrap(),
        dir: folder.join("nats with space"),
        log_dir: folder.join("logs"),
        port: servers::free_port().unwrap(),
        account: account(),
        users: vec![NatsUser::unlimited("tester")],
    }
}

pub(crate) fn s3(folder: &Path, name: &str) -> S3Options {
    S3Options {
        program: toolbox().weed(&mut quiet()).unwrap(),
        dir: folder.join(name),
        log_dir: folder.join("logs").join(name),
        port: servers::free_port().unwrap(),
        account: account(),
    }
}

#[test]
fn nats_starts_again_on_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let options = nats(folder.path());
    let mut running = servers::start_nats(&options).unwrap().0;
    running.kill();
    let running = servers::start_nats(&options).unwrap().0;
    assert!(running.url.starts_with("nats://tester:") && running.url.contains("@127.0.0.1:"));
    assert!(["jetstream", "home/jetstream"].iter().any(|path| options.dir.join(path).exists()));
}

#[test]
fn two_s3_servers_live_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let options = |name: &str| s3(folder.path(), name);
    let (first, keys) = servers::start_s3(&options("first")).unwrap();
    let (second, other) = servers::start_s3(&options("second")).unwrap();
    assert_ne!(first.url, second.url);
    assert_ne!(keys.secret_key, other.secret_key);
}
