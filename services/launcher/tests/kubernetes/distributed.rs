//! Distributed jobs: all processes run or none, what ends one ends all, and all go on from one checkpoint.

use reqwest::Method;
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::world::{World, on_a_cluster};

/// A fraction of a core for each process: the node has few.
fn job(further: Value) -> Value {
    let retries = json!({"backoff_initial_ms": 100, "backoff_max_ms": 100});
    let mut job = json!({"resources": {"cpus": 0.05}, "grace_period_s": 2, "retries": retries});
    job.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    job
}

async fn process_log(world: &World, job: &str, process: u32, attempt: u32) -> String {
    world.launcher.log(job, &format!("attempt={attempt}&process={process}")).await
}

async fn nothing_is_left(world: &World, job: &str) {
    let selector = format!("slipway.dev/job-id={job}");
    let phases = ["get", "pods", "--selector", &selector, "--output", "jsonpath={.items[*].status.phase}"];
    let is_over = |phases: String| !phases.contains("Running") && !phases.contains("Pending");
    let look = async || is_over(world.kubectl(&phases)).then_some(());
    world.launcher.eventually("no pod runs", look).await;
}

#[test]
fn the_processes_of_a_job_run_together_and_know_each_other() {
    on_a_cluster(async |world| {
        let mut gate = Gate::begin().await;
        let script = format!(
            "echo rank $RANK of $WORLD_SIZE, first $MASTER_ADDR:$MASTER_PORT; echo $TF_CONFIG; \
             until nslookup $MASTER_ADDR.cluster.local; do sleep 0.2; done; {}",
            gate.command()
        );
        let id = world.submit(&script, job(json!({})), json!({"replicas": {"worker": 3}})).await;
        gate.filled(3).await;
        let running = world.launcher.job(&id).await;
        assert_eq!((&running["status"], &running["attempt"]), (&json!("running"), &json!(1)), "{running}");
        let processes = running["attempts"][0]["processes"].as_array().unwrap();
        assert_eq!(processes.len(), 3, "{running}");
        assert_eq!((&processes[2]["role"], &processes[2]["ready"]), (&json!("worker 2"), &json!(true)));
        let selector = format!("slipway.dev/job-id={id},batch.kubernetes.io/job-completion-index=0");
        let address = "jsonpath={.items[0].status.podIP}";
        let first = world.kubectl(&["get", "pods", "--selector", &selector, "--output", address]);
        gate.open().await;
        world.launcher.ended(&id, "succeeded").await;
        for rank in 0..3 {
            let log = process_log(&world, &id, rank, 1).await;
            assert!(log.contains(&format!("{first}\n")), "the name of the first process is {first}: {log}");
            assert!(log.starts_with(&format!("rank {rank} of 3, first ")), "{log}");
            assert!(log.contains(".svc:29500\n") && log.contains("\"type\":\"worker\""), "{log}");
        }
        let (status, refused) = {
            let path = format!("/api/v1/jobs/{id}/logs?process=3");
            let response = world.launcher.request(reqwest::Method::GET, &path, String::new()).await;
            (response.status(), response.text().await.unwrap())
        };
        assert_eq!(status, 404, "{refused}");
        assert!(refused.contains("the job has processes 0 to 2"), "{refused}");
        nothing_is_left(&world, &id).await;
    });
}

