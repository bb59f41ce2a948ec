//! Faults of the disk cache: what is loaded goes on serving, the fault is told, and nothing half-written
//! stays.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use slipway_api::traffic::{Target, VersionState};

use crate::serving::{PROGRAM, Serving, cache, point};
use crate::world::{World, canary, eventually, fixture, table};

/// Longest file that the replica may write where the disk is as good as full.
const FILE_LIMIT_KIB: usize = 256;

/// A model with so many KiB of text in it.
fn padded(model: &Bytes, kib: usize) -> Bytes {
    let text = vec![b'x'; kib * 1024];
    let mut bytes = model.to_vec();
    // `doc_string` of `ModelProto`: field 6, of known length. Its length goes in groups of seven bits.
    bytes.push(6 << 3 | 2);
    let mut length = text.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).expect("seven bits"));
    bytes.extend(text);
    bytes.into()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Waits until a replica tells what loading a version waits for.
async fn waits(world: &World, version: &str) -> String {
    let known = |version: &str, status: &crate::world::DeploymentStatus| {
        let mut versions = status.versions.iter();
        versions
            .find(|known| known.version == version && known.state == VersionState::Loading)?
            .reason
            .clone()
    };
    let status = world.status("the reason is told", |status| known(version, status).is_some()).await;
    known(version, &status).expect("just found")
}

/// The blob of a model in the cache.
fn blob(cache: &tempfile::TempDir, model: &Bytes) -> PathBuf {
    cache.path().join("serving/blobs").join(hex::encode(Sha256::digest(model)))
}

/// Waits until nothing is being written; what is half-written would stay indefinitely.
async fn no_parts(cache: &tempfile::TempDir) {
    eventually("nothing half-written stays", || async {
        files(&cache.path().join("serving/part")).is_empty().then_some(())
    })
    .await;
}

async fn large_version(world: &World, version: &str, kib: usize) -> (Target, Bytes) {
    let model = padded(&fixture("linear_plus_one.onnx"), kib);
    (world.damaged_version(version, &model, &model).await, model)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_the_disk_has_no_room_for_leaves_the_others_serving_and_nothing_behind() {
    let (world, cache) = (World::start().await, cache());
    let first = world.version("1", "linear_minus_one.onnx").await;
    world.put(&table(1, &first)).await;
    let mut command = Command::new("bash");
    // With its signal ignored, the limit makes a write fail, as a full disk does.
    let script = format!("trap '' XFSZ; ulimit -f {FILE_LIMIT_KIB}; exec \"$0\"");
    command.args(["-c", &script, PROGRAM]);
    let serving = Serving::start_by(command, &world, &cache, &[]).await;
    serving.wait_until_ready().await;
    // All but a little fits: the write that fails is the last one.
    let (second, model) = large_version(&world, "2", FILE_LIMIT_KIB).await;
    world.put(&canary(2, &first, &second, 50)).await;
    let reason = waits(&world, "2").await;
    assert!(reason.contains("the cache directory: File too large"), "{reason}");
    for _ in 0..10 {
        assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    }
    let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
    assert!(index.to_string().contains("File too large"), "{index}");
    assert!(!blob(&cache, &model).exists());
    world.put(&table(3, &first)).await;
    world.routed(3).await;
    no_parts(&cache).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_cannot_be_written_is_told_and_used_again_when_it_can() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&table(1, &first)).await;
    let serving = Serving::ready(&world, &cache).await;
    let part = cache.path().join("serving/part");
    // The tables are kept a moment after they are followed.
    eventually("nothing is being written", || async { std::fs::remove_dir(&part).ok() }).await;
    std::fs::write(&part, b"not a folder").unwrap();
    world.put(&canary(2, &first, &second, 50)).await;
    let reason = waits(&world, "2").await;
    assert!(reason.contains("the cache directory: "), "{reason}");
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    std::fs::remove_file(&part).unwrap();
    std::fs::create_dir(&part).unwrap();
    world.routed(2).await;
    no_parts(&cache).await;

    // At the start it is told at once, by the name of the flag.
    let taken = cache.path().join("taken");
    std::fs::write(&taken, b"a file").unwrap();
    let library = slipway_testkit::onnxruntime_library();
    let refused = Command::new(PROGRAM)
        .args(["--listen", "127.0.0.1:0", "--listen-grpc", "127.0.0.1:0", "--listen-metrics", "127.0.0.1:0"])
        .env("SLIPWAY_ONNXRUNTIME_LIB", library)
        .env("SLIPWAY_CACHE_DIR", &taken)
        .output()
        .expect("the binary starts");
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("(--cache-dir)"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_noticed_before_they_are_loaded_and_fetched_again() {
    let (world, cache) = (World::start().await, cache());
    let model = fixture("linear_minus_one.onnx");
    // Each request loads its version from the disk.
    let serving = Serving::ready_with_room_for_one(&world, &cache).await;
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    };
    let cut = |path: &Path| std::fs::write(path, &std::fs::read(path).unwrap()[..40]).unwrap();
    let damages: [&dyn Fn(&Path); 2] = [&flip, &cut];
    for damage in damages {
        for (version, expected) in [("2", 1.0), ("1", -1.0)] {
            let path = blob(&cache, &model);
            if version == "1" {
                damage(&path);
            }
            let path = format!("/v2/models/points/versions/{version}/infer");
            let (status, answer) = serving.post(&path, &point([0.0, 0.0])).await;
            assert_eq!(
                (status.as_u16(), &answer["outputs"][0]["data"][0]),
                (200, &json!(expected)),
                "{answer}"
            );
        }
        assert_eq!(std::fs::read(blob(&cache, &model)).unwrap(), model, "it is whole again");
    }
    no_parts(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_share_a_cache_load_one_version_at_the_same_time() {
    let (world, cache) = (World::start().await, cache());
    let (first, model) = large_version(&world, "1", 2 * FILE_LIMIT_KIB).await;
    world.put(&table(1, &first)).await;
    let replicas = futures::future::join_all((0..3).map(|_| Serving::start(&world, &cache, &[]))).await;
    for replica in &replicas {
        replica.wait_until_ready().await;
        assert_eq!(replica.predict([0.0, 0.0]).await.score, 1.0);
    }
    assert_eq!(std::fs::read(blob(&cache, &model)).unwrap(), model);
    let second = world.version("2", "linear_minus_one.onnx").await;
    world.put(&table(2, &second)).await;
    for replica in &replicas {
        eventually("each follows", || async {
            (replica.predict([0.0, 0.0]).await.version == "2").then_some(())
        })
        .await;
    }
    no_parts(&cache).await;
}
