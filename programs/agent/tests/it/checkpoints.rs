//! Checkpoints: stored while the command runs, restored by the next attempt, and never half.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_domain::training::{MANIFEST_SCHEMA, Manifest, ManifestFile};
use slipway_testkit::TestBucket;

use crate::agent::{Attempt, script_with};
use crate::launcher::Mood;

/// Where checkpoints are.
struct Store {
    _bucket: TestBucket,
    store: ArtifactStore,
}

impl Store {
    async fn begin() -> Self {
        let bucket = slipway_testkit::s3().await;
        let store = ArtifactStore::new(&S3Config {
            s3_endpoint: bucket.endpoint.clone(),
            s3_region: "us-east-1".into(),
            s3_bucket: bucket.bucket.clone(),
            s3_access_key: bucket.access_key.clone(),
            s3_secret_key: bucket.secret_key.clone().into(),
        });
        store.ensure_bucket().await.unwrap();
        Self { _bucket: bucket, store }
    }

    /// Contents of the objects below a prefix, by their keys behind it.
    async fn contents(&self, prefix: &str) -> BTreeMap<String, String> {
        let mut contents = BTreeMap::new();
        for object in self.store.list(prefix, 1_000).await.unwrap() {
            let bytes = self.store.get_bytes(&object.key, 1024 * 1024).await.unwrap();
            let name = object.key.strip_prefix(prefix).unwrap().to_owned();
            contents.insert(name, String::from_utf8_lossy(&bytes).into_owned());
        }
        contents
    }

    /// Stores a checkpoint as an earlier attempt would have; its manifest.
    async fn put(&self, step: u64, content: &str) -> Manifest {
        let prefix = format!("checkpoints/job/{step:012}/1-earlier");
        let key = format!("{prefix}/{step}/weights.bin");
        let source = futures::stream::iter([Ok::<_, String>(content.to_owned().into_bytes().into())]);
        let stored = self.store.put_stream(&key, source, None).await.unwrap();
        Manifest {
            schema: MANIFEST_SCHEMA.to_owned(),
            job_id: "job".to_owned(),
            attempt: 1,
            step,
            prefix,
            files: vec![ManifestFile {
                path: format!("{step}/weights.bin"),
                size_bytes: stored.size_bytes,
                sha256: stored.sha256,
                mode: None,
                part: None,
            }],
            folders: Vec::new(),
            links: Vec::new(),
            resume_from: Some(step.to_string()),
            world_size: None,
            parts: Vec::new(),
            created_at_unix_ms: 1,
        }
    }
}

fn checkpointing(text: &str) -> Value {
    script_with(text, json!({"checkpoint": {}}))
}

/// A script that writes checkpoints as trainers should: under another name first.
fn saves(steps: &[u64], then: &str) -> Value {
    let mut text = "cd \"$SLIPWAY_CHECKPOINT_DIR\"; ".to_owned();
    for step in steps {
        text.push_str(&format!("mkdir t.tmp; echo weights {step} > t.tmp/weights.bin; mv t.tmp {step}; "));
    }
    checkpointing(&format!("{text}echo saved; {then}"))
}

async fn start(spec: &Value, store: &Store) -> Attempt {
    let mut attempt = Attempt::of(spec).await;
    attempt.store_in(&store.store).start();
    attempt
}

