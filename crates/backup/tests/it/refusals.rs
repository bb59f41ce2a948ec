//! What is refused, and that a refusal changes nothing.

use slipway_backup::{Artifacts, Place, RestoreOptions, create, restore, verify};
use sqlx::Connection as _;

use crate::world::{World, quiet};

struct Backup {
    world: World,
    folder: tempfile::TempDir,
    place: Place,
}

async fn backup(artifacts: Artifacts) -> Backup {
    let world = World::new().await;
    world.registry(20).await;
    world.put("a", b"bytes").await;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("backup"));
    create(&world.installation, &place, artifacts, &quiet).await.unwrap();
    Backup { world, folder, place }
}

async fn refusal(world: &World, place: &Place, replace: bool) -> String {
    let refused = restore(&world.installation, place, RestoreOptions { replace }, &quiet).await;
    format!("{:#}", refused.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_is_used_or_runs_is_not_overwritten() {
    let Backup { world, place, folder: _folder } = backup(Artifacts::Copy).await;
    let text = refusal(&world, &place, false).await;
    assert!(text.contains("registry.run_params has 20 rows") && text.contains("--replace"), "{text}");

    let session = world.installation.postgres.clone().application_name("registry");
    let session = sqlx::postgres::PgConnection::connect_with(&session).await.unwrap();
    let text = refusal(&world, &place, true).await;
    assert!(text.contains("registry (1 sessions)") && text.contains("stop all services"), "{text}");
    session.close().await.unwrap();

    let before = world.rows().await;
    let later =
        "INSERT INTO registry.runs (run_id, experiment_id, name, user_id, status, start_ms, artifact_uri)
                 VALUES ('later', 0, '', '', 'RUNNING', 0, '')";
    world.execute(later).await;
    restore(&world.installation, &place, RestoreOptions { replace: true }, &quiet).await.unwrap();
    assert_eq!(world.rows().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_installation_whose_services_have_started_counts_as_empty() {
    let Backup { place, folder: _folder, .. } = backup(Artifacts::Copy).await;
    let fresh = World::new().await;
    fresh.registry(0).await;
    restore(&fresh.installation, &place, RestoreOptions::default(), &quiet).await.unwrap();
    assert_eq!(fresh.rows().await["registry.runs"].len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_named_and_a_restore_of_them_changes_nothing() {
    let Backup { folder, place, .. } = backup(Artifacts::Copy).await;
    let root = folder.path().join("backup");
    let file = root.join("postgres/registry/run_params.copy.gz");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let text = format!("{:#}", verify(&place, &quiet).await.unwrap_err());
    assert!(text.contains("run_params.copy.gz") && text.contains("SHA-256"), "{text}");
    let new = World::new().await;
    assert!(refusal(&new, &place, false).await.contains("run_params.copy.gz"));
    assert!(new.objects().await.is_empty());

    let manifest = root.join("backup.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("registry", "registrx")).unwrap();
    assert!(refusal(&new, &place, false).await.contains("backup.json is damaged"));
    std::fs::remove_file(&manifest).unwrap();
    assert!(refusal(&new, &place, false).await.contains("is not a backup, or the backup is incomplete"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_of_an_artifact_is_found() {
    let Backup { folder, place, .. } = backup(Artifacts::Copy).await;
    let objects = folder.path().join("backup/objects");
    let inner = std::fs::read_dir(&objects).unwrap().next().unwrap().unwrap().path();
    let copy = std::fs::read_dir(inner).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&copy, b"BYTES").unwrap();
    assert!(format!("{:#}", verify(&place, &quiet).await.unwrap_err()).contains("a: SHA-256"));
    let new = World::new().await;
    assert!(refusal(&new, &place, false).await.contains("object a"));
    assert!(new.objects().await.is_empty());
    let schemas: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname = 'registry'")
        .fetch_one(&mut new.connection().await)
        .await
        .unwrap();
    assert_eq!(schemas, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_copies_the_bucket_has_to_have_all_objects() {
    let Backup { world, place, folder: _folder } = backup(Artifacts::Manifest).await;
    verify(&place, &quiet).await.unwrap();
    let new = World::new().await;
    let text = refusal(&new, &place, false).await;
    assert!(text.contains("lacks 1 of its objects") && text.contains("`a`"), "{text}");
    new.put("a", b"bytes").await;
    let restored = restore(&new.installation, &place, RestoreOptions::default(), &quiet).await.unwrap();
    assert_eq!(restored.objects_written, 0);
    assert_eq!(new.rows().await, world.rows().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_has_something_is_not_written_to() {
    let Backup { world, folder, place } = backup(Artifacts::Copy).await;
    let again = create(&world.installation, &place, Artifacts::Copy, &quiet).await.unwrap_err();
    assert!(format!("{again:#}").contains("has the backup of"), "{again:#}");
    std::fs::write(folder.path().join("file"), "").unwrap();
    let other = Place::Folder(folder.path().to_owned());
    let refused = create(&world.installation, &other, Artifacts::Copy, &quiet).await.unwrap_err();
    assert!(refused.to_string().contains("is not empty and has no backup"), "{refused:#}");
    let empty = World::new().await;
    let new = Place::Folder(folder.path().join("new"));
    let none = create(&empty.installation, &new, Artifacts::Copy, &quiet);
    assert!(none.await.unwrap_err().to_string().contains("no schema of Slipway"));
}
