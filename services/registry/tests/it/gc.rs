//! Bytes that nothing refers to leave the bucket, and no others, whatever happens meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{MODEL, World};

/// A whole collection with pages of three objects: keys of orphans, how many were loose, and the bytes.
async fn collect(world: &World, dry_run: bool) -> (Vec<String>, u64, u64) {
    let (mut orphans, mut loose, mut size_bytes, mut token) = (Vec::new(), 0, 0, Value::Null);
    loop {
        let body = json!({"dry_run": dry_run, "grace_s": 0, "limit": 3, "page_token": token});
        let (status, page) = world.v1(Method::POST, "gc", body).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let keys = page["orphans"].as_array().unwrap().iter();
        orphans.extend(keys.map(|orphan| orphan["key"].as_str().unwrap().to_owned()));
        loose += page["loose"].as_u64().unwrap();
        size_bytes += page["size_bytes"].as_u64().unwrap();
        match page.get("next_page_token") {
            Some(next) => token = next.clone(),
            None => return (orphans, loose, size_bytes),
        }
    }
}

async fn objects(world: &World) -> BTreeSet<String> {
    let listed = world.store().list("blobs/", 100_000).await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_refers_to_goes_with_its_bytes() {
    let world = World::begin().await;
    for (path, bytes) in
        [("0/a/artifacts/x", "first"), ("0/a/artifacts/x", "other!"), ("0/a/artifacts/y", "yy")]
    {
        assert!(world.put_file(path, bytes.as_bytes()).await.0.is_success());
    }
    let kept = world.onnx_model(MODEL).await;
    assert!(world.version("m", &kept).await.0.is_success());
    world.raw(Method::DELETE, "/api/2.0/mlflow-artifacts/artifacts/0/a/artifacts/y", "").await;
    // Left by a database that was restored from a backup, say.
    for number in 0..5 {
        let key = format!("blobs/00000000000070008000{number:012}");
        world.store().put_bytes(&key, bytes::Bytes::from_static(b"0123456789")).await.unwrap();
    }
    world.store().put_bytes("checkpoints/1", bytes::Bytes::from_static(b"another service's")).await.unwrap();

    // "first" was replaced and "yy" deleted: seven bytes.
    let before = objects(&world).await;
    let (orphans, loose, size_bytes) = collect(&world, true).await;
    assert_eq!((orphans.len(), loose, size_bytes), (5, 2, 57));
    assert_eq!(objects(&world).await, before, "a dry run removes nothing");
    let recent = json!({"dry_run": false});
    let (_, young) = world.v1(Method::POST, "gc", recent).await;
    assert_eq!(
        (&young["size_bytes"], &young["examined"]),
        (&json!(0), &json!(before.len())),
        "all is recent"
    );
    assert_eq!(collect(&world, false).await, (orphans, loose, size_bytes));
    assert_eq!(collect(&world, false).await, (Vec::new(), 0, 0));
    assert_eq!(objects(&world).await.len(), before.len() - 7);
    assert_eq!(world.file("0/a/artifacts/x").await.text().await.unwrap(), "other!");
    assert_eq!(
        world.file(&format!("0/models/{kept}/artifacts/model.onnx")).await.bytes().await.unwrap(),
        MODEL
    );
    assert!(world.store().size_bytes("checkpoints/1").await.unwrap().is_some(), "not ours to remove");
    let wrong = world.v1(Method::POST, "gc", json!({"limit": 0})).await;
    assert_eq!(wrong.1["field"], "limit");
}

const LOOSE: &str = "SELECT blob_key FROM registry.loose_blobs";
const REFERRED: &str =
    "SELECT blob_key FROM registry.artifacts UNION SELECT blob_key FROM registry.model_version_files";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing() {
    let world = World::begin().await;
    let host = world.url.strip_prefix("http://").unwrap();
    for length in [1_000_usize, 20_000_000] {
        let mut client = std::net::TcpStream::connect(host).unwrap();
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/0/gone/artifacts/{length}");
        let head = format!("PUT {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).unwrap();
        client.write_all(&vec![7; length - 1]).unwrap();
        let started = Instant::now();
        while world.column(LOOSE).await.is_empty() {
            assert!(started.elapsed() < Duration::from_secs(30), "the upload does not begin");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(client);
        while !(world.column(LOOSE).await.is_empty() && objects(&world).await.is_empty()) {
            assert!(started.elapsed() < Duration::from_secs(30), "something is left");
            collect(&world, false).await;
        }
    }
    assert_eq!(objects(&world).await, BTreeSet::new());
    let listed = world.get("/api/2.0/mlflow-artifacts/artifacts?path=0/gone/artifacts").await;
    assert_eq!(listed, json!({}));
}

/// What a client knows of a path: what was last acknowledged, and what it has tried since without an answer
/// that says so. Each of those may have been written all the same, where the registry was killed between its
/// commit and its answer.
#[derive(Debug, Default, Clone)]
struct Known {
    acknowledged: Option<Vec<u8>>,
    tried: Vec<Vec<u8>>,
}

impl Known {
    fn allows(&self, found: &Option<Vec<u8>>) -> bool {
        *found == self.acknowledged || found.as_ref().is_some_and(|bytes| self.tried.contains(bytes))
    }
}

/// What the writers know.
#[derive(Debug, Default)]
struct Uploads {
    paths: BTreeMap<String, Known>,
    /// Of this round.
    acknowledged: usize,
}

/// Uploads the same and other contents to a few paths, over and over, and collects without any grace.
async fn write(world: &World, writer: usize, stop: &AtomicBool, known: &Mutex<Uploads>) {
    for number in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let path = format!("0/w{writer}/artifacts/{}", number % 3);
        // Every second upload has bytes that lie in the bucket already.
        let bytes = format!("content {}", number / 2 % 5).into_bytes();
        known.lock().unwrap().paths.entry(path.clone()).or_default().tried.push(bytes.clone());
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", world.url);
        let sent = world.http.put(url).body(bytes.clone()).send().await;
        if sent.is_ok_and(|answer| answer.status() == StatusCode::OK) {
            let outcome = Known { acknowledged: Some(bytes), tried: Vec::new() };
            let mut known = known.lock().unwrap();
            known.paths.insert(path, outcome);
            known.acknowledged += 1;
        }
        if number % 5 == writer {
            let body = json!({"dry_run": false, "grace_s": 0});
            let _ = world.http.post(format!("{}/api/v1/gc", world.url)).json(&body).send().await;
        }
    }
}

/// The registry is killed again and again, while clients upload and collections without any grace run: at
/// whatever point it was, what was acknowledged is there, and in the end the bucket holds exactly what is
/// referred to.
#[tokio::test(flavor = "multi_thread")]
async fn crashes_at_any_point_lose_nothing_and_leave_nothing() {
    const KILLS: usize = 8;
    let world = World::begin().await;
    let kept = world.onnx_model(MODEL).await;
    assert!(world.version("m", &kept).await.0.is_success());
    world.stop().await;
    let known = Arc::new(Mutex::new(Uploads::default()));
    for round in 0..KILLS {
        let mut process = world.process().await;
        let stop = Arc::new(AtomicBool::new(false));
        known.lock().unwrap().acknowledged = 0;
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (world, stop, known) = (process.world(&world), Arc::clone(&stop), Arc::clone(&known));
                tokio::spawn(async move { write(&world, writer, &stop, &known).await })
            })
            .collect();
        // Another moment each time, from the first requests on. It is counted in uploads, since a busy
        // machine needs longer for each.
        let started = Instant::now();
        while known.lock().unwrap().acknowledged < 3 * round && started.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        tokio::time::sleep(Duration::from_millis(u64::try_from(7 * round).unwrap())).await;
        process.kill();
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
    }
    let world = world.replica().await;
    let known = known.lock().unwrap().paths.clone();
    assert!(known.values().any(|path| path.acknowledged.is_some()), "nothing was uploaded at all");
    let check = async || {
        for (path, known) in &known {
            let answer = world.file(path).await;
            let found = (answer.status() == StatusCode::OK).then_some(answer.bytes().await.unwrap().to_vec());
            assert!(known.allows(&found), "{path}: {found:?} instead of {known:?}");
        }
        let pinned = world.file(&format!("0/models/{kept}/artifacts/model.onnx")).await;
        assert_eq!(pinned.bytes().await.unwrap(), MODEL);
    };
    check().await;
    collect(&world, false).await;
    check().await;
    assert_eq!(objects(&world).await, world.column(REFERRED).await);
}
