//! CPU cores, memory and GPUs: what a job asks for is what it gets, when it is free.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_asks_for_more_than_there_is_fails_with_the_reason_and_never_runs() {
    let world = World::begin().await;
    let asked = [
        (json!({"cpus": 64}), "resources.cpus: requests 64 CPU cores, and this launcher has 8"),
        (json!({"gpus": 3}), "resources.gpus: requests 3, and this launcher has 2"),
        (
            json!({"memory_bytes": 10_000_000_000_000_u64}),
            "resources.memory_bytes: requests 10000000000000 bytes, and this launcher has 8000000000",
        ),
    ];
    for (resources, reason) in asked {
        let body = json!({"name": "large", "command": ["true"], "resources": resources});
        let (status, job) = world.try_submit(None, &body).await;
        assert_eq!((status, &job["status"]), (StatusCode::CREATED, &json!("failed")), "{job}");
        assert_eq!(job["reason"], reason);
        assert!(job["finished_at"].is_string(), "{job}");
        assert_eq!((&job["attempt"], &job["attempts"]), (&json!(0), &json!([])), "{job}");
        let id = job["id"].as_str().unwrap();
        assert_eq!(world.events(id, 2).await, ["submitted", "failed"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_share_the_machine_and_show_what_they_wait_for() {
    let world = World::begin().await;
    let gate = world.data_dir.join("gate");
    let script = "echo sees $CUDA_VISIBLE_DEVICES; while [ ! -e $GATE ]; do sleep 0.05; done";
    let with_gpu = json!({"env": {"GATE": gate}, "resources": {"cpus": 1, "gpus": 1}});
    let first = world.submit_script(script, with_gpu.clone()).await;
    let second = world.submit_script(script, with_gpu.clone()).await;
    world.wait_for_log(&first, "sees 4\n").await;
    world.wait_for_log(&second, "sees 7\n").await;
    let third = world.submit_script(script, with_gpu).await;
    let fifth = world.submit_script("echo no gpu: ${CUDA_VISIBLE_DEVICES-unset}.", json!({})).await;
    world.ended(&fifth, "succeeded").await;
    assert_eq!(world.log(&fifth, "").await, "no gpu: .\n", "it starts before one that needs what is taken");
    let fourth = world.submit_script("echo large", json!({"resources": {"cpus": 7}})).await;
    let waiting = |job: &Value| (job["waiting"]["position"].clone(), job["waiting"]["reason"].clone());
    assert_eq!(
        waiting(&world.job(&third).await),
        (json!(1), json!("waits for 1 of 2 GPUs, which other jobs use or wait for"))
    );
    assert_eq!(
        waiting(&world.job(&fourth).await),
        (json!(2), json!("waits for 7 of 8 CPU cores, which other jobs use or wait for"))
    );
    let listed = world.get("/api/v1/jobs?status=queued").await;
    assert_eq!(listed["jobs"][0]["waiting"]["position"], 2, "{listed}");
    let capacity = world.get("/api/v1/capacity").await;
    assert_eq!(capacity["capacity"], json!({"cpus": 8.0, "memory_bytes": 8_000_000_000_u64, "gpus": 2}));
    assert_eq!(capacity["used"], json!({"cpus": 2.0, "memory_bytes": 0, "gpus": 2}));
    assert_eq!((&capacity["running"], &capacity["waiting"]), (&json!(2), &json!(2)));
    std::fs::write(&gate, "").unwrap();
    for job in [&first, &second, &third, &fourth] {
        let ended = world.ended(job, "succeeded").await;
        assert_eq!(ended.get("waiting"), None, "{ended}");
    }
    assert!(["sees 4\n", "sees 7\n"].contains(&world.log(&third, "").await.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_stay_with_their_job_while_the_launcher_is_started_again() {
    let world = World::begin().await;
    let gate = world.data_dir.join("gate");
    let script = "echo sees $CUDA_VISIBLE_DEVICES; while [ ! -e $GATE ]; do sleep 0.05; done";
    let with_gpu = json!({"env": {"GATE": gate}, "resources": {"gpus": 1}});
    let first = world.submit_script(script, with_gpu.clone()).await;
    world.wait_for_log(&first, "sees 4\n").await;
    world.kill_launcher();
    world.start_launcher().await;
    let second = world.submit_script(script, with_gpu).await;
    world.wait_for_log(&second, "sees 7\n").await;
    std::fs::write(&gate, "").unwrap();
    for job in [&first, &second] {
        assert_eq!(world.ended(job, "succeeded").await["attempt"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_its_cores_and_its_number_of_threads() {
    let world = World::begin().await;
    let script = "grep Cpus_allowed_list /proc/self/status | cut -f2; echo $OMP_NUM_THREADS $MKL_NUM_THREADS";
    let one = world.submit_script(script, json!({"resources": {"cpus": 0.5}})).await;
    let all =
        world.submit_script(script, json!({"resources": {"cpus": 8}, "env": {"OMP_NUM_THREADS": "3"}})).await;
    let ended = world.ended(&one, "succeeded").await;
    world.ended(&all, "succeeded").await;
    let everything = std::fs::read_to_string("/proc/self/status").unwrap();
    let everything = everything.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap();
    let (first, threads) = (world.log(&one, "").await, "\n1 1\n");
    let cores = first.strip_suffix(threads).unwrap();
    if std::thread::available_parallelism().unwrap().get() > 1 {
        assert!(cores.parse::<u32>().is_ok(), "one core: {first}");
        assert_eq!(ended["attempts"][0]["cores"], json!([cores.parse::<u32>().unwrap()]));
    }
    assert_eq!(world.log(&all, "").await, format!("{everything}\n3 8\n"), "its own environment goes first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_uses_more_memory_than_it_asked_for_is_ended() {
    let world = World::begin().await;
    // In a child, which keeps it.
    let script = "python3 -c \"b = bytearray(300 << 20); b[::4096] = b'x' * len(b[::4096]); \
                  import time; time.sleep(300)\" & echo started; wait";
    let limit = json!({"resources": {"memory_bytes": 100_000_000}});
    let job = world.submit_script(script, limit).await;
    let ended = world.ended(&job, "failed").await;
    let reason = ended["reason"].as_str().unwrap();
    assert!(reason.starts_with("attempt 1: out of memory: its processes used "), "{reason}");
    assert!(reason.contains("more than the 100000000 of resources.memory_bytes"), "{reason}");
    assert!(world.log(&job, "").await.contains("out of memory: the command uses "));
    world.wait_for_no_process(&job).await;
}
