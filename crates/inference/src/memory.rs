//! Memory of this process: what it holds, and giving back what it keeps for nothing.

use crate::raw;

/// Physical memory that this process holds, in bytes; `None` where the system does not tell. It walks the
/// page tables, which takes milliseconds where there is much of it.
pub fn resident_bytes() -> Option<u64> {
    // proc_pid_smaps_rollup(5): `Rss: 1234 kB`. The figure of `status` is kept by processor and off by as
    // much as a small model takes.
    let exact = figure("/proc/self/smaps_rollup", "Rss:");
    exact.or_else(|| figure("/proc/self/status", "VmRSS:"))
}

fn figure(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let figure = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = figure.split_ascii_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Gives memory that the allocator keeps for later back to the system. It takes milliseconds where much was
/// freed: call it from a blocking thread.
pub fn give_back() {
    raw::trim();
}

/// Gives memory back when it is dropped: as the last field of what holds much of it.
#[derive(Debug, Default)]
pub(crate) struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_written_counts() {
        const BYTES: u64 = 64 * 1024 * 1024;
        let before = resident_bytes().unwrap();
        let held = vec![1_u8; usize::try_from(BYTES).unwrap()];
        let after = resident_bytes().unwrap();
        assert!(after >= before + BYTES / 2, "{before} {after}");
        assert_eq!(held[held.len() - 1], 1);
    }
}
