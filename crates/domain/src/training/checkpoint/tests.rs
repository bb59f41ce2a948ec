//! A checkpoint is never seen torn.

use proptest::prelude::*;

use super::*;
use crate::training::{Job, Status};

fn manifest(step: u64, attempt: u32, sizes: &[u64]) -> Manifest {
    let files = sizes.iter().enumerate().map(|(index, size)| ManifestFile {
        path: format!("shard-{index}.bin"),
        size_bytes: *size,
        sha256: format!("{index:064x}"),
        mode: Some(0o644),
        part: None,
    });
    Manifest {
        schema: MANIFEST_SCHEMA.into(),
        job_id: "j1".into(),
        attempt,
        step,
        prefix: format!("checkpoints/j1/{step:012}/{attempt}-u"),
        files: files.collect(),
        folders: vec![],
        links: vec![],
        resume_from: None,
        world_size: None,
        parts: vec![],
        created_at_unix_ms: step * 1_000,
    }
}

/// An object store and the launcher's table of committed manifests.
#[derive(Default)]
struct Store {
    objects: BTreeMap<String, u64>,
    committed: Vec<Manifest>,
}

impl Store {
    /// Performs the first `operations` of an upload; the last of them, where it is a file, may be cut off in
    /// the middle.
    fn upload(&mut self, manifest: &Manifest, operations: usize, torn_bytes: Option<u64>) {
        let plan: Vec<_> = upload_plan(manifest).into_iter().take(operations).collect();
        let last = plan.len().saturating_sub(1);
        for (index, operation) in plan.into_iter().enumerate() {
            match operation {
                UploadStep::PutFile { key, file } => {
                    let size = manifest.files[file].size_bytes;
                    let torn = torn_bytes.filter(|bytes| index == last && *bytes < size);
                    self.objects.insert(key, torn.unwrap_or(size));
                }
                UploadStep::PutManifest { key } => {
                    self.objects.insert(key, 1);
                }
                UploadStep::Commit => self.committed.push(manifest.clone()),
            }
        }
    }
}

#[test]
fn the_prefix_of_an_upload_belongs_to_one_job_and_attempt() {
    let base = "checkpoints/j1";
    let prefix = upload_prefix(base, 7, 2, "0d3f-a1");
    assert_eq!(prefix, "checkpoints/j1/000000000007/2-0d3f-a1");
    assert_eq!(upload_step(base, 2, &prefix), Some(7));
    let long = upload_prefix(base, 4_000_000_000_000, 2, "a");
    assert_eq!(upload_step(base, 2, &long), Some(4_000_000_000_000));
    let others = [
        ("checkpoints/j1", 1, prefix.as_str()),
        ("checkpoints/j", 2, &prefix),
        ("checkpoints/j10", 2, &prefix),
        (base, 2, "checkpoints/j1/7/2-a"),
        (base, 2, "checkpoints/j1/000000000007/22-a"),
        (base, 2, "checkpoints/j1/000000000007/2-"),
        (base, 2, "checkpoints/j1/000000000007/2-a/b"),
        (base, 2, "checkpoints/j1/000000000007/2-.."),
        (base, 2, "checkpoints/j1/../j2/000000000007/2-a"),
        (base, 2, "checkpoints/j1/+00000000007/2-a"),
        (base, 2, ""),
    ];
    for (base, attempt, prefix) in others {
        assert_eq!(upload_step(base, attempt, prefix), None, "{base} {attempt} {prefix}");
    }
}

#[test]
fn manifests_say_which_field_is_wrong() {
    let good = manifest(1, 1, &[1, 2]);
    good.validate().expect("valid");
    let file = |path: &str, sha256: &str| ManifestFile {
        path: path.into(),
        size_bytes: 1,
        sha256: sha256.into(),
        mode: None,
        part: None,
    };
    let link = |path: &str, target: &str| ManifestLink { path: path.into(), target: target.into() };
    let hash = "a".repeat(64);
    let bad = [
        (Manifest { schema: "x".into(), ..good.clone() }, "schema"),
        (Manifest { attempt: 0, ..good.clone() }, "attempt"),
        (Manifest { prefix: "../x".into(), ..good.clone() }, "prefix"),
        (Manifest { files: vec![], ..good.clone() }, "files"),
        (Manifest { files: vec![file("../a", &hash)], ..good.clone() }, "files[0].path"),
        (Manifest { files: vec![file("a", &hash), file("a", &hash)], ..good.clone() }, "files[1].path"),
        (Manifest { files: vec![file("MANIFEST.json", &hash)], ..good.clone() }, "files[0].path"),
        (Manifest { files: vec![file("a", "zz")], ..good.clone() }, "files[0].sha256"),
        (Manifest { files: vec![file("a", &hash), file("a/b", &hash)], ..good.clone() }, "files"),
        (Manifest { links: vec![link("a", "../../etc/passwd")], ..good.clone() }, "links[0].target"),
        (Manifest { links: vec![link("a", "/etc/passwd")], ..good.clone() }, "links[0].target"),
        (Manifest { files: vec![file("a/b", &hash)], links: vec![link("a", "c")], ..good.clone() }, "files"),
        (
            Manifest { folders: vec![ManifestFolder { path: "a".into(), mode: 0o4755 }], ..good },
            "folders[0].mode",
        ),
    ];
    for (manifest, field) in bad {
        assert_eq!(manifest.validate().expect_err(field).field, field);
    }
}

