//! Checkpoints: stored while the command goes on, whole or not at all, and restored byte for byte.

use std::collections::BTreeSet;

use serde_json::json;

use crate::processes;
use crate::world::World;

/// Attempt 1 writes three steps and half of a fourth, then waits for its end; a later one looks at what was restored.
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
    assert_eq!((&ended["attempt"], &ended["disruptions"]), (&json!(2), &json!(1)));
    assert_eq!(ended["checkpoint_step"], 3);
    let reason = ended["attempts"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("its agent ended without a report"), "{reason}");
    let log = world.log(&job, "attempt=2").await;
    assert_eq!(log, format!("[slipway] restored the checkpoint of step 3\nresumed at 3 of 3 \n{sums}"));

    let kept = world.get(&format!("/api/v1/jobs/{job}/checkpoints")).await;
    let kept = kept["checkpoints"].as_array().unwrap();
    assert_eq!(kept.len(), 1, "keep is 1: {kept:?}");
    assert_eq!((&kept[0]["step"], &kept[0]["files"]), (&json!(3), &json!(3)));
    let objects = world.store().list(&format!("checkpoints/{job}/"), 100).await.unwrap();
    let steps: BTreeSet<&str> = objects.iter().filter_map(|object| object.key.split('/').nth(2)).collect();
    assert_eq!(steps, BTreeSet::from(["000000000003"]), "what retention let go is deleted");
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
    let key = manifest_key.replace("MANIFEST.json", "deep/er/state.txt");
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