fn restores(attempt: &Attempt, manifests: &[&Manifest]) {
    let manifests = manifests.iter().map(|manifest| serde_json::to_string(manifest).unwrap()).collect();
    attempt.launcher.lease(|lease| lease.restore_manifests_json = manifests);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_stored_while_the_command_runs() {
    let store = Store::begin().await;
    let spec = saves(&[100], "until [ -e go ]; do sleep 0.05; done");
    let mut attempt = start(&spec, &store).await;
    attempt.wait_for("the commit", |launcher| launcher.state().commits.len() == 1).await;
    let commit = attempt.launcher.state().commits[0].clone();
    assert_eq!((commit.step, commit.attempt), (100, 1));
    let manifest: Manifest = serde_json::from_str(&commit.manifest_json).unwrap();
    assert_eq!(manifest.validate(), Ok(()));
    assert_eq!(manifest.key(), commit.manifest_key);
    let contents = store.contents(&format!("{}/", manifest.prefix)).await;
    let stored: Vec<&str> = contents.keys().map(String::as_str).collect();
    assert_eq!(stored, ["100/weights.bin", "MANIFEST.json"]);
    assert_eq!(contents["100/weights.bin"], "weights 100\n");
    assert_eq!(contents["MANIFEST.json"], commit.manifest_json);
    std::fs::write(attempt.work_dir().join("checkpoints/go"), "").unwrap();
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.state().commits.len(), 1, "it is stored once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_checkpoint_is_stored_after_the_command_has_ended() {
    let store = Store::begin().await;
    let mut attempt = start(&saves(&[7], "exit 0"), &store).await;
    assert!(attempt.ended().await.success());
    let steps: Vec<u64> = attempt.launcher.state().commits.iter().map(|commit| commit.step).collect();
    assert_eq!((steps, attempt.launcher.report().exit_code), (vec![7], Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_preempted_command_saves_last_is_stored() {
    let store = Store::begin().await;
    let text = "trap 'cd \"$SLIPWAY_CHECKPOINT_DIR\"; mkdir t.tmp; echo last > t.tmp/weights.bin; mv t.tmp \
        250; exit 0' TERM; echo started; while :; do sleep 0.05; done";
    let mut attempt = start(&checkpointing(text), &store).await;
    attempt.wait_for_line("started").await;
    attempt.signal(Signal::SIGTERM);
    assert!(attempt.ended().await.success());
    let commit = attempt.launcher.state().commits[0].clone();
    assert_eq!((commit.step, attempt.launcher.report().preempted), (250, true));
    let manifest: Manifest = serde_json::from_str(&commit.manifest_json).unwrap();
    assert_eq!(store.contents(&format!("{}/250/", manifest.prefix)).await["weights.bin"], "last\n");
}

/// Stores step 100, then step 200 when its pod is to end, which is killed after `grace_s`; the steps that
/// were stored, and the warnings.
async fn preempted_with(grace_s: u64) -> (Vec<u64>, Vec<String>) {
    let store = Store::begin().await;
    let last = "mkdir t.tmp; echo last > t.tmp/weights.bin; mv t.tmp 200; exit 0";
    let spec = saves(&[100], &format!("trap '{last}' TERM; while :; do sleep 0.05; done"));
    let mut attempt = Attempt::of(&spec).await;
    attempt.set("SLIPWAY_TERMINATION_GRACE_PERIOD_S", grace_s.to_string());
    attempt.launcher.state().commit_delay = Duration::from_secs(3);
    attempt.store_in(&store.store).start();
    attempt.wait_for("the commit", |launcher| launcher.state().commits.len() == 1).await;
    // The agent has learned how long it took when it watches its folder again.
    attempt.wait_for("its line", |_| attempt.agent_log().contains("checkpoint committed")).await;
    attempt.signal(Signal::SIGTERM);
    assert!(attempt.ended().await.success());
    let steps = attempt.launcher.state().commits.iter().map(|commit| commit.step).collect();
    (steps, attempt.launcher.report().warnings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_cannot_end_before_the_pod_is_killed_is_not_begun() {
    let (steps, warnings) = preempted_with(2).await;
    assert_eq!(steps, [100]);
    let warning = warnings.iter().find(|warning| warning.contains("step 200")).unwrap();
    assert!(warning.contains("the pod is killed in"), "{warnings:?}");
    let (steps, warnings) = preempted_with(60).await;
    assert_eq!((steps, warnings), (vec![100, 200], Vec::new()));
}

/// The command was killed while it wrote: what it left is no checkpoint, and the owner hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_half_written_when_the_command_was_killed_is_not_stored() {
    let store = Store::begin().await;
    let text =
        "cd \"$SLIPWAY_CHECKPOINT_DIR\"; mkdir 300; echo half > 300/weights.bin; kill -KILL $$; sleep 600";
    let mut attempt = start(&checkpointing(text), &store).await;
    assert!(attempt.ended().await.success());
    let report = attempt.launcher.report();
    assert_eq!((report.signal, attempt.launcher.state().commits.len()), (Some(9), 0));
    assert!(report.warnings.iter().any(|warning| warning.contains("step 300")), "{:?}", report.warnings);
    assert_eq!(store.contents("checkpoints/").await, BTreeMap::new());
    assert!(attempt.work_dir().join("checkpoints/300").exists(), "it stays for a look");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_its_marker_is_not_stored() {
    let store = Store::begin().await;
    let text =
        "cd \"$SLIPWAY_CHECKPOINT_DIR\"; mkdir 1 2; echo a > 1/w; touch 1/COMPLETE; echo b > 2/w; exit 0";
    let spec = script_with(text, json!({"checkpoint": {"marker": "COMPLETE"}}));
    let mut attempt = start(&spec, &store).await;
    assert!(attempt.ended().await.success());
    let steps: Vec<u64> = attempt.launcher.state().commits.iter().map(|commit| commit.step).collect();
    assert_eq!(steps, [1]);
    let warnings = attempt.launcher.report().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("lacks the marker `COMPLETE`")), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_checkpoints_are_warned_of() {
    let store = Store::begin().await;
    let text = "echo x > \"$SLIPWAY_CHECKPOINT_DIR/my-best-model\"; exit 0";
    let mut attempt = start(&checkpointing(text), &store).await;
    assert!(attempt.ended().await.success());
    let warnings = attempt.launcher.report().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("`my-best-model`")), "{warnings:?}");
    assert!(attempt.launcher.state().commits.is_empty());
}

/// The launcher committed, and its answer got lost: the checkpoint is there once, not twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_got_lost_is_the_same_commit() {
    let store = Store::begin().await;
    let spec = saves(&[100], "until [ -e go ]; do sleep 0.05; done");
    let mut attempt = Attempt::of(&spec).await;
    attempt.store_in(&store.store).start();
    attempt.wait_for_line("saved").await;
    attempt.launcher.state().lost_answers = 3;
    attempt.wait_for("the commit", |launcher| launcher.state().commits.len() == 1).await;
    std::fs::write(attempt.work_dir().join("checkpoints/go"), "").unwrap();
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.state().commits.len(), 1);
    let manifests = store.contents("checkpoints/").await;
    let manifests = manifests.keys().filter(|key| key.ends_with("MANIFEST.json")).count();
    assert_eq!(manifests, 1);
}

/// Two files of several parts, and many small ones beside them.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_many_files_and_parts_is_restored_byte_for_byte() {
    let store = Store::begin().await;
    let sums = "find . -type f | sort | xargs sha256sum";
    let text = format!(
        "cd \"$SLIPWAY_CHECKPOINT_DIR\"; mkdir t.tmp; cd t.tmp; mkdir small; \
         for name in $(seq 300); do echo $name > small/$name; done; : > empty; \
         head -c 12000000 /dev/urandom > odd.bin; head -c 10485760 /dev/urandom > even.bin; \
         {sums}; cd ..; mv t.tmp 1; exit 0"
    );
    let mut attempt = Attempt::of(&checkpointing(&text)).await;
    attempt.launcher.state().parts_from_bytes = 5 * 1024 * 1024;
    attempt.store_in(&store.store).start();
    assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
    let written = attempt.launcher.log();
    assert_eq!(attempt.launcher.report().warnings, Vec::<String>::new());
    let commit = attempt.launcher.state().commits[0].clone();
    let manifest: Manifest = serde_json::from_str(&commit.manifest_json).unwrap();
    assert_eq!(manifest.files.len(), 303);

    let text = format!("cd \"$SLIPWAY_RESTORED_PATH\"; {sums}");
    let mut attempt = Attempt::of(&checkpointing(&text)).await;
    restores(&attempt, &[&manifest]);
    attempt.store_in(&store.store).start();
    assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
    assert_eq!(
        attempt.launcher.log(),
        format!("[slipway] restored the checkpoint of step 1\n{written}"),
        "{}",
        attempt.agent_log()
    );
}

/// A URL that has expired, or was signed with a key that is no longer valid, is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_the_store_refuses_is_replaced() {
    let store = Store::begin().await;
    let mut attempt = Attempt::of(&saves(&[100], "exit 0")).await;
    attempt.launcher.state().bad_urls = 1;
    attempt.store_in(&store.store).start();
    assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
    assert_eq!(attempt.launcher.report().warnings, Vec::<String>::new());
    let commit = attempt.launcher.state().commits[0].clone();
    let manifest: Manifest = serde_json::from_str(&commit.manifest_json).unwrap();

    let mut attempt = Attempt::of(&checkpointing("cat \"$SLIPWAY_RESTORED_PATH/weights.bin\"")).await;
    restores(&attempt, &[&manifest]);
    attempt.launcher.state().bad_urls = 2;
    attempt.store_in(&store.store).start();
    assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
    assert!(attempt.launcher.log().ends_with("weights 100\n"), "{}", attempt.launcher.log());
}

