//! A training script that is killed at random points in every way that a cluster has: its weights are those
//! of an unbroken run, bit for bit.
//!
//! `SLIPWAY_TEST_KILLS=200` kills it more often, `SLIPWAY_TEST_SEED` at other points.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use slipway_kubernetes_testkit::{Archive, Cluster, Forward, Level};

use crate::processes;
use crate::world::{World, on_a_cluster};

const KILLS: &str = "SLIPWAY_TEST_KILLS";
const SEED: &str = "SLIPWAY_TEST_SEED";
const DEFAULT_KILLS: usize = 9;
const TRAINER: &str = include_str!("trainer.py");
const IMAGE: &str = "registry.local/trainer:1";
const STEPS: usize = 300;
/// What is left out of Python's library: the image is loaded faster.
const LEFT_OUT: [&str; 6] =
    ["test", "site-packages", "idlelib", "tkinter", "ensurepip", "config-3.11-x86_64-linux-gnu"];

#[derive(Debug, Clone, Copy)]
enum Kill {
    Pod,
    Eviction,
    Agent,
    Command,
    Launcher,
    Kubelet,
    Store,
    Postgres,
    Nats,
}

const KINDS: [Kill; 9] = [
    Kill::Pod,
    Kill::Eviction,
    Kill::Agent,
    Kill::Command,
    Kill::Launcher,
    Kill::Kubelet,
    Kill::Store,
    Kill::Postgres,
    Kill::Nats,
];

/// Xorshift (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % limit
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Folders of the interpreter and of its packages.
fn python_folders(python: &Path) -> (PathBuf, PathBuf) {
    let code = "import sys, numpy, os; print(sys.base_prefix); \
        print(os.path.dirname(os.path.dirname(numpy.__file__)))";
    let told = Command::new(python).args(["-c", code]).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told = String::from_utf8(told.stdout).unwrap();
    let mut lines = told.lines().map(PathBuf::from);
    (lines.next().unwrap(), lines.next().unwrap())
}

/// An image with Python and numpy of this machine, below `/opt/python`.
fn load_image(cluster: &Cluster, python: &Path) {
    let (prefix, packages) = python_folders(python);
    let mut image = Archive::new(IMAGE);
    image.base_files();
    let library = prefix.join("lib/python3.11");
    for entry in std::fs::read_dir(&library).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let target = format!("/opt/python/lib/python3.11/{name}");
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            image.folder(&target, &path).unwrap();
        } else if path.is_file() {
            image.file(&target, &path).unwrap();
        }
    }
    for name in ["numpy", "numpy.libs"] {
        let target = format!("/opt/python/lib/python3.11/site-packages/{name}");
        image.folder(&target, &packages.join(name)).unwrap();
    }
    image.file("/opt/python/bin/python3", &prefix.join("bin/python3.11")).unwrap();
    for entry in std::fs::read_dir(prefix.join("lib")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("libpython3.11") {
            image.file(&format!("/opt/python/lib/{name}"), &entry.path()).unwrap();
        }
    }
    image.shared_libraries().unwrap();
    cluster.load(&image).unwrap();
}