#[test]
fn a_manifest_of_an_older_release_is_read() {
    let json = r#"{"schema": "slipway.checkpoint/1", "job_id": "j1", "attempt": 1, "step": 7,
        "prefix": "checkpoints/j1/000000000007/1-u", "created_at_unix_ms": 1,
        "files": [{"path": "a/b", "size_bytes": 1,
            "sha256": "0000000000000000000000000000000000000000000000000000000000000000"}]}"#;
    let manifest: Manifest = serde_json::from_str(json).expect("it reads");
    manifest.validate().expect("valid");
    assert_eq!((manifest.step_folder(), manifest.entries()), (Some("7".to_owned()), vec!["7".to_owned()]));
}

#[test]
fn links_are_followed_within_their_folder_alone() {
    let cases = [
        ("last.ckpt", "epoch=1.ckpt", Some("epoch=1.ckpt")),
        ("5/last", "./a//b", Some("5/a/b")),
        ("5/deep/last", "../../6/a", Some("6/a")),
        ("5/last", "../../x", None),
        ("5/last", "..", None),
        ("last", "/5", None),
        ("last", "", None),
    ];
    for (path, target, expected) in cases {
        assert_eq!(link_destination(path, target).as_deref(), expected, "{path} -> {target}");
    }
}

#[test]
fn only_the_current_attempt_may_speak() {
    let job = Job { attempt: 2, status: Status::Running, ..Job::submitted().0 };
    assert_eq!(check_fence(&job, Some("t2"), 2, "t2"), Ok(()));
    let stale = check_fence(&job, Some("t2"), 1, "t1").expect_err("replaced");
    assert_eq!(stale.to_string(), "attempt 1 has been replaced; the current one is 2");
    assert!(check_fence(&job, Some("t2"), 2, "t1").is_err(), "the number alone is not enough");
    let ended = Job { status: Status::Retrying, ..job };
    assert!(check_fence(&ended, Some("t2"), 2, "t2").is_err(), "a lost attempt may not come back");
}

#[test]
fn retention_keeps_the_newest() {
    let all: Vec<_> = [3, 1, 4, 2].into_iter().map(|step| manifest(step, 1, &[1])).collect();
    let steps = |keep| released(&all, keep).iter().map(|manifest| manifest.step).collect::<Vec<_>>();
    assert_eq!(steps(3), [1]);
    assert_eq!(steps(0), [1, 2, 3], "the newest is never let go");
    assert_eq!(steps(9), Vec::<u64>::new());
    let again = Manifest {
        prefix: "checkpoints/j1/000000000004/1-again".into(),
        created_at_unix_ms: 9_000,
        ..manifest(4, 1, &[2])
    };
    let all = [all, vec![again.clone()]].concat();
    let left = released(&all, 2);
    assert_eq!(left.iter().map(|manifest| manifest.step).collect::<Vec<_>>(), [1, 2, 4]);
    assert!(!left.contains(&&again), "the later one of a step supersedes the earlier one");
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let mut store = Store::default();
    let (old, new) = (manifest(1, 1, &[5, 5]), manifest(2, 1, &[5, 5]));
    store.upload(&old, usize::MAX, None);
    store.upload(&new, usize::MAX, None);
    assert_eq!(choose_restore(&store.committed, &store.objects), Some(&new));
    store.objects.insert(new.file_key(&new.files[1]), 4);
    assert_eq!(choose_restore(&store.committed, &store.objects), Some(&old));
    store.objects.remove(&old.file_key(&old.files[0]));
    assert_eq!(choose_restore(&store.committed, &store.objects), None);
}

proptest! {
    /// Any part of an upload, then a crash: the next attempt sees the old checkpoint whole or the new one
    /// whole.
    #[test]
    fn a_checkpoint_is_never_seen_torn(
        sizes in proptest::collection::vec(1_u64..100, 1..6),
        operations in 0_usize..10,
        torn_bytes in proptest::option::of(0_u64..100),
        retried in any::<bool>(),
    ) {
        let mut store = Store::default();
        let old = manifest(1, 1, &[7, 8]);
        store.upload(&old, usize::MAX, None);
        let new = manifest(2, 1, &sizes);
        store.upload(&new, operations, torn_bytes);
        let seen = choose_restore(&store.committed, &store.objects).expect("the old one is still there");
        let whole = operations >= sizes.len() + 2;
        prop_assert_eq!(seen, if whole { &new } else { &old });
        for file in &seen.files {
            prop_assert_eq!(store.objects.get(&seen.file_key(file)), Some(&file.size_bytes));
        }
        // The next attempt uploads the same step under a prefix of its own: leftovers are never mixed in.
        if retried {
            let again = manifest(2, 2, &sizes);
            store.upload(&again, usize::MAX, None);
            prop_assert_eq!(choose_restore(&store.committed, &store.objects), Some(&again));
        }
    }

    /// A crash while retention deletes, manifest row first: what is restored is whole.
    #[test]
    fn deleting_old_checkpoints_leaves_a_whole_one(count in 1_u64..6, keep in 0_u32..4,
        deleted in 0_usize..20) {
        let mut store = Store::default();
        for step in 1..=count {
            store.upload(&manifest(step, 1, &[3, 4]), usize::MAX, None);
        }
        let newest = store.committed.last().cloned().expect("one at least");
        let doomed: Vec<Manifest> = released(&store.committed, keep).into_iter().cloned().collect();
        let mut left = deleted;
        'deleting: for manifest in &doomed {
            store.committed.retain(|kept| kept != manifest);
            for file in &manifest.files {
                if left == 0 {
                    break 'deleting;
                }
                left -= 1;
                store.objects.remove(&manifest.file_key(file));
            }
        }
        prop_assert_eq!(choose_restore(&store.committed, &store.objects), Some(&newest));
    }
}
