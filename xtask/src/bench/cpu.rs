//! Processor time and memory of a process and all its descendants, from `/proc`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;

/// What a set of process trees has used.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// User and system time, children that have ended included.
    pub(super) cpu_seconds: f64,
    /// Proportional set size of those that live.
    pub(super) memory_bytes: f64,
    pub(super) processes: usize,
}

/// Usage of the processes `roots` and of everything that they started.
///
/// # Errors
/// `/proc` cannot be read.
pub(super) fn usage(roots: &[u32]) -> anyhow::Result<Usage> {
    let ticks_per_second =
        nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock rate")?;
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut ticks: BTreeMap<u32, u64> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Some((parent, used)) =
            std::fs::read_to_string(entry.path().join("stat")).ok().as_deref().and_then(stat)
        else {
            continue;
        };
        children.entry(parent).or_default().push(pid);
        ticks.insert(pid, used);
    }
    let (mut seen, mut open) = (BTreeSet::new(), roots.to_vec());
    let mut usage = Usage::default();
    while let Some(pid) = open.pop() {
        if !seen.insert(pid) {
            continue;
        }
        open.extend(children.get(&pid).into_iter().flatten());
        usage.cpu_seconds += ticks.get(&pid).copied().unwrap_or_default() as f64 / ticks_per_second as f64;
        usage.memory_bytes += super::proportional_bytes(pid).unwrap_or_default();
        usage.processes += 1;
    }
    Ok(usage)
}

/// Parent, and clock ticks used, of a line of `/proc/PID/stat` (proc_pid_stat(5): fields 4 and 14 to 17).
fn stat(line: &str) -> Option<(u32, u64)> {
    // The name, field 2, may hold spaces and parentheses.
    let fields: Vec<&str> = line.get(line.rfind(')')? + 2..)?.split(' ').collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some((fields.get(1)?.parse().ok()?, ticks))
}
