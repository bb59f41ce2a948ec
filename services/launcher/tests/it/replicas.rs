//! Several launchers, each in a process namespace of its own: none ends what another one started, agents live
//! on without the launcher that started them, and no two attempts of a job ever run at once.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::processes;
use crate::world::World;

/// Long enough that a busy machine renews it in time.
const LEASE_MS: u64 = 15_000;
/// The shortest one.
const SHORT_LEASE_MS: u64 = 9_000;

/// The namespace's first process, which lives on when the launcher is killed and ends with the test.
const INIT: &str = "\"$@\" & while :; do sleep 1; done";

/// Writes the time into a file of the attempt for as long as it runs, and a line into its log.
const BEATS: &str = "echo start $SLIPWAY_ATTEMPT; n=0; while [ ! -e $GATE ]; do \
    date +%s%N >> $BEATS.$SLIPWAY_ATTEMPT; n=$((n+1)); echo beat $n; sleep 0.05; done; echo finished";

/// Whether this machine lets tests make process namespaces.
fn can_unshare() -> bool {
    let made = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let can = made.is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: process namespaces need the right to make them (unshare --pid --mount-proc)");
    }
    can
}

/// A launcher in a process namespace of its own.
struct Replica {
    url: String,
    data_dir: PathBuf,
    namespace: Child,
    launcher: Pid,
}

impl Replica {
    async fn start(world: &World, name: &str) -> Self {
        let port = slipway_testkit::free_port().unwrap();
        let data_dir = world.data_dir.join(name);
        let within = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", INIT, "sh"];
        let namespace = world.command(&within, port, &data_dir).spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        world.ready(&url).await;
        let launcher = launcher_on(port);
        Self { url, data_dir, namespace, launcher }
    }

    fn signal(&self, signal: Signal) {
        kill(self.launcher, signal).unwrap();
    }

    async fn get(&self, path: &str) -> Value {
        let response = Client::new().get(format!("{}{path}", self.url)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    async fn log(&self, job: &str) -> String {
        let url = format!("{}/api/v1/jobs/{job}/logs", self.url);
        Client::new().get(url).send().await.unwrap().text().await.unwrap()
    }

    async fn job(&self, job: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{job}")).await
    }

    async fn submit(&self, world: &World, script: &str, cpus: u32) -> String {
        let file = |name: &str| world.data_dir.join(name);
        let body = json!({
            "name": "job", "command": ["sh", "-c", script], "resources": {"cpus": cpus},
            "grace_period_s": 0.3,
            "env": {"GATE": file("gate"), "BEATS": file("beats"), "STARTS": file("starts")},
            "retries": {"limit": 0, "backoff_initial_ms": 10, "backoff_max_ms": 10},
        });
        let response =
            Client::new().post(format!("{}/api/v1/jobs", self.url)).json(&body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        response.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    async fn wait(&self, world: &World, job: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        world
            .eventually(what, async || {
                let found = self.job(job).await;
                wanted(&found).then_some(found)
            })
            .await
    }

    async fn wait_for_log(&self, world: &World, job: &str, text: &str) {
        world.eventually(text, async || self.log(job).await.contains(text).then_some(())).await;
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // With the first process of the namespace all of it ends.
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.data_dir.join("launcher.log")).unwrap_or_default();
            eprintln!("--- {} ---\n{log}", self.data_dir.display());
        }
    }
}

/// The process that listens on a port, by its environment.
fn launcher_on(port: u16) -> Pid {
    let mark = format!("SLIPWAY_LISTEN=127.0.0.1:{port}");
    let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let is_it = program.file_name()? == "slipway-launcher"
            && environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes());
        is_it.then_some(Pid::from_raw(pid))
    });
    found.unwrap()
}

