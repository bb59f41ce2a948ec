//! Facts about this machine.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use slipway_doctor::machine::Machine;

use crate::endpoints::Endpoints;
use crate::up::standard_ports;

pub(super) fn facts(data_dir: &Path) -> Machine {
    let gpu_devices = gpu_devices();
    Machine {
        disk: disk(data_dir),
        memory_bytes: memory_bytes(),
        processors: std::thread::available_parallelism().map_or(1, Into::into),
        running: Endpoints::path(data_dir).exists(),
        ports_in_use: ports_in_use(),
        python: python(),
        gpu_devices,
        gpu_driver: (gpu_devices > 0).then(has_driver),
    }
}

/// The nearest folder that exists, and its free space.
fn disk(data_dir: &Path) -> Option<(String, u64)> {
    let absolute = std::path::absolute(data_dir).ok()?;
    let folder = absolute.ancestors().find(|folder| folder.is_dir())?;
    let space = nix::sys::statvfs::statvfs(folder).ok()?;
    Some((folder.display().to_string(), space.blocks_available() * space.fragment_size()))
}

fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

/// Standard ports that no program can listen on.
fn ports_in_use() -> Vec<(String, u16)> {
    let used = standard_ports().filter(|(_, port)| TcpListener::bind(("127.0.0.1", *port)).is_err());
    used.map(|(title, port)| (title.to_owned(), port)).collect()
}

fn python() -> Option<String> {
    let output =
        Command::new("python3").arg("--version").output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn gpu_devices() -> usize {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let is_gpu = |name: &str| {
        name.strip_prefix("nvidia")
            .is_some_and(|number| !number.is_empty() && number.chars().all(|sign| sign.is_ascii_digit()))
    };
    entries.filter(|entry| is_gpu(&entry.file_name().to_string_lossy())).count()
}

/// Whether the loader knows the driver's library.
fn has_driver() -> bool {
    let listed = Command::new("ldconfig").arg("-p").output();
    listed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("libnvidia-ml.so.1"))
}