/// What a URL allows is written neither to the agent's log nor to that of the job.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_stored_is_a_warning_without_the_url() {
    let store = Store::begin().await;
    let mut attempt = Attempt::of(&saves(&[100], "exit 0")).await;
    attempt.launcher.state().bad_urls = usize::MAX;
    // The agent tries for two minutes after the command has ended; here the launcher ends that.
    attempt.store_in(&store.store).start();
    attempt
        .wait_for("the warning", |launcher| {
            launcher.state().warnings.iter().any(|warning| warning.contains("step 100"))
        })
        .await;
    let warnings = attempt.launcher.state().warnings.join("\n");
    assert!(
        warnings.contains("could not be stored: the artifact store could not store a file: 403"),
        "{warnings}"
    );
    let log = format!("{warnings}{}{}", attempt.agent_log(), attempt.launcher.log());
    assert!(!log.contains("X-Amz-Signature"), "{log}");
    attempt.launcher.state().bad_urls = 0;
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.state().commits.len(), 1, "it was stored in the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_checkpoint_is_where_the_command_looks_for_it() {
    let store = Store::begin().await;
    let (newest, before) = (store.put(200, "newest\n").await, store.put(100, "before\n").await);
    let text = "echo step $SLIPWAY_RESTORED_STEP; cat \"$SLIPWAY_RESTORED_PATH/weights.bin\"; \
                ls \"$SLIPWAY_CHECKPOINT_DIR\"";
    let mut attempt = Attempt::of(&checkpointing(text)).await;
    restores(&attempt, &[&newest, &before]);
    attempt.store_in(&store.store).start();
    assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
    let log = attempt.launcher.log();
    assert_eq!(log, "[slipway] restored the checkpoint of step 200\nstep 200\nnewest\n200\n");
    assert!(attempt.launcher.state().commits.is_empty(), "what was restored is stored already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let store = Store::begin().await;
    let (mut damaged, gone) = (store.put(300, "damaged\n").await, store.put(200, "gone\n").await);
    let before = store.put(100, "before\n").await;
    damaged.files[0].sha256 = "0".repeat(64);
    store.store.delete(&gone.file_key(&gone.files[0])).await.unwrap();
    let text = "echo step $SLIPWAY_RESTORED_STEP; cat \"$SLIPWAY_RESTORED_PATH/weights.bin\"; \
                ls -A \"$SLIPWAY_CHECKPOINT_DIR\"";
    let mut attempt = Attempt::of(&checkpointing(text)).await;
    restores(&attempt, &[&damaged, &gone, &before]);
    attempt.launcher.lease(|lease| lease.restore_manifests_json.insert(0, "{}".to_owned()));
    attempt.store_in(&store.store).start();
    assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
    let log = attempt.launcher.log();
    assert!(log.contains("a checkpoint's manifest cannot be read; trying the one before\n"), "{log}");
    for step in [300, 200] {
        assert!(log.contains(&format!("the checkpoint of step {step} is damaged")), "{log}");
    }
    assert!(
        log.ends_with("restored the checkpoint of step 100\nstep 100\nbefore\n100\n"),
        "nothing half is left: {log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_checkpoint_a_command_starts_from_the_beginning() {
    let store = Store::begin().await;
    let text = "echo \"step ${SLIPWAY_RESTORED_STEP-none}\"; ls \"$SLIPWAY_CHECKPOINT_DIR\"";
    let mut attempt = start(&checkpointing(text), &store).await;
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.log(), "step none\n");
}

