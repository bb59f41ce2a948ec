//! Several replicas divide the deployments: each record is read once, whoever of them hangs or dies.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use slipway_api::predictions::PredictionRecord;

use crate::data::{self, FEATURES, Rows};
use crate::world::{MOMENT, World};

const PARTITIONS: u64 = 64;
/// Two monitors each.
const DEPLOYMENTS: usize = 25;
const ROWS_PER_WINDOW: usize = 20;
const ROWS_PER_MESSAGE: usize = 5;
const ROUNDS_PER_WINDOW: usize = ROWS_PER_WINDOW / ROWS_PER_MESSAGE;

/// The service in a process of its own, which ends when dropped.
struct Replica {
    child: Child,
    url: String,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Replica {
    fn start(world: &World) -> Self {
        let port = slipway_testkit::free_port().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_slipway-drift-monitor"))
            .args(world.arguments(port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// A metric without labels; 0 where the replica does not answer.
    async fn metric(&self, name: &str) -> u64 {
        let Ok(answer) = reqwest::get(format!("{}/metrics", self.url)).await else { return 0 };
        let shown = answer.text().await.unwrap();
        let value = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    async fn partitions(&self) -> u64 {
        self.metric("slipway_partitions").await
    }

    /// Processor time so far, in seconds.
    fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields 14 and 15 of proc_pid_stat(5); the name, field 2, may hold spaces.
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap();
        ticks as f64 / per_second as f64
    }
}

/// Replicas that have divided all partitions among themselves; the last one answers the test's requests.
async fn replicas(world: &mut World, count: usize) -> Vec<Replica> {
    world.kill();
    let replicas: Vec<Replica> = (0..count).map(|_| Replica::start(world)).collect();
    world.url.clone_from(&replicas[count - 1].url);
    divided(world, &replicas.iter().collect::<Vec<_>>()).await;
    replicas
}

async fn divided(world: &World, replicas: &[&Replica]) {
    world
        .until("a part for each replica", async || {
            let mut parts = Vec::new();
            for replica in replicas {
                parts.push(replica.partitions().await);
            }
            (parts.iter().sum::<u64>() == PARTITIONS && parts.iter().all(|part| *part > 0)).then_some(())
        })
        .await;
}

/// Makes monitors of as many deployments, and waits until each has its baseline.
async fn monitors(world: &World, deployments: usize, monitors: usize, rows: usize) -> Vec<String> {
    world.peers.known().profiles.insert("1".into(), data::trained());
    let mut names = Vec::new();
    for deployment in (0..deployments).map(|number| format!("d{number}")) {
        world.peers.deploy_as(&deployment, "1");
        for number in 0..monitors {
            let name = format!("{deployment}-{number}");
            let window = json!({"rows": rows, "max_s": 3_600});
            world.monitor(json!({"name": name, "deployment": deployment, "window": window})).await;
            names.push(name);
        }
    }
    for name in &names {
        let watching = async || {
            let monitor = world.get(&format!("monitors/{name}")).await;
            (monitor["state"] == "watching").then_some(())
        };
        world.until("a baseline", watching).await;
    }
    names
}

/// Message `round` of a deployment. The n-th window has n rows that are far out: who loses or repeats a row
/// gets other windows.
fn message(deployment: usize, round: usize) -> PredictionRecord {
    let rows: Vec<[f64; FEATURES]> = (round * ROWS_PER_MESSAGE..(round + 1) * ROWS_PER_MESSAGE)
        .map(|row| {
            let is_out = row % ROWS_PER_WINDOW <= row / ROWS_PER_WINDOW;
            [row as f64 / 500.0 - 0.5, 0.1, if is_out { 99.0 } else { 0.0 }]
        })
        .collect();
    let mut record = data::record(&rows);
    record.deployment = format!("d{deployment}");
    record
}

async fn send(world: &World, rounds: std::ops::Range<usize>) {
    for round in rounds {
        world.publish((0..DEPLOYMENTS).map(|deployment| message(deployment, round)).collect()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Windows of a monitor: number, rows, and how many of these are far out.
async fn windows(world: &World, monitor: &str) -> Vec<(u64, u64, u64)> {
    let mut answer = world.get(&format!("monitors/{monitor}/windows?limit=1000")).await;
    let Value::Array(mut windows) = answer["windows"].take() else { return Vec::new() };
    windows.reverse();
    let of = |window: &Value| {
        let rows = window["rows"].as_u64().unwrap();
        let rate = window["scores"]["features"][2]["out_of_range_rate"].as_f64().unwrap();
        (window["sequence"].as_u64().unwrap(), rows, (rate * rows as f64).round() as u64)
    };
    windows.iter().map(of).collect()
}

/// Waits until all monitors have so many windows, and a moment more: each window is there once, and right.
async fn closed_once(world: &World, monitors: &[String], count: usize) {
    for monitor in monitors {
        let closed = async || (windows(world, monitor).await.len() >= count).then_some(());
        world.until("the windows of a monitor", closed).await;
    }
    tokio::time::sleep(MOMENT).await;
    let expected: Vec<(u64, u64, u64)> =
        (1..=count as u64).map(|number| (number, ROWS_PER_WINDOW as u64, number)).collect();
    for monitor in monitors {
        assert_eq!(windows(world, monitor).await, expected, "{monitor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_counted_once_while_replicas_die_hang_and_go_on() {
    let mut world = World::begin().await;
    let monitors = monitors(&world, DEPLOYMENTS, 2, ROWS_PER_WINDOW).await;
    let replicas = replicas(&mut world, 3).await;
    let [dying, hanging, staying] = &replicas[..] else { panic!("three replicas") };
    send(&world, 0..10).await;
    let mut parsed = dying.metric("slipway_drift_messages_total").await;
    dying.signal(Signal::SIGKILL);
    send(&world, 10..18).await;
    hanging.signal(Signal::SIGSTOP);
    send(&world, 18..24).await;
    // While it hangs: the other one has taken over its deployments.
    closed_once(&world, &monitors, 24 / ROUNDS_PER_WINDOW).await;
    assert_eq!(staying.partitions().await, PARTITIONS);
    hanging.signal(Signal::SIGCONT);
    send(&world, 24..26).await;
    divided(&world, &[hanging, staying]).await;
    send(&world, 26..32).await;
    closed_once(&world, &monitors, 32 / ROUNDS_PER_WINDOW).await;
    let windows = monitors.len() * 32 / ROUNDS_PER_WINDOW;
    let events = world.events("slipway.drift-monitor.window.closed", windows).await;
    assert_eq!(events.len(), windows);
    // A message is parsed once for all monitors in all replicas, except those of windows that were open when
    // a deployment passed on.
    parsed += hanging.metric("slipway_drift_messages_total").await;
    parsed += staying.metric("slipway_drift_messages_total").await;
    let sent = (DEPLOYMENTS * 32) as u64;
    let again = (3 * DEPLOYMENTS * ROUNDS_PER_WINDOW) as u64;
    println!("{parsed} messages parsed of {sent}");
    assert!((sent..=sent + again).contains(&(parsed + DEPLOYMENTS as u64)), "{parsed} of {sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_is_read_at_once_whichever_replica_made_it() {
    let mut world = World::begin().await;
    world.peers.known().profiles.insert("1".into(), data::trained());
    let replicas = replicas(&mut world, 3).await;
    let names: Vec<String> = (0..12).map(|number| format!("d{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        world.peers.deploy_as(name, "1");
        world.url.clone_from(&replicas[number % 3].url);
        let window = json!({"rows": ROWS_PER_WINDOW, "max_s": 3_600});
        world.monitor(json!({"name": name, "deployment": name, "window": window})).await;
        for round in 0..ROUNDS_PER_WINDOW {
            world.publish(vec![message(number, round)]).await;
        }
    }
    closed_once(&world, &names, 1).await;
    let mut readers = 0;
    for replica in &replicas {
        readers += u64::from(replica.metric("slipway_drift_messages_total").await > 0);
        let ready = reqwest::get(format!("{}/readyz", replica.url)).await.unwrap();
        assert!(ready.status().is_success());
    }
    assert!(readers >= 2, "the work is divided");
}

/// Messages per second of all deployments together, and for how long.
const RATE: u64 = 350;
const SECONDS: u64 = 20;
const MONITORS: usize = 50;

/// Processor time that each replica uses meanwhile, in per cent of a core.
async fn used(replicas: &[Replica], meanwhile: impl Future<Output = ()>) -> Vec<f64> {
    let before: Vec<f64> = replicas.iter().map(Replica::cpu_s).collect();
    let began = Instant::now();
    meanwhile.await;
    let seconds = began.elapsed().as_secs_f64();
    let used = |(replica, before): (&Replica, &f64)| (replica.cpu_s() - before) / seconds * 100.0;
    replicas.iter().zip(&before).map(used).collect()
}

/// Processor time of all replicas together, in per cent of a core.
async fn used_by(count: usize) -> f64 {
    let mut world = World::begin().await;
    monitors(&world, MONITORS, 1, 500).await;
    let replicas = replicas(&mut world, count).await;
    let pause = || tokio::time::sleep(Duration::from_secs(5));
    pause().await;
    let idle = used(&replicas, pause()).await;
    let mut rows = Rows::new(2);
    let began = Instant::now();
    let load = used(&replicas, async {
        for round in 0..10 * SECONDS {
            let messages = (0..RATE / 10).map(|number| {
                let mut record = data::record(&rows.take(1));
                record.deployment = format!("d{}", (round * RATE / 10 + number) as usize % MONITORS);
                world.publish(vec![record])
            });
            futures::future::join_all(messages.collect::<Vec<_>>()).await;
            let due = Duration::from_millis((round + 1) * 100);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
    })
    .await;
    let sent = RATE * SECONDS;
    let rate = sent as f64 / began.elapsed().as_secs_f64();
    let mut parsed = 0;
    for replica in &replicas {
        parsed += replica.metric("slipway_drift_messages_total").await;
    }
    let all: f64 = load.iter().sum();
    println!(
        "{count} replicas, {MONITORS} monitors: {:.1} % of a core idle; {all:.1} % ({load:.1?}) at {rate:.0} \
         messages per second, of which {parsed} of {sent} were parsed",
        idle.iter().sum::<f64>()
    );
    all
}

/// How long until the others have the partitions of a replica that got this signal.
async fn taken_over(signal: Signal) {
    let mut world = World::begin().await;
    let replicas = replicas(&mut world, 3).await;
    let began = Instant::now();
    replicas[0].signal(signal);
    divided(&world, &[&replicas[1], &replicas[2]]).await;
    println!("{signal}: taken over after {:.2} s", began.elapsed().as_secs_f64());
}

/// Run with `cargo test --release -p slipway-drift-monitor --test it replicas -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a check of behaviour"]
async fn what_replicas_cost_together() {
    for _ in 0..3 {
        taken_over(Signal::SIGKILL).await;
        taken_over(Signal::SIGSTOP).await;
    }
    let (one, three) = (used_by(1).await, used_by(3).await);
    println!("three replicas use {:.2} times the processor time of one", three / one);
}
