//! A platform on a data directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

/// Started by [`Platform::start`]; stopped when dropped, whatever the test's end.
pub(crate) struct Platform {
    folder: tempfile::TempDir,
}

impl Platform {
    /// Not running yet.
    pub(crate) fn new() -> Self {
        // Closed to others: servers that root starts as another account work nevertheless.
        Self { folder: tempfile::Builder::new().prefix("slipway-it-").tempdir().unwrap() }
    }

    /// On free ports, in the background, ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let platform = Self::new();
        platform.up(arguments);
        platform
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data dir")
    }

    pub(crate) fn up(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["up", "--ports", "auto", "--detach"];
        all.extend(arguments);
        self.slipway(&all).success()
    }

    /// Runs the program on this data directory.
    pub(crate) fn slipway(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().unwrap();
        Ended { output, logs: self.data_dir().join("logs") }
    }

    /// The program on this data directory, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
        command.args(arguments).arg("--data-dir").arg(self.data_dir());
        command
    }

    /// A file in the data directory with this document; answers with its path.
    pub(crate) fn file(&self, name: &str, document: &Value) -> String {
        let path = self.data_dir().join(name);
        std::fs::write(&path, document.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Its standard output as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        serde_json::from_slice(&self.slipway(&all).success().stdout).unwrap()
    }

    pub(crate) fn endpoint(&self, name: &str) -> String {
        self.endpoints()[name].as_str().unwrap_or_else(|| panic!("no endpoint {name}")).to_owned()
    }

    pub(crate) fn endpoints(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.data_dir().join("endpoints.json")).unwrap())
            .unwrap()
    }

    pub(crate) fn pid(&self, part: &str) -> i32 {
        i32::try_from(self.endpoints()["pids"][part].as_i64().unwrap_or_else(|| panic!("no process {part}")))
            .unwrap()
    }

    /// Ends a part as a crash would, and waits until the platform has started it again.
    pub(crate) fn crash(&self, part: &str) {
        let before = self.pid(part);
        kill(before);
        wait_for(&format!("{part} to come back"), || self.pid(part) != before);
    }

    /// Ends every process of the platform as a power cut would.
    pub(crate) fn crash_everything(&self) {
        let supervisor =
            std::fs::read_to_string(self.data_dir().join("lock")).unwrap().trim().parse().unwrap();
        let needle = self.data_dir().to_string_lossy().into_owned();
        let ours: Vec<i32> = processes().into_iter().filter(|pid| mentions(*pid, &needle)).collect();
        kill(supervisor);
        ours.into_iter().for_each(kill);
        wait_for("every process to end", || !processes().into_iter().any(|pid| mentions(pid, &needle)));
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = self.data_dir().join("logs");
            for entry in std::fs::read_dir(kept).into_iter().flatten().flatten() {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(25).collect();
                eprintln!("--- {}", entry.path().display());
                tail.into_iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        let _ = self.slipway(&["down"]);
    }
}

/// What a run of the program came to.
pub(crate) struct Ended {
    output: Output,
    logs: PathBuf,
}

impl Ended {
    pub(crate) fn success(self) -> Output {
        assert!(self.output.status.success(), "{}\nlogs: {}", self.text(), self.logs.display());
        self.output
    }

    /// What it said when it refused.
    pub(crate) fn refusal(self) -> String {
        assert!(!self.output.status.success(), "it was to refuse: {}", self.text());
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    pub(crate) fn text(&self) -> String {
        let (out, error) = (&self.output.stdout, &self.output.stderr);
        format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
    }
}

pub(crate) fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

fn processes() -> Vec<i32> {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            entry.file_name().to_str().filter(|name| **name != own).and_then(|name| name.parse().ok())
        })
        .collect()
}

/// Whether a process has the data directory in its command line or environment, and still runs.
fn mentions(pid: i32, needle: &str) -> bool {
    let root = Path::new("/proc").join(pid.to_string());
    let stat = std::fs::read_to_string(root.join("stat")).unwrap_or_default();
    if stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z')) {
        return false;
    }
    ["cmdline", "environ"].iter().any(|file| {
        let bytes = std::fs::read(root.join(file)).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited 60 s for {what} in vain");
}