/// The objects are uploaded; the launcher counts on another attempt.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_replaced_commits_nothing() {
    let store = Store::begin().await;
    let text = "echo started; until [ -e go ]; do sleep 0.05; done; cd \"$SLIPWAY_CHECKPOINT_DIR\"; \
                mkdir t.tmp; echo x > t.tmp/w; mv t.tmp 5; sleep 600";
    let mut attempt = start(&checkpointing(text), &store).await;
    attempt.wait_for_line("started").await;
    attempt.launcher.becomes(Mood::Fenced);
    // It is killed, unless the file comes first.
    let _ = std::fs::write(attempt.work_dir().join("go"), "");
    assert!(attempt.ended().await.success());
    assert!(attempt.launcher.state().commits.is_empty());
    assert!(attempt.launcher.state().reports.is_empty());
}

/// The whole way of a job that is preempted: the second attempt goes on where the first one saved.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_attempt_goes_on_where_the_first_one_saved() {
    let store = Store::begin().await;
    let text = "step=${SLIPWAY_RESTORED_STEP-0}; echo from $step; cd \"$SLIPWAY_CHECKPOINT_DIR\"; \
                next=$((step + 10)); mkdir t.tmp; echo weights $next > t.tmp/weights.bin; mv t.tmp $next; \
                exit 0";
    let mut manifests: Vec<String> = Vec::new();
    for expected in ["from 0", "from 10", "from 20"] {
        let mut attempt = Attempt::of(&checkpointing(text)).await;
        attempt.launcher.lease(|lease| lease.restore_manifests_json.clone_from(&manifests));
        attempt.store_in(&store.store).start();
        assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
        let log = attempt.launcher.log();
        assert!(log.lines().any(|line| line == expected), "{expected}: {log}");
        manifests.insert(0, attempt.launcher.state().commits[0].manifest_json.clone());
    }
    assert_eq!(manifests.len(), 3);
}

/// All but a little of it fits: the write that fails is the last one.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_the_disk_has_no_room_for_is_not_restored_in_part() {
    const LIMIT_KIB: usize = 256;
    let store = Store::begin().await;
    let manifest = store.put(5, &"w".repeat(LIMIT_KIB * 1024 + 100)).await;
    let mut attempt = Attempt::of(&checkpointing("echo started")).await;
    attempt.store_in(&store.store).limit_files(LIMIT_KIB);
    restores(&attempt, &[&manifest]);
    attempt.start();
    assert!(!attempt.ended().await.success(), "{}", attempt.agent_log());
    assert!(attempt.agent_log().contains("File too large"), "{}", attempt.agent_log());
    assert!(!attempt.launcher.log().contains("started"), "{}", attempt.launcher.log());
}
