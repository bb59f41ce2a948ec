//! Objects in a real S3 server.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

use bytes::Bytes;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use slipway_artifact_store::{ArtifactStore, Error, S3Config, UploadedPart};

const VALID: std::time::Duration = std::time::Duration::from_secs(60);

async fn store() -> ArtifactStore {
    let bucket = slipway_testkit::s3().await;
    let store = ArtifactStore::new(&S3Config {
        s3_endpoint: bucket.endpoint,
        s3_region: "us-east-1".into(),
        s3_bucket: bucket.bucket,
        s3_access_key: bucket.access_key,
        s3_secret_key: bucket.secret_key.into(),
    });
    store.ensure_bucket().await.unwrap();
    store.ensure_bucket().await.unwrap();
    store
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|index| u8::try_from((index * 31 + index / 253) % 251).unwrap()).collect()
}

fn chunks(bytes: &Bytes) -> impl futures::Stream<Item = Result<Bytes, String>> + Unpin + use<> {
    let chunks: Vec<_> = bytes.chunks(70_001).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    futures::stream::iter(chunks)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_come_back_byte_for_byte_whatever_their_length() {
    let store = store().await;
    // Empty, small, exactly one part, and several parts with a rest; with their length known and not.
    let lengths = [0, 1_000, 5 * 1024 * 1024, 8 * 1024 * 1024, 21 * 1024 * 1024 + 7];
    for (length, known) in
        lengths.into_iter().flat_map(|length| [(length, None), (length, Some(length as u64))])
    {
        let content = bytes(length);
        let key = format!("artifacts/{length} +%ü.bin");
        let stored = store.put_stream(&key, chunks(&content), known).await.unwrap();
        assert_eq!(stored.size_bytes, length as u64);
        assert_eq!(stored.sha256, hex::encode(Sha256::digest(&content)));
        let download = store.get(&key).await.unwrap();
        assert_eq!(download.size_bytes, length as u64);
        let back: Vec<Bytes> = download.into_stream().map(Result::unwrap).collect().await;
        assert_eq!(back.concat(), content, "{length} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let store = store().await;
    let content = bytes(20 * 1024 * 1024);
    let broken =
        chunks(&content).take(200).chain(futures::stream::iter([Err("the client is gone".to_owned())]));
    let error = store.put_stream("half", broken, None).await.unwrap_err();
    assert!(matches!(error, Error::Source(_)), "{error}");
    assert_eq!(store.size_bytes("half").await.unwrap(), None);
    assert!(store.list("", 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_wins_a_conditional_write() {
    let store = store().await;
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        async move { store.put_if_absent("MANIFEST.json", Bytes::from(format!("{writer}"))).await.unwrap() }
    });
    let won = futures::future::join_all(writers).await;
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_never_reach_the_target_file() {
    let store = store().await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model.onnx");
    store.put_bytes("model", bytes(5_000)).await.unwrap();
    let wrong = hex::encode(Sha256::digest(b"something else"));
    let error = store.download_verified("model", &wrong, &target).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let right = hex::encode(Sha256::digest(bytes(5_000)));
    store.download_verified("model", &right, &target).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), bytes(5_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_oversized_objects_are_told_apart() {
    let store = store().await;
    assert!(matches!(store.get("nothing").await, Err(Error::NotFound { .. })));
    store.put_bytes("big", bytes(2_000)).await.unwrap();
    assert!(matches!(store.get_bytes("big", 1_999).await, Err(Error::TooLarge { .. })));
    assert_eq!(store.get_bytes("big", 2_000).await.unwrap().len(), 2_000);
    store.delete("big").await.unwrap();
    store.delete("big").await.unwrap();
    assert!(matches!(store.get("big").await, Err(Error::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stores_and_reads_parts_at_signed_addresses() {
    let store = store().await;
    // The process's TLS provider, which a client asks for even where it speaks plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let content = bytes(11 * 1024 * 1024);
    let upload = store.begin_parts("direct").await.unwrap();
    let mut parts = Vec::new();
    for (index, part) in content.chunks(6 * 1024 * 1024).enumerate() {
        let number = i32::try_from(index).unwrap() + 1;
        let address = store.presigned_part("direct", &upload, number, VALID).await.unwrap();
        let answer = http.put(address).body(part.to_vec()).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
        parts.push(UploadedPart { number, etag });
    }
    store.complete_parts("direct", &upload, &parts).await.unwrap();
    let address = store.presigned_get("direct", VALID).await.unwrap();
    let range = http.get(&address).header("range", "bytes=7000000-7000099").send().await.unwrap();
    assert_eq!(range.bytes().await.unwrap(), content.slice(7_000_000..7_000_100));
    let ours = store.get_range("direct", 7_000_000, 7_000_099).await.unwrap();
    let ours: Vec<Bytes> = ours.into_stream().map(Result::unwrap).collect().await;
    assert_eq!(ours.concat(), content.slice(7_000_000..7_000_100));
    assert_eq!(http.get(&address).send().await.unwrap().bytes().await.unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_were_left_are_aborted_by_their_age() {
    let store = store().await;
    let left = store.begin_parts("blobs/left").await.unwrap();
    let elsewhere = store.begin_parts("checkpoints/left").await.unwrap();
    let hour = std::time::Duration::from_secs(3_600);
    let (past, future) = (std::time::SystemTime::now() - hour, std::time::SystemTime::now() + hour);
    assert_eq!(store.abort_parts_before("blobs/", past).await.unwrap(), 0);
    assert_eq!(store.abort_parts_before("blobs/", future).await.unwrap(), 1);
    let parts = [UploadedPart { number: 1, etag: "\"0\"".to_owned() }];
    let error = store.complete_parts("blobs/left", &left, &parts).await.unwrap_err();
    assert!(matches!(error, Error::Parts { .. }), "{error}");
    store.abort_parts("blobs/left", &left).await.unwrap();
    store.abort_parts("checkpoints/left", &elsewhere).await.unwrap();
    store.abort_parts("checkpoints/left", &elsewhere).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_shortly_and_without_addresses() {
    let bucket = slipway_testkit::s3().await;
    let reached = |endpoint: &str, secret_key: &str| {
        ArtifactStore::new(&S3Config {
            s3_endpoint: endpoint.to_owned(),
            s3_region: "us-east-1".into(),
            s3_bucket: bucket.bucket.clone(),
            s3_access_key: bucket.access_key.clone(),
            s3_secret_key: secret_key.to_owned().into(),
        })
    };
    let told = async |store: ArtifactStore| store.get("some/key").await.unwrap_err().to_string();
    assert_eq!(
        told(reached("http://127.0.0.1:9", &bucket.secret_key)).await,
        "the artifact store could not read an object: it cannot be reached; check the endpoint \
         (--s3-endpoint or SLIPWAY_S3_ENDPOINT)"
    );
    let denied = told(reached(&bucket.endpoint, "wrong")).await;
    assert!(
        denied.starts_with("the artifact store could not read an object: access is denied (403"),
        "{denied}"
    );
    assert!(!denied.contains("127.0.0.1"), "{denied}");
}
