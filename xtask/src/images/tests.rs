//! Images of programs that are not programs: what is in them, and that two of them are the same.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use slipway_oci_image::{Compression, Layer};

use super::base::Base;
use super::programs::Programs;
use super::*;

fn source() -> Source {
    let owned = |text: &str| text.to_owned();
    Source { version: owned("1.2.3"), revision: owned("abc"), created: owned("2026-12-01T00:00:00Z") }
}

/// An image of files in `folder`.
fn written(folder: &Path, title: &str) -> Made {
    let image = catalog::selected(&[title.to_owned()]).unwrap()[0];
    for name in [image.name, "slipway-agent"] {
        std::fs::write(folder.join(name), "a program").unwrap();
    }
    let mut layer = Layer::default();
    let layer = Arc::new(layer.base_files().seal(Compression::Gzip).unwrap());
    let base = Base { layer, packages: Vec::new(), suite: "bookworm".to_owned() };
    let (programs, source) = (Programs::in_folder(folder), source());
    let parts = assemble::Parts { image, programs: &programs, base: &base, source: &source, tag: "1.2.3" };
    write(folder, &parts).unwrap()
}

fn unpacked(folder: &Path, archive: &Path) -> Value {
    let status = Command::new("tar").arg("--extract").arg("--file").arg(archive).current_dir(folder).status();
    assert!(status.unwrap().success());
    let read =
        |path: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(path)).unwrap()).unwrap() };
    let index = read("manifest.json");
    read(index[0]["Config"].as_str().unwrap())
}

#[test]
fn two_builds_of_an_image_have_one_digest() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [first, second] = [&one, &other].map(|folder| written(folder.path(), "slipway-launcher"));
    assert_eq!(first.digest, second.digest);
    assert_eq!(std::fs::read(&first.archive).unwrap(), std::fs::read(&second.archive).unwrap());
    let bills = [&one, &other]
        .map(|folder| std::fs::read_to_string(folder.path().join("slipway-launcher.cdx.json")).unwrap());
    assert_eq!(bills[0], bills[1]);
}

#[test]
fn an_image_runs_as_a_user_and_listens_on_all_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let made = written(folder.path(), "slipway-serving");
    assert_eq!(made.reference, "localhost/slipway-serving:1.2.3");
    let config = unpacked(folder.path(), &made.archive);
    assert_eq!(config["created"], "2026-12-01T00:00:00Z");
    let config = &config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/local/bin/slipway-serving"]));
    let environment: BTreeSet<&str> =
        config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(environment.contains("SLIPWAY_LISTEN_GRPC=0.0.0.0:8001"), "{environment:?}");
    assert_eq!(config["Labels"]["org.opencontainers.image.revision"], "abc");
    assert_eq!(config["ExposedPorts"].as_object().unwrap().len(), 3);
}

#[test]
fn the_bill_lists_the_crates_of_the_programs_and_nothing_that_only_tests_them() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), "slipway-agent");
    let bill = std::fs::read_to_string(folder.path().join("slipway-agent.cdx.json")).unwrap();
    let bill: Value = serde_json::from_str(&bill).unwrap();
    let components = bill["components"].as_array().unwrap();
    let names: BTreeSet<&str> =
        components.iter().filter_map(|component| component["name"].as_str()).collect();
    assert!(names.contains("tokio") && names.contains("slipway-agent"), "{names:?}");
    assert!(!names.contains("slipway-testkit") && !names.contains("sqlx"), "{names:?}");
    let tokio = components.iter().find(|component| component["name"] == "tokio").unwrap();
    assert_eq!(tokio["hashes"][0]["content"].as_str().unwrap().len(), 64);
    assert_eq!(tokio["licenses"][0]["expression"], "MIT");
}

#[test]
fn an_image_that_does_not_exist_is_named_with_those_that_do() {
    let error = catalog::selected(&["slipway-console".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("`slipway-console`") && error.contains("slipway-serving-onnx-cpu"), "{error}");
}

#[test]
fn only_images_of_the_profile_dist_have_limits() {
    let folder = tempfile::tempdir().unwrap();
    let large = Made { layer_bytes: 61 << 20, ..written(folder.path(), "slipway-registry") };
    let error = sizes::check(Profile::Dist, std::slice::from_ref(&large)).unwrap_err().to_string();
    assert_eq!(error, "too large: slipway-registry has 61.0 MiB, limit 60.0 MiB");
    sizes::check(Profile::Dev, &[large]).unwrap();
    let agent = Made { program_bytes: (8 << 20) + 1, ..written(folder.path(), "slipway-agent") };
    assert!(sizes::check(Profile::Dist, &[agent]).is_err());
}
