//! What the program says when it starts, and of what it stands on.

use std::process::Command;

use slipway_testkit::TestAuthority;

use crate::serving::{PROGRAM, Serving, cache};
use crate::world::{World, eventually, table};

#[test]
fn a_tls_file_that_cannot_be_read_is_named_with_its_setting() {
    let folder = cache();
    let issued = TestAuthority::new().issue("127.0.0.1");
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("cert.pem"), &issued.certificate).unwrap();
    std::fs::write(file("key.pem"), &issued.key).unwrap();
    std::fs::write(file("empty.pem"), "").unwrap();
    let (certificate, key, none, empty) =
        (file("cert.pem"), file("key.pem"), file("none.pem"), file("empty.pem"));
    for (settings, setting, told) in [
        ([&none, &key, &certificate], "--tls-cert, SLIPWAY_TLS_CERT", "No such file"),
        ([&certificate, &none, &certificate], "--tls-key, SLIPWAY_TLS_KEY", "No such file"),
        ([&certificate, &key, &none], "--tls-client-ca, SLIPWAY_TLS_CLIENT_CA", "No such file"),
        ([&empty, &key, &certificate], "--tls-cert, SLIPWAY_TLS_CERT", "expected PEM"),
        ([&certificate, &empty, &certificate], "--tls-key, SLIPWAY_TLS_KEY", "no items found"),
    ] {
        let started = Command::new(PROGRAM)
            .env("SLIPWAY_ONNXRUNTIME_LIB", slipway_testkit::onnxruntime_library())
            .env("SLIPWAY_CACHE_DIR", file("cache"))
            .env("SLIPWAY_LISTEN", "127.0.0.1:0")
            .env("SLIPWAY_LISTEN_GRPC", "127.0.0.1:0")
            .env("SLIPWAY_LISTEN_METRICS", "127.0.0.1:0")
            .env("SLIPWAY_TLS_CERT", settings[0])
            .env("SLIPWAY_TLS_KEY", settings[1])
            .env("SLIPWAY_TLS_CLIENT_CA", settings[2])
            .output()
            .unwrap();
        assert!(!started.status.success());
        let log = String::from_utf8_lossy(&started.stderr);
        assert!(log.contains(setting) && log.contains(told), "{setting}: {log}");
        assert!(!log.contains(&none) || settings.contains(&&none), "{log}");
        assert!(settings.contains(&&empty) || log.contains(&none), "the file is named: {log}");
    }
}

#[test]
fn a_setting_that_cannot_be_meant_ends_the_start_and_is_named() {
    let folder = cache();
    for (variable, value, flag, told) in [
        ("SLIPWAY_REGISTRY_URL", "", "--registry-url", "expected http://HOST:PORT"),
        ("SLIPWAY_REGISTRY_URL", "localhost:30418", "--registry-url", "expected http://HOST:PORT"),
        ("SLIPWAY_S3_ENDPOINT", "foo", "--s3-endpoint", "expected http://HOST:PORT"),
        ("SLIPWAY_S3_BUCKET", "", "--s3-bucket", "expected a bucket's name"),
        ("SLIPWAY_NATS_URL", "nats://", "--nats-url", "expected nats://HOST:PORT"),
        ("SLIPWAY_SERVING_BATCH_DELAY_US", "9000000", "--batch-delay-us", "expected at most 1000000"),
        ("SLIPWAY_SERVING_PREFERRED_BATCH_ROWS", "8,16", "--preferred-batch-rows", "which is 8"),
        ("SLIPWAY_SERVING_QUEUE_LIMIT", "0", "--queue-limit", "expected a whole number from 1"),
        ("SLIPWAY_SERVING_MAX_BODY_BYTES", "0", "--max-body-bytes", "expected a whole number from 1"),
        ("SLIPWAY_LOG", "bogus", "--log", "expected off, error, warn, info, debug or trace"),
        ("SLIPWAY_OTLP_ENDPOINT", "https://x", "--otlp-endpoint", "expected http://HOST:PORT"),
    ] {
        let started = Command::new(PROGRAM)
            .env("SLIPWAY_ONNXRUNTIME_LIB", slipway_testkit::onnxruntime_library())
            .env("SLIPWAY_CACHE_DIR", folder.path())
            .env("SLIPWAY_LISTEN", "127.0.0.1:0")
            .env("SLIPWAY_LISTEN_GRPC", "127.0.0.1:0")
            .env("SLIPWAY_LISTEN_METRICS", "127.0.0.1:0")
            .env(variable, value)
            .output()
            .unwrap();
        assert!(!started.status.success());
        let log = String::from_utf8_lossy(&started.stderr);
        assert!([variable, flag, told].iter().all(|part| log.contains(part)), "{variable}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_the_connection_to_nats_is_said_once() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let settings = [("SLIPWAY_LOG", "info,slipway_event_bus=debug")];
    let serving = Serving::start(&world, &cache, &settings).await;
    serving.wait_until_ready().await;
    let lines = |text: &str| serving.log().lines().filter(|line| line.contains(text)).count();
    let said = |text: &'static str, times: usize| {
        eventually(text, move || async move { (lines(text) >= times).then_some(()) })
    };
    world.nats.kill().await;
    said("NATS is still unreachable", 3).await;
    world.nats.start_again().await;
    said("connected to NATS", 2).await;
    assert_eq!(lines("connected to NATS"), 2);
    assert_eq!(lines("WARN slipway_event_bus::connection"), 1, "{}", serving.log());
    assert_eq!(lines("INFO async_nats"), 0, "{}", serving.log());
}
