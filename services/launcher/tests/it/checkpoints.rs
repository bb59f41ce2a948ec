//! Checkpoints: stored while the command goes on, whole or not at all, and restored byte for byte.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::processes;
use crate::world::World;

/// Attempt 1 writes three steps and half of a fourth, then waits for its end; a later one looks at what was
/// restored.
const SCRIPT: &str = r#"
cd "$SLIPWAY_CHECKPOINT_DIR"
if [ -n "$SLIPWAY_RESTORED_STEP" ]; then
  echo "resumed at $SLIPWAY_RESTORED_STEP of $(ls | tr '\n' ' ')"
  cd "$SLIPWAY_RESTORED_STEP" && find . -type f | sort | xargs sha256sum
  exit 0
fi
for step in 1 2 3; do
  mkdir -p $step.tmp/deep/er
  head -c 9000000 /dev/urandom > $step.tmp/weights.bin
  printf "step $step" > $step.tmp/deep/er/state.txt
  : > $step.tmp/empty
  (cd $step.tmp && find . -type f | sort | xargs sha256sum > ../../sums-$step)
  mv $step.tmp $step
  while [ ! -e "$GATES/$step" ]; do sleep 0.05; done
done
mkdir 4.tmp && echo half > 4.tmp/weights.bin
cat ../sums-2 ../sums-3
echo waiting
while :; do sleep 0.1; done
"#;