#[test]
fn one_that_fails_ends_all_and_they_go_on_from_the_shards_of_one_checkpoint() {
    on_a_cluster(async |world| {
        let mut gate = Gate::begin().await;
        // Each process saves a shard of step 5. Then one fails; the other would not end by itself.
        let script = format!(
            "cd $SLIPWAY_CHECKPOINT_DIR; echo from ${{SLIPWAY_RESTORED_STEP:-start}}; \
             if [ $SLIPWAY_ATTEMPT = 1 ]; then \
               mkdir 5.tmp; echo of $RANK > 5.tmp/shard-$RANK; mv 5.tmp 5; {}; \
               [ $RANK = 1 ] && exit 9; sleep 600; \
             fi; cat 5/shard-0 5/shard-1",
            gate.command()
        );
        let spec = job(json!({"checkpoint": {"sharded": true},
            "retries": {"limit": 1, "backoff_initial_ms": 100, "backoff_max_ms": 100}}));
        let id = world.submit(&script, spec, json!({"replicas": {"worker": 2}})).await;
        gate.filled(2).await;
        let saved = world.launcher.wait(&id, "a checkpoint", |job| job["checkpoint_step"] == 5).await;
        assert_eq!(saved["attempt"], 1);
        gate.open().await;
        let ended = world.launcher.ended(&id, "succeeded").await;
        assert_eq!((&ended["attempt"], &ended["failures"]), (&json!(2), &json!(1)), "{ended}");
        let first = &ended["attempts"][0];
        assert!(
            first["reason"].as_str().unwrap().starts_with("attempt 1, process 1: exit code 9"),
            "{ended}"
        );
        assert_eq!(first["exit_code"], 9, "{ended}");
        assert_eq!(ended["attempts"][1]["restored_step"], 5, "{ended}");
        for rank in 0..2 {
            let log = process_log(&world, &id, rank, 2).await;
            assert!(log.ends_with("from 5\nof 0\nof 1\n"), "process {rank} has both shards: {log}");
        }
        let checkpoint = world.launcher.get(&format!("/api/v1/jobs/{id}/checkpoints/5")).await;
        let files: Vec<&str> = checkpoint["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["path"].as_str().unwrap())
            .collect();
        assert_eq!(files, ["5/shard-0", "5/shard-1"], "{checkpoint}");
        nothing_is_left(&world, &id).await;
    });
}

#[test]
fn a_pod_that_is_lost_costs_no_retry_and_all_processes_start_again() {
    on_a_cluster(async |world| {
        let mut gate = Gate::begin().await;
        let script = format!(
            "trap 'echo stopped; exit 143' TERM; echo attempt $SLIPWAY_ATTEMPT; \
             if [ $SLIPWAY_ATTEMPT = 1 ]; then {}; sleep 600 & wait; fi",
            gate.command()
        );
        let id = world.submit(&script, job(json!({})), json!({"replicas": {"worker": 2}})).await;
        gate.filled(2).await;
        gate.open().await;
        let selector = format!("slipway.dev/job-id={id},batch.kubernetes.io/job-completion-index=1");
        world.kubectl(&["delete", "pods", "--selector", &selector, "--wait=false"]);
        let ended = world.launcher.ended(&id, "succeeded").await;
        assert_eq!(
            (&ended["attempt"], &ended["disruptions"], &ended["failures"]),
            (&json!(2), &json!(1), &json!(0)),
            "{ended}"
        );
        for rank in 0..2 {
            let log = process_log(&world, &id, rank, 1).await;
            assert!(log.contains("stopped\n"), "process {rank} had its grace period: {log}");
        }
        nothing_is_left(&world, &id).await;
    });
}

#[test]
fn two_jobs_that_do_not_fit_together_run_one_after_the_other() {
    on_a_cluster(async |world| {
        world.offer("example.com/chip", 3);
        let spec = || job(json!({"resources": {"cpus": 0.05, "gpus": 1}}));
        let replicas = json!({"replicas": {"worker": 2}, "gpu_resource": "example.com/chip"});
        let jobs = [
            world.submit("sleep 3", spec(), replicas.clone()).await,
            world.submit("sleep 3", spec(), replicas).await,
        ];
        for id in &jobs {
            let ended = world.launcher.ended(id, "succeeded").await;
            assert_eq!((&ended["failures"], &ended["disruptions"]), (&json!(0), &json!(0)), "{ended}");
        }
    });
}

#[test]
fn a_job_that_finds_nodes_for_a_part_of_its_processes_makes_room_for_others() {
    on_a_cluster(async |world| {
        world.offer("example.com/slot", 1);
        let spec = || job(json!({"resources": {"cpus": 0.05, "gpus": 1}}));
        let slots =
            |replicas: u32| json!({"replicas": {"worker": replicas}, "gpu_resource": "example.com/slot"});
        let large = world.submit("true", spec(), slots(2)).await;
        world.pending(&large, "1 of 2 processes wait").await;
        let small = world.submit("echo small", spec(), json!({"gpu_resource": "example.com/slot"})).await;
        world.launcher.ended(&small, "succeeded").await;
        let waiting = world.launcher.job(&large).await;
        assert_eq!((&waiting["failures"], &waiting["disruptions"]), (&json!(0), &json!(0)), "{waiting}");
        let first = waiting["attempts"][0]["reason"].as_str().unwrap();
        assert!(first.starts_with("attempt 1 made room for others"), "{waiting}");
        world.launcher.cancel(&large).await;
        world.launcher.ended(&large, "cancelled").await;
    });
}

#[test]
fn parameter_servers_end_with_those_that_train() {
    on_a_cluster(async |world| {
        let script = "case \"$TF_CONFIG\" in *'\"type\":\"ps\"'*) sleep 600;; *) echo trained;; esac";
        let replicas = json!({"replicas": {"chief": 1, "ps": 1}});
        let id = world.submit(script, job(json!({})), replicas).await;
        let ended = world.launcher.ended(&id, "succeeded").await;
        assert_eq!(ended["attempt"], 1, "{ended}");
        nothing_is_left(&world, &id).await;
    });
}

#[test]
fn a_distributed_job_outlives_its_launcher_and_is_cancelled_with_a_grace_period() {
    on_a_cluster(async |world| {
        let mut gate = Gate::begin().await;
        let script = format!("trap 'echo saved; exit 0' TERM; {}; sleep 600 & wait", gate.command());
        let id = world.submit(&script, job(json!({})), json!({"replicas": {"worker": 2}})).await;
        gate.filled(2).await;
        world.launcher.kill_launcher();
        world.launcher.start_launcher().await;
        gate.open().await;
        let running = world.launcher.job(&id).await;
        assert_eq!((&running["status"], &running["attempt"]), (&json!("running"), &json!(1)), "{running}");
        world.launcher.cancel(&id).await;
        world.launcher.ended(&id, "cancelled").await;
        for rank in 0..2 {
            let log = process_log(&world, &id, rank, 1).await;
            assert!(log.contains("saved\n"), "process {rank}: {log}");
        }
        nothing_is_left(&world, &id).await;
    });
}

/// Suspends a job, and returns the response to a request to resume it with this number of workers.
async fn resize(world: &World, job: &str, workers: u32) -> (u16, Value) {
    let path = |action: &str| format!("/api/v1/jobs/{job}/{action}");
    let suspended = world.launcher.request(Method::POST, &path("suspend"), String::new()).await;
    assert_eq!(suspended.status(), 200);
    world.launcher.wait(job, "suspended", |job| job["status"] == "suspended").await;
    let body = json!({"replicas": {"worker": workers}}).to_string();
    let resumed = world.launcher.request(Method::POST, &path("resume"), body).await;
    (resumed.status().as_u16(), resumed.json().await.unwrap())
}

#[test]
fn a_job_is_resumed_by_more_and_by_fewer_processes_where_it_says_that_its_checkpoints_can_be() {
    on_a_cluster(async |world| {
        // Each attempt reads all shards of a step and saves the next one.
        let script = "cd $SLIPWAY_CHECKPOINT_DIR; from=${SLIPWAY_RESTORED_STEP:-0}; next=$((from + 1)); \
             echo $RANK of $WORLD_SIZE from $from: $(cat $from/* 2> /dev/null); \
             mkdir $next.tmp; echo $RANK/$WORLD_SIZE > $next.tmp/shard-$RANK; mv $next.tmp $next; \
             [ $next = 3 ] && exit 0; sleep 600";
        let spec = |resharding: bool| job(json!({"checkpoint": {"sharded": true, "resharding": resharding}}));
        let id = world.submit(script, spec(true), json!({"replicas": {"worker": 2}})).await;
        for (step, workers) in [(1, 4), (2, 2)] {
            world.launcher.wait(&id, "a checkpoint", |job| job["checkpoint_step"] == step).await;
            let (status, resumed) = resize(&world, &id, workers).await;
            assert_eq!(status, 200, "{resumed}");
            assert_eq!(resumed["spec"]["kubernetes"]["replicas"]["worker"], workers, "{resumed}");
        }
        let ended = world.launcher.ended(&id, "succeeded").await;
        assert_eq!((&ended["attempt"], &ended["checkpoint_step"]), (&json!(3), &json!(3)), "{ended}");
        for (attempt, workers, read) in [(2, 4, "from 1: 0/2 1/2"), (3, 2, "from 2: 0/4 1/4 2/4 3/4")] {
            for rank in 0..workers {
                let log = process_log(&world, &id, rank, attempt).await;
                assert!(log.contains(&format!("\n{rank} of {workers} {read}\n")), "{log}");
            }
        }

        let id = world.submit(script, spec(false), json!({"replicas": {"worker": 2}})).await;
        let (status, refused) = resize(&world, &id, 4).await;
        assert_eq!(status, 400, "{refused}");
        let text = refused.to_string();
        assert!(text.contains("replicas") && text.contains("expected 2 processes that train"), "{text}");
        world.launcher.cancel(&id).await;
        nothing_is_left(&world, &id).await;
    });
}