/// What an unbroken run prints at last.
fn unbroken(python: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new(python)
        .args(["-c", TRAINER])
        .env("STEPS", STEPS.to_string())
        .env("PAUSE_S", "0")
        .env("SLIPWAY_CHECKPOINT_DIR", folder.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().lines().last().unwrap().to_owned()
}

async fn submit(world: &World) -> String {
    let job = json!({
        "name": "train", "command": ["/opt/python/bin/python3", "train.py"], "files": {"train.py": TRAINER},
        "env": {"PYTHONHOME": "/opt/python", "LD_LIBRARY_PATH": "/opt/python/lib", "STEPS": STEPS.to_string(),
            "PAUSE_S": "0.02"},
        "checkpoint": {}, "grace_period_s": 2, "resources": {"cpus": 0.2},
        "retries": {"limit": 100, "disruption_limit": 10_000, "system_limit": 100, "backoff_initial_ms": 50,
            "backoff_max_ms": 50},
        "kubernetes": {"image": IMAGE},
    });
    world.launcher.submit(job).await
}

/// Kills something of a job; `false` where there was nothing of that kind.
async fn perform(world: &World, job: &str, kind: Kill, random: &mut Random) -> bool {
    let processes = || processes::of_job(job).into_iter();
    match kind {
        Kill::Pod => match world.objects(job, "pods").first() {
            Some(pod) => {
                world.try_kubectl(&["delete", pod, "--wait=false"]);
                true
            }
            None => false,
        },
        Kill::Eviction => match world.objects(job, "pods").first() {
            Some(pod) => {
                world.evict(pod.trim_start_matches("pod/"));
                true
            }
            None => false,
        },
        Kill::Agent => {
            processes().find(|of| of.is_agent).is_some_and(|of| kill(of.pid, Signal::SIGKILL).is_ok())
        }
        Kill::Command => {
            processes().find(|of| !of.is_agent).is_some_and(|of| kill(of.pid, Signal::SIGKILL).is_ok())
        }
        Kill::Launcher => {
            world.launcher.kill_launcher();
            tokio::time::sleep(Duration::from_millis(random.below(1_000))).await;
            world.launcher.start_launcher().await;
            true
        }
        Kill::Kubelet => {
            let cluster = Cluster::shared(Level::Node).unwrap();
            tokio::task::block_in_place(|| cluster.restart_kubelet().unwrap());
            true
        }
        Kill::Store => away(&world.s3, random).await,
        Kill::Postgres => away(&world.postgres, random).await,
        Kill::Nats => away(&world.nats, random).await,
    }
}

/// Makes a server unreachable for a while.
async fn away(server: &Forward, random: &mut Random) -> bool {
    server.set_open(false);
    tokio::time::sleep(Duration::from_millis(500 + random.below(2_000))).await;
    server.set_open(true);
    true
}

/// No attempt began before the one before it had ended, and each went on from a checkpoint of an earlier one.
fn assert_one_writer_at_a_time(job: &Value) {
    let attempts = job["attempts"].as_array().unwrap();
    for pair in attempts.windows(2) {
        let (ended, started) =
            (pair[0]["ended_at"].as_str().unwrap(), pair[1]["started_at"].as_str().unwrap());
        assert!(ended <= started, "{pair:#?}");
        let step = |attempt: &Value| attempt["restored_step"].as_u64().unwrap_or(0);
        // An attempt that did not get as far as that has restored nothing.
        assert!(step(&pair[1]) == 0 || step(&pair[0]) <= step(&pair[1]), "{pair:#?}");
    }
}

#[test]
fn weights_are_those_of_an_unbroken_run_whatever_is_killed_and_when() {
    on_a_cluster(async |world| {
        let python = slipway_testkit::python_with("numpy").expect("a Python environment: cargo xtask setup");
        let expected = unbroken(&python);
        load_image(Cluster::shared(Level::Node).unwrap(), &python);
        let wanted = setting(KILLS, DEFAULT_KILLS);
        let mut random = Random(u64::try_from(setting(SEED, 7)).unwrap() | 1);
        let (mut killed, mut jobs, mut attempts) = ([0; KINDS.len()], 0, 0);
        while killed.iter().sum::<usize>() < wanted {
            let job = submit(&world).await;
            jobs += 1;
            while killed.iter().sum::<usize>() < wanted {
                tokio::time::sleep(Duration::from_millis(random.below(3_500))).await;
                if world.launcher.job(&job).await["finished_at"].is_string() {
                    break;
                }
                let kind = usize::try_from(random.below(KINDS.len() as u64)).unwrap();
                killed[kind] += usize::from(perform(&world, &job, KINDS[kind], &mut random).await);
            }
            let ended = world.launcher.ended(&job, "succeeded").await;
            let last = ended["attempt"].as_u64().unwrap();
            attempts += last;
            assert_one_writer_at_a_time(&ended);
            let log = world.launcher.log(&job, &format!("attempt={last}")).await;
            // A checkpoint that could not be stored is reported after it.
            let last = log.lines().rfind(|line| !line.starts_with("[slipway]"));
            assert_eq!(last, Some(expected.as_str()), "{ended:#}\n{log}");
            world.launcher.wait_for_no_process(&job).await;
        }
        let counts: Vec<String> =
            KINDS.iter().zip(killed).map(|(kind, count)| format!("{kind:?} {count}")).collect();
        println!("{jobs} jobs, {attempts} attempts, killed: {}", counts.join(", "));
    });
}