/// A job that has committed the steps 1 to 3 and waits; the digests of steps 2 and 3.
async fn three_steps(world: &World, keep: u32) -> (String, String, String) {
    let gates = world.data_dir.join("gates");
    std::fs::create_dir_all(&gates).unwrap();
    let fast = json!({"limit": 0, "backoff_initial_ms": 100, "backoff_max_ms": 100});
    let job = world
        .submit_script(SCRIPT, json!({
            "env": {"GATES": gates}, "checkpoint": {"dir": "out/checkpoints", "keep": keep}, "retries": fast,
        }))
        .await;
    for step in 1..=3 {
        world.wait(&job, "a checkpoint", |job| job["checkpoint_step"] == step).await;
        std::fs::write(gates.join(step.to_string()), "").unwrap();
    }
    world.wait_for_log(&job, "waiting").await;
    let log = world.log(&job, "").await;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("  ./")).collect();
    let sums = |part: &[&str]| part.join("\n") + "\n";
    (job, sums(&lines[..3]), sums(&lines[3..6]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_attempt_resumes_from_its_newest_checkpoint_byte_for_byte() {
    let world = World::begin().await;
    let (job, _, sums) = three_steps(&world, 1).await;
    assert!(processes::kill_all(&job) >= 2);
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!((&ended["attempt"], &ended["system_failures"]), (&json!(2), &json!(1)));
    assert_eq!(ended["checkpoint_step"], 3);
    let reason = ended["attempts"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("its agent ended without a report"), "{reason}");
    let log = world.log(&job, "attempt=2").await;
    assert_eq!(log, format!("[slipway] restored the checkpoint of step 3\nresumed at 3 of 3 \n{sums}"));

    let kept = world.get(&format!("/api/v1/jobs/{job}/checkpoints")).await;
    let kept = kept["checkpoints"].as_array().unwrap();
    assert_eq!(kept.len(), 1, "keep is 1: {kept:?}");
    assert_eq!((&kept[0]["step"], &kept[0]["files"]), (&json!(3), &json!(3)));
    world
        .eventually("what retention let go is deleted", async || {
            let objects = world.store().list(&format!("checkpoints/{job}/"), 100).await.unwrap();
            let steps: BTreeSet<&str> =
                objects.iter().filter_map(|object| object.key.split('/').nth(2)).collect();
            (steps == BTreeSet::from(["000000000003"])).then_some(())
        })
        .await;
    let events = world.received("slipway.launcher.checkpoint.committed", &job, 3).await;
    assert_eq!(events.len(), 3, "one event for each");
    assert_eq!(world.events(&job, 5).await, ["submitted", "started", "retrying", "started", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_uncommitted_checkpoint_is_passed_over() {
    let world = World::begin().await;
    let (job, sums, _) = three_steps(&world, 3).await;
    let store = world.store();
    let committed = world.get(&format!("/api/v1/jobs/{job}/checkpoints")).await;
    let manifest_key = committed["checkpoints"][0]["manifest_key"].as_str().unwrap();
    assert!(manifest_key.contains("/000000000003/1-"), "{manifest_key}");
    // One bit of the newest is wrong; and a newer one is whole, but was never committed.
    let key = manifest_key.replace("MANIFEST.json", "3/deep/er/state.txt");
    store.put_bytes(&key, "step 4".into()).await.unwrap();
    let torn = format!("checkpoints/{job}/000000000009/1-torn");
    store.put_bytes(&format!("{torn}/weights.bin"), "half".into()).await.unwrap();
    store.put_bytes(&format!("{torn}/MANIFEST.json"), "{}".into()).await.unwrap();
    processes::kill_all(&job);
    world.ended(&job, "succeeded").await;
    let log = world.log(&job, "attempt=2").await;
    assert!(log.contains("the checkpoint of step 3 is damaged"), "{log}");
    assert!(log.ends_with(&format!("resumed at 2 of 2 \n{sums}")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_checkpoint_is_stored_before_a_job_counts_as_ended() {
    let world = World::begin().await;
    let script =
        "cd $SLIPWAY_CHECKPOINT_DIR; mkdir 7.tmp; head -c 20000000 /dev/urandom > 7.tmp/a; mv 7.tmp 7";
    let job = world.submit_script(script, json!({"checkpoint": {}})).await;
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!(ended["checkpoint_step"], 7);

    let cleaned = "cd $SLIPWAY_CHECKPOINT_DIR; mkdir 1.tmp; head -c 20000000 /dev/urandom > 1.tmp/a; mv 1.tmp 1; \
                   sleep 0.25; rm -r 1";
    let job = world.submit_script(cleaned, json!({"checkpoint": {}})).await;
    assert_eq!(world.ended(&job, "succeeded").await["attempt"], 1, "cleaning up is no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_to_the_agent_saves_and_another_attempt_goes_on() {
    let world = World::begin().await;
    let script = "cd $SLIPWAY_CHECKPOINT_DIR; [ -n \"$SLIPWAY_RESTORED_STEP\" ] && { cat $SLIPWAY_RESTORED_STEP/a; exit 0; }; \
                  trap 'mkdir 5.tmp; echo saved > 5.tmp/a; mv 5.tmp 5; exit 143' TERM; echo ready; \
                  while :; do sleep 0.05; done";
    let fast = json!({"limit": 0, "backoff_initial_ms": 50, "backoff_max_ms": 50});
    let job = world.submit_script(script, json!({"checkpoint": {}, "retries": fast})).await;
    world.wait_for_log(&job, "ready").await;
    processes::signal_agent(&job, nix::sys::signal::Signal::SIGTERM);
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!(
        (&ended["attempt"], &ended["failures"]),
        (&json!(2), &json!(0)),
        "no failure of the command's"
    );
    assert!(world.log(&job, "attempt=2").await.ends_with("saved\n"));
}

const FAST: &str = r#"{"limit": 1, "backoff_initial_ms": 50, "backoff_max_ms": 50}"#;

fn fast() -> serde_json::Value {
    serde_json::from_str(FAST).unwrap()
}

/// What lies in a folder: mode, path and target of each entry.
const LIST: &str = "find . -mindepth 1 -printf '%M %p %l\\n' | sort -k2";

#[tokio::test(flavor = "multi_thread")]
async fn links_modes_and_empty_folders_are_restored() {
    let world = World::begin().await;
    let script = format!(
        "cd $SLIPWAY_CHECKPOINT_DIR; [ -n \"$SLIPWAY_RESTORED_STEP\" ] && {{ {LIST}; cat last.ckpt 7/old; exit 0; }}
         umask 022; mkdir 6.tmp; echo six > 6.tmp/old; mv 6.tmp 6
         mkdir -p 7.tmp/inner 7.tmp/empty 7.tmp/closed; cd 7.tmp
         echo state > 'epoch=1.ckpt'; ln -s 'epoch=1.ckpt' last.ckpt; ln -s ../last.ckpt inner/up
         ln -s ../6/old old; ln -s /etc/hostname outside; ln -s nowhere dangling; mkfifo pipe
         echo secret > secret; chmod 600 secret; echo run > run.sh; chmod 755 run.sh; chmod 700 empty
         echo kept > closed/file; chmod 555 closed; cd ..; mv 7.tmp 7; ln -s 7/last.ckpt last.ckpt
         while :; do sleep 0.1; done"
    );
    let body = json!({"checkpoint": {}, "retries": fast()});
    let job = world.submit_script(&script, body).await;
    world
        .wait(&job, "the link at the top", |job| {
            let warnings = job["attempts"][0]["warnings"].as_array().map_or(0, Vec::len);
            job["checkpoint_step"] == 7 && warnings == 3
        })
        .await;
    let stored = world.eventually("a checkpoint with the link at the top", async || {
        let kept = world.get(&format!("/api/v1/jobs/{job}/checkpoints")).await;
        (kept["checkpoints"][0]["entries"] == json!(["7", "last.ckpt"])).then_some(kept)
    });
    stored.await;
    processes::kill_all(&job);
    let ended = world.ended(&job, "succeeded").await;
    let log = world.log(&job, "attempt=2").await;
    for line in [
        "drwxr-xr-x ./7 ",
        "dr-xr-xr-x ./7/closed ",
        "-rw-r--r-- ./7/closed/file ",
        "drwx------ ./7/empty ",
        "lrwxrwxrwx ./7/inner/up ../last.ckpt",
        "lrwxrwxrwx ./7/last.ckpt epoch=1.ckpt",
        "-rw-r--r-- ./7/old ",
        "-rwxr-xr-x ./7/run.sh ",
        "-rw------- ./7/secret ",
        "lrwxrwxrwx ./last.ckpt 7/last.ckpt",
    ] {
        assert!(log.lines().any(|found| found == line), "{line} is not in {log}");
    }
    assert!(log.ends_with("state\nsix\n"), "{log}");
    for left_out in ["outside", "dangling", "pipe"] {
        assert!(!log.contains(&format!("./7/{left_out}")), "{log}");
        let warnings = ended["attempts"][0]["warnings"].to_string();
        assert!(warnings.contains(&format!("`7/{left_out}` is ")), "{warnings}");
        assert!(world.log(&job, "attempt=1").await.contains(&format!("`7/{left_out}` is ")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_that_ended_with_0_is_not_run_again_for_what_is_wrong_with_its_checkpoint() {
    let world = World::begin().await;
    let script = r"cd $SLIPWAY_CHECKPOINT_DIR; mkdir 1; echo x > 1/'back\slash'; echo TRAINED";
    let job = world.submit_script(script, json!({"checkpoint": {}, "retries": fast()})).await;
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!((&ended["attempt"], &ended["checkpoint_step"]), (&json!(1), &json!(null)));
    let warning = ended["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("the checkpoint of step 1 (`1`) could not be stored: "), "{warning}");
    assert!(warning.contains("backslash"), "{warning}");
    let log = world.log(&job, "").await;
    assert_eq!(log.matches("TRAINED").count(), 1, "{log}");
    assert!(log.contains("[slipway] warning: the checkpoint of step 1"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_was_whole_when_its_command_was_killed_is_restored_whole() {
    let world = World::begin().await;
    let script = "cd $SLIPWAY_CHECKPOINT_DIR; [ -n \"$SLIPWAY_RESTORED_STEP\" ] && { ls $SLIPWAY_RESTORED_STEP; exit 0; }
                  mkdir 5; echo {} > 5/state.json; sleep 1.5; echo w > 5/weights.bin; sleep 2.1; kill -9 $$";
    let job = world.submit_script(script, json!({"checkpoint": {}, "retries": fast()})).await;
    world.ended(&job, "succeeded").await;
    let log = world.log(&job, "attempt=2").await;
    assert!(log.ends_with("state.json\nweights.bin\n"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_without_its_marker_is_never_restored() {
    let world = World::begin().await;
    let script =
        "cd $SLIPWAY_CHECKPOINT_DIR; [ -n \"$SLIPWAY_RESTORED_STEP\" ] && { echo found $(ls); exit 0; }
                  mkdir 1; echo a > 1/a; touch 1/DONE; mkdir 2; echo b > 2/a; kill -9 $$";
    let body = json!({"checkpoint": {"marker": "DONE"}, "retries": fast()});
    let job = world.submit_script(script, body).await;
    let ended = world.ended(&job, "succeeded").await;
    assert!(world.log(&job, "attempt=2").await.ends_with("found 1\n"));
    let warning = ended["attempts"][0]["warnings"][0].as_str().unwrap();
    assert_eq!(warning, "the checkpoint of step 2 (`2`) is not stored: it lacks the marker `DONE`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_checkpoint_that_changes_is_committed_again() {
    let world = World::begin().await;
    let script = "cd $SLIPWAY_CHECKPOINT_DIR; [ -n \"$SLIPWAY_RESTORED_STEP\" ] && { cat 3/a 3/b; exit 0; }
                  mkdir 3.tmp; echo first > 3.tmp/a; mv 3.tmp 3; while [ ! -e $GATE ]; do sleep 0.05; done
                  echo second > 3/a; echo more > 3/b; trap 'exit 143' TERM; echo changed; while :; do sleep 0.1; done";
    let gate = world.data_dir.join("gate");
    let body = json!({"checkpoint": {"keep": 1}, "retries": fast(), "env": {"GATE": gate}});
    let job = world.submit_script(script, body).await;
    world.wait(&job, "a checkpoint", |job| job["checkpoint_step"] == 3).await;
    std::fs::write(&gate, "").unwrap();
    world.wait_for_log(&job, "changed").await;
    processes::signal_agent(&job, nix::sys::signal::Signal::SIGTERM);
    world.ended(&job, "succeeded").await;
    let log = world.log(&job, "attempt=2").await;
    assert!(log.ends_with("second\nmore\n"), "{log}");
    let kept = world.get(&format!("/api/v1/jobs/{job}/checkpoints")).await;
    assert_eq!(
        kept["checkpoints"].as_array().unwrap().len(),
        1,
        "the later one supersedes the first: {kept}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_training_libraries_are_stored_and_resumed_from() {
    let world = World::begin().await;
    let cases = [
        (
            "mkdir checkpoint-500; echo w > checkpoint-500/model.safetensors",
            "500 checkpoint-500 : checkpoint-500",
        ),
        (
            "echo s > 'epoch=1-step=500.ckpt'; ln -s 'epoch=1-step=500.ckpt' last.ckpt",
            "500 epoch=1-step=500.ckpt : epoch=1-step=500.ckpt last.ckpt",
        ),
        ("echo s > 'epoch=1.ckpt'", "1 epoch=1.ckpt : epoch=1.ckpt"),
        ("echo s > ckpt_100.pt; echo s > ckpt_200.pt", "200 ckpt_200.pt : ckpt_200.pt"),
        ("echo s > last.pt", "1 last.pt : last.pt"),
        (
            "mkdir global_step9; echo s > global_step9/a; echo global_step9 > latest",
            "9 global_step9 : global_step9 latest",
        ),
    ];
    let mut jobs = Vec::new();
    for (written, expected) in cases {
        let script = format!(
            "cd $SLIPWAY_CHECKPOINT_DIR; [ -n \"$SLIPWAY_RESTORED_STEP\" ] && {{
               echo $SLIPWAY_RESTORED_STEP $(basename $SLIPWAY_RESTORED_PATH) : $(ls); exit 0; }}
             trap '{written}; exit 143' TERM; echo ready; while :; do sleep 0.05; done",
            written = written.replace('\'', "")
        );
        let job = world.submit_script(&script, json!({"checkpoint": {}, "retries": fast()})).await;
        jobs.push((job, expected));
    }
    for (job, _) in &jobs {
        world.wait_for_log(job, "ready").await;
        processes::signal_agent(job, nix::sys::signal::Signal::SIGTERM);
    }
    for (job, expected) in &jobs {
        world.ended(job, "succeeded").await;
        let log = world.log(job, "attempt=2").await;
        assert!(log.ends_with(&format!("{expected}\n")), "expected {expected}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_recognised_as_a_checkpoint_is_named() {
    let world = World::begin().await;
    let script =
        "cd $SLIPWAY_CHECKPOINT_DIR; mkdir weights; echo w > weights/a; echo n > notes.txt; mkdir 2.tmp";
    let job = world.submit_script(script, json!({"checkpoint": {}})).await;
    let ended = world.ended(&job, "succeeded").await;
    let warning = ended["attempts"][0]["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("not stored from the checkpoint folder: `notes.txt`, `weights`;"),
        "{warning}"
    );
    assert!(warning.contains("checkpoint-500/"), "{warning}");
    assert!(world.log(&job, "").await.contains(warning), "the log says it, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_shown_with_its_files_and_deleted_once_the_job_has_ended() {
    let world = World::begin().await;
    let (job, _, _) = three_steps(&world, 3).await;
    let path = |step: &str| format!("/api/v1/jobs/{job}/checkpoints/{step}");
    let shown = world.get(&path("2")).await;
    assert_eq!(shown["checkpoint"]["step"], 2);
    let files: Vec<&str> =
        shown["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert!(files.iter().any(|path| path.ends_with("deep/er/state.txt")), "{files:?}");
    let delete = async |step: &str| world.request(Method::DELETE, &path(step), String::new()).await;
    assert_eq!(delete("2").await.status(), StatusCode::CONFLICT, "the next attempt may restore it");
    world.cancel(&job).await;
    world.ended(&job, "cancelled").await;
    assert_eq!(delete("2").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(delete("2").await.status(), StatusCode::NOT_FOUND);
    let left = world.get(&format!("/api/v1/jobs/{job}/checkpoints")).await;
    let steps: Vec<u64> =
        left["checkpoints"].as_array().unwrap().iter().map(|one| one["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [3, 1]);
}
