//! A whole installation is destroyed and restored.

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::StreamExt as _;
use slipway_api::events::EVENTS_STREAM;
use slipway_artifact_store::ArtifactStore;
use slipway_backup::{Artifacts, Place, RestoreOptions, create, restore, verify};

use crate::world::{World, quiet};

const SUBJECT: &str = "slipway.registry.alias.set";

async fn filled() -> World {
    let world = World::new().await;
    world.registry(500).await;
    world.put("runs/1/model.onnx", b"one").await;
    world.put("runs/2/ä name with spaces?.bin", b"two").await;
    world.put("empty", b"").await;
    for number in 1..=5 {
        world.publish(SUBJECT, &format!("event {number}")).await;
    }
    world
}

/// A durable consumer that has acknowledged so many messages.
async fn consumer(world: &World, acknowledged: usize) -> pull::Stream {
    let stream = world.installation.nats.jetstream().get_stream(EVENTS_STREAM).await.unwrap();
    let config = pull::Config {
        durable_name: Some("reader".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    let consumer = stream.get_or_create_consumer("reader", config).await.unwrap();
    let mut messages = consumer.messages().await.unwrap();
    for _ in 0..acknowledged {
        messages.next().await.unwrap().unwrap().double_ack().await.unwrap();
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_bytes_messages_and_places_of_consumers_come_back() {
    let old = filled().await;
    drop(consumer(&old, 2).await);
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("backup"));
    let manifest = create(&old.installation, &place, Artifacts::Copy, &quiet).await.unwrap();
    assert_eq!((manifest.artifacts.objects, manifest.artifacts.size_bytes, manifest.messages()), (3, 6, 5));
    let verified = verify(&place, &quiet).await.unwrap();
    assert!(verified.files > 3);

    let new = World::new().await;
    let restored = restore(&new.installation, &place, RestoreOptions::default(), &quiet).await.unwrap();
    assert_eq!(restored.objects_written, 3);
    assert_eq!(new.rows().await, old.rows().await);
    assert_eq!(new.rows().await["registry.runs"].len(), 500);
    assert_eq!(new.structure().await, old.structure().await);
    assert_eq!(new.objects().await, old.objects().await);
    assert_eq!(new.messages(EVENTS_STREAM).await, old.messages(EVENTS_STREAM).await);

    // It goes on: keys are not given twice, the audit trail stays closed, the consumer is at its place.
    new.execute(
        "INSERT INTO registry.experiments (name, artifact_location, created_ms, updated_ms)
         VALUES ('n', '', 0, 0)",
    )
    .await;
    let mut connection = new.connection().await;
    let truncate = sqlx::query("TRUNCATE registry.audit").execute(&mut connection).await;
    assert!(truncate.unwrap_err().to_string().contains("append"), "the trigger is not in force");
    let mut messages = consumer(&new, 0).await;
    let next = messages.next().await.unwrap().unwrap();
    assert_eq!(next.payload, "event 3");
    new.publish(SUBJECT, "event 6").await;
    assert_eq!(new.messages(EVENTS_STREAM).await.last().unwrap().0, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_after_the_snapshot_are_deleted_and_buckets_emptied() {
    let old = filled().await;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("backup"));
    // Published while the rows are read.
    let nats = old.installation.nats.clone();
    let (done, stop) = tokio::sync::oneshot::channel::<()>();
    let publisher = tokio::task::spawn(async move {
        let mut stop = stop;
        while stop.try_recv().is_err() {
            nats.jetstream().publish(SUBJECT, "later".into()).await.unwrap().await.unwrap();
        }
    });
    let manifest = create(&old.installation, &place, Artifacts::Copy, &quiet).await.unwrap();
    done.send(()).unwrap();
    publisher.await.unwrap();
    let events = &manifest.streams[0];
    let last = events.state["last_seq"].as_u64().unwrap();
    assert!(last > events.last_sequence, "nothing was published during the backup");

    let new = World::new().await;
    let bucket = new.installation.nats.bucket("slipway-traffic").await.unwrap();
    bucket.put("d", "a table of another time".into()).await.unwrap();
    let options = RestoreOptions { replace: true };
    restore(&new.installation, &place, options, &quiet).await.unwrap();
    assert_eq!(new.messages(EVENTS_STREAM).await.last().unwrap().0, events.last_sequence);
    assert!(bucket.get("d").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_goes_on_and_a_bucket_holds_backups_as_well() {
    let old = filled().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    let place = Place::Folder(path.clone());
    create(&old.installation, &place, Artifacts::Copy, &quiet).await.unwrap();
    // As it was before the end: no manifest, and the list of what was copied.
    let index = std::fs::read_to_string(path.join("objects.jsonl")).unwrap();
    let first = index.lines().next().unwrap();
    std::fs::write(path.join("objects.partial.jsonl"), format!("{first}\n{{\"key\":\"half")).unwrap();
    std::fs::remove_file(path.join("backup.json")).unwrap();
    let said = std::sync::Mutex::new(Vec::new());
    let say = |line: &str| said.lock().unwrap().push(line.to_owned());
    create(&old.installation, &place, Artifacts::Copy, &say).await.unwrap();
    assert!(said.lock().unwrap()[0].contains("1 objects were copied by an interrupted backup"));
    assert!(!path.join("objects.partial.jsonl").exists());
    verify(&place, &quiet).await.unwrap();

    let store: ArtifactStore = old.installation.artifacts.in_bucket("backups-of-a-test");
    let bucket = Place::Bucket { store, prefix: format!("{}/", old.installation.artifacts.bucket()) };
    create(&old.installation, &bucket, Artifacts::Copy, &quiet).await.unwrap();
    verify(&bucket, &quiet).await.unwrap();
    let new = World::new().await;
    restore(&new.installation, &bucket, RestoreOptions::default(), &quiet).await.unwrap();
    assert_eq!(new.objects().await, old.objects().await);
    assert_eq!(new.rows().await, old.rows().await);
}