/// When the command of an attempt ran for the first and for the last time, Unix nanoseconds.
fn ran(world: &World, attempt: u32) -> (u128, u128) {
    let text = std::fs::read_to_string(world.data_dir.join(format!("beats.{attempt}"))).unwrap();
    // The last line may have been cut off.
    let beats: Vec<u128> =
        text.lines().filter(|line| line.len() >= 19).filter_map(|line| line.parse().ok()).collect();
    (*beats.first().unwrap(), *beats.last().unwrap())
}

fn open_gate(world: &World) {
    std::fs::write(world.data_dir.join("gate"), "").unwrap();
}

fn node(job: &Value) -> String {
    job["attempts"][0]["node"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn launchers_share_the_jobs_and_leave_those_of_others_alone() {
    if !can_unshare() {
        return;
    }
    let world = World::without_launcher(LEASE_MS).await;
    let (one, two) = (Replica::start(&world, "one").await, Replica::start(&world, "two").await);
    let both = || async {
        let capacity = one.get("/api/v1/capacity").await;
        (capacity["nodes"].as_array().unwrap().len() == 2).then_some(capacity)
    };
    let capacity = world.eventually("two nodes", both).await;
    assert_eq!(capacity["capacity"], json!({"cpus": 16.0, "memory_bytes": 16_000_000_000_u64, "gpus": 4}));
    let mut jobs = Vec::new();
    for number in 0..5 {
        let replica = if number % 2 == 0 { &one } else { &two };
        jobs.push(replica.submit(&world, "echo here; while [ ! -e $GATE ]; do sleep 0.05; done", 4).await);
    }
    for job in &jobs[..4] {
        two.wait_for_log(&world, job, "here").await;
    }
    let waiting = two.job(&jobs[4]).await;
    assert_eq!(
        waiting["waiting"]["reason"], "waits for 4 of 8 CPU cores, which other jobs use or wait for",
        "{waiting}"
    );
    // Many passes of both, which ended each other's jobs at once before attempts had owners.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut nodes = Vec::new();
    for job in &jobs[..4] {
        let (seen, also) = (one.job(job).await, two.job(job).await);
        assert_eq!((&seen["status"], &seen["attempt"]), (&json!("running"), &json!(1)), "{seen}");
        assert_eq!(node(&seen), node(&also));
        nodes.push(node(&seen));
    }
    nodes.sort();
    assert!(nodes[0] == nodes[1] && nodes[1] != nodes[2] && nodes[2] == nodes[3], "{nodes:?}");
    for node in two.get("/api/v1/capacity").await["nodes"].as_array().unwrap() {
        assert_eq!(node["used"]["cpus"], 8.0, "{node}");
    }
    open_gate(&world);
    for job in &jobs {
        let ended = one.wait(&world, job, "succeeded", |job| job["status"] == "succeeded").await;
        assert_eq!((&ended["attempt"], &ended["disruptions"]), (&json!(1), &json!(0)), "{ended}");
        assert_eq!((one.log(job).await, two.log(job).await), ("here\n".to_owned(), "here\n".to_owned()));
        assert_eq!(world.events(job, 3).await, ["submitted", "started", "succeeded"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_through_another_launcher_when_its_own_is_killed() {
    if !can_unshare() {
        return;
    }
    let world = World::without_launcher(LEASE_MS).await;
    let owner = Replica::start(&world, "owner").await;
    let job = owner.submit(&world, BEATS, 1).await;
    owner.wait_for_log(&world, &job, "beat 3\n").await;
    let other = Replica::start(&world, "other").await;
    // The agent hears of the other launcher with a heartbeat.
    tokio::time::sleep(Duration::from_secs(5)).await;
    owner.signal(Signal::SIGKILL);
    std::fs::remove_dir_all(owner.data_dir.join("logs")).unwrap();
    let (_, before) = ran(&world, 1);
    let seen = other.log(&job).await.lines().count();
    // Longer than the lease.
    tokio::time::sleep(Duration::from_millis(LEASE_MS + 5_000)).await;
    assert!(ran(&world, 1).1 > before);
    assert!(other.log(&job).await.lines().count() > seen + 50, "the log goes on");
    open_gate(&world);
    let ended = other.wait(&world, &job, "succeeded", |job| job["status"] == "succeeded").await;
    assert_eq!((&ended["attempt"], &ended["disruptions"]), (&json!(1), &json!(0)), "{ended}");
    assert_eq!(world.events(&job, 3).await, ["submitted", "started", "succeeded"], "recorded once");
    let log = other.log(&job).await;
    let beats = log.lines().filter(|line| line.starts_with("beat ")).count();
    let expected: String = (1..=beats).map(|number| format!("beat {number}\n")).collect();
    assert_eq!(log, format!("start 1\n{expected}finished\n"), "no line is lost and none comes twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_was_stopped_for_longer_than_a_lease_ends_nothing() {
    if !can_unshare() {
        return;
    }
    let world = World::without_launcher(LEASE_MS).await;
    let owner = Replica::start(&world, "owner").await;
    let other = Replica::start(&world, "other").await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        jobs.push(owner.submit(&world, "echo here; while [ ! -e $GATE ]; do sleep 0.05; done", 8).await);
    }
    for job in &jobs {
        other.wait_for_log(&world, job, "here").await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    owner.signal(Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_millis(LEASE_MS + 5_000)).await;
    owner.signal(Signal::SIGCONT);
    tokio::time::sleep(Duration::from_secs(3)).await;
    open_gate(&world);
    for job in &jobs {
        let ended = owner.wait(&world, job, "succeeded", |job| job["status"] == "succeeded").await;
        assert_eq!((&ended["attempt"], &ended["disruptions"]), (&json!(1), &json!(0)), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_any_launcher_ends_before_its_next_attempt_starts_elsewhere() {
    if !can_unshare() {
        return;
    }
    let world = World::without_launcher(SHORT_LEASE_MS).await;
    let owner = Replica::start(&world, "owner").await;
    // A child in a session of its own, which nobody else would end.
    let script = format!("setsid sh -c '{BEATS}' & wait");
    let job = owner.submit(&world, &script, 1).await;
    owner.wait_for_log(&world, &job, "beat 3\n").await;
    owner.signal(Signal::SIGKILL);
    world.wait_for_no_process(&job).await;
    let other = Replica::start(&world, "other").await;
    other.wait(&world, &job, "attempt 2", |job| job["attempt"] == 2).await;
    other.wait_for_log(&world, &job, "==> attempt 2 <==\nstart 2\nbeat 1\n").await;
    open_gate(&world);
    let ended = other.wait(&world, &job, "succeeded", |job| job["status"] == "succeeded").await;
    let reason = ended["attempts"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("its agent did not report"), "{reason}");
    let (first, second) = (ran(&world, 1), ran(&world, 2));
    assert!(first.1 < second.0, "the attempts overlapped: {first:?} and {second:?}");
}

/// An agent that is stopped can end nothing: its guard does, before another node may start the job.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_agent_started_ends_before_the_next_attempt_starts_elsewhere() {
    if !can_unshare() {
        return;
    }
    let world = World::without_launcher(SHORT_LEASE_MS).await;
    let owner = Replica::start(&world, "owner").await;
    let job = owner.submit(&world, BEATS, 1).await;
    owner.wait_for_log(&world, &job, "beat 3\n").await;
    let other = Replica::start(&world, "other").await;
    owner.signal(Signal::SIGKILL);
    processes::signal_agent(&job, Signal::SIGSTOP);
    let stopped = ran(&world, 1).1;
    other.wait(&world, &job, "attempt 2", |job| job["attempt"] == 2).await;
    other.wait_for_log(&world, &job, "==> attempt 2 <==\nstart 2\nbeat 1\n").await;
    open_gate(&world);
    other.wait(&world, &job, "succeeded", |job| job["status"] == "succeeded").await;
    let (first, second) = (ran(&world, 1), ran(&world, 2));
    assert!(first.1 > stopped, "the command goes on for a while");
    assert!(first.1 < second.0, "the attempts overlapped: {first:?} and {second:?}");
}
